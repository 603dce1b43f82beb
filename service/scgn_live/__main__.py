"""Command line of the service: `scgn-live serve | check | demo | keys`."""

from __future__ import annotations

import sys
from pathlib import Path

from scgn_live.config import load_settings
from scgn_live.keys import keys_command
from scgn_live.serve import ROLES, run_role, serve_command
from scgn_live.settings import SettingsError

USAGE = """usage: scgn-live serve [--config FILE] [flags]   run the service (see serve --help)
       scgn-live check [--config FILE] [flags]   show the settings that serve would use
       scgn-live demo  [flags]                   service, simulated camera, proof (see demo --help)
       scgn-live keys  FOLDER [flags]            CURVE keys of the service, its cameras and viewers
"""


def check_command(flags: list[str]) -> int:
    """Print the settings that hold, or what is wrong with them."""
    settings = load_settings(flags, prog="scgn-live check")
    settings.token()
    print(settings.model_dump_json(indent=2))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    verb, *rest = (sys.argv[1:] if argv is None else argv) or [""]
    try:
        if verb == "serve":
            return serve_command(rest)
        if verb == "check":
            return check_command(rest)
        if verb == "keys":
            return keys_command(rest)
        if verb == "demo":
            from scgn_live.demo import demo_command

            return demo_command(rest)
        if verb.removeprefix("_") in ROLES:
            return run_role(verb.removeprefix("_"), Path(rest[0]))
    except SettingsError as error:
        print(f"scgn-live: {error}", file=sys.stderr)
        return 2
    print(USAGE, file=sys.stderr if verb not in ("-h", "--help") else sys.stdout, end="")
    return 0 if verb in ("-h", "--help") else 2


if __name__ == "__main__":
    raise SystemExit(main())
