"""An operator who never stops: posts the references of a folder again and again, with the client.

Prints how long each upload took, s.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from scgn_client.admin import Admin


def main(url: str, folder: Path) -> None:
    """Post until ended."""
    admin = Admin(url)
    dark, gain, mask = (folder / f"{name}.npy" for name in ("dark", "gain", "mask"))
    while True:
        begun = time.monotonic()
        admin.post_calibration(dark, gain, mask, "multiply", activate=False)
        print(f"{time.monotonic() - begun:.3f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
