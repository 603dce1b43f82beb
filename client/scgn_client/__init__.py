"""Light client of scgn-live: send camera frames, receive denoised ones; no torch."""

from scgn_client.errors import (
    ClientError,
    FileFormatError,
    KeyFileError,
    ReceiveTimeout,
    SendTimeout,
    ServiceError,
    WireError,
)
from scgn_client.keys import ClientKeys, client_keys
from scgn_client.messages import End, FrameHeader, Heartbeat, PublishedFrame, Start
from scgn_client.receiver import FrameReceiver, Gap, LatestReceiver
from scgn_client.sender import FrameSender

__all__ = [
    "ClientError",
    "ClientKeys",
    "End",
    "FileFormatError",
    "FrameHeader",
    "FrameReceiver",
    "FrameSender",
    "Gap",
    "Heartbeat",
    "KeyFileError",
    "LatestReceiver",
    "PublishedFrame",
    "ReceiveTimeout",
    "SendTimeout",
    "ServiceError",
    "Start",
    "WireError",
    "client_keys",
]
