"""Processes that are stopped and killed: `python victims.py camera|viewer|asker ...`.

camera ENDPOINT SERIES CLAIMS   films for ever; CLAIMS: a file with the index of its last frame
viewer FRAMES LATEST            receives for ever; a line of JSON at each heartbeat
asker FRAMES TIMES              subscribes so often without a pause, and reads nothing
"""

from __future__ import annotations

import itertools
import json
import signal
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos.frames import frame_of
from chaos.zmtp import frame, shake_hands
from scgn_client.messages import Heartbeat, PublishedFrame
from scgn_client.receiver import FrameReceiver, LatestReceiver
from scgn_client.sender import FrameSender

VICTIM = "victim"
PACE_S = 0.002


def camera(endpoint: str, series: str, claims: str) -> None:
    """Send frames until killed, each noted before it is handed over."""
    with (
        Path(claims).open("r+b", buffering=0) as noted,
        FrameSender(endpoint, VICTIM, series) as sender,
    ):
        for index in itertools.count():
            noted.seek(0)
            noted.write(struct.pack("<q", index))
            sender.send(frame_of(VICTIM, series, index))
            time.sleep(PACE_S)


def viewer(frames: str, latest: str) -> None:
    """Receive every frame, and say at each heartbeat what came and what did not."""
    seen: dict[str, list[int]] = {}
    with LatestReceiver(latest), FrameReceiver(frames, queue=2, timeout_s=60) as every:
        while True:
            message = every.receive()
            if isinstance(message, PublishedFrame):
                seen.setdefault(message.series, []).append(message.frame)
            elif isinstance(message, Heartbeat):
                print(json.dumps(_said(every, seen)), flush=True)


def asker(endpoint: str, times: str) -> None:
    """Subscribe to what there is and what there is not, then stay until killed."""
    topics = [b"", b"f", b"film", b"cam", *(struct.pack("<H", number) for number in range(1000))]
    asking = b"".join(frame(b"\x01" + topic) for topic in topics)
    with shake_hands(int(endpoint.rpartition(":")[2]), b"SUB", 3600) as peer:
        peer.sendall(frame(b"") + frame(b"hello"))  # no subscriptions, and no harm
        for _ in range(int(times) // len(topics)):
            peer.sendall(asking)
        signal.pause()


def _said(every: FrameReceiver, seen: dict[str, list[int]]) -> dict[str, dict[str, int]]:
    """By series: frames received, in gaps, out of order; the first index and the last known."""
    said = {}
    for series, indices in seen.items():
        gaps = [gap for gap in every.gaps() if gap.series == series]
        said[series] = {
            "received": len(indices), "first": indices[0],
            "last": max(indices[-1], *(gap.last for gap in gaps), 0),
            "in_gaps": sum(gap.last - gap.first + 1 for gap in gaps),
            "unseen": sum(gap.unseen for gap in gaps),
            "disorder": sum(b <= a for a, b in itertools.pairwise(indices)),
        }  # fmt: skip
    return said


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    if what == "camera":
        camera(*words)
    elif what == "viewer":
        viewer(*words)
    else:
        asker(*words)
