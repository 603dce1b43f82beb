"""What OpenVINO does to its process: signals still arrive, and nothing is reported to anybody.

OpenVINO's CPU plugin changes the stack on which a thread's signals are handled. Seen in a process
of its own, because the wrong end is the process' end.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import faulthandler, gc, os, signal, sys, threading
sys.path[:0] = ["models", "tests"]
faulthandler.enable()  # gives the main thread a stack for signals, as test runners do
told = []
signal.signal(signal.SIGUSR1, lambda *_: told.append(True))
import torch
from networks import shaken
from scgn.architectures import build_network
from scgn.backends import BACKENDS
from scgn.checkpoint import checkpoint_of, describe
from scgn.deploy import DeployRecipe, deploy
from scgn.sizes import Design, Size

network = shaken(build_network(Design("student4", Size(8, 1), "none")), seed=0)
graph = deploy(checkpoint_of(network, describe(network, "small")), DeployRecipe((16, 16)))
backend, cpu = BACKENDS["openvino"], torch.device("cpu")
engines = [backend.load(backend.build(graph, lambda _: None), graph, cpu, 1)]

def drop():
    engines.clear()
    gc.collect()

thread = threading.Thread(target=drop)
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGUSR1)
print("told" if told else "not told")
"""


def test_openvino_reports_to_nobody() -> None:
    pytest.importorskip("openvino")
    script = """
import sys
sys.path[:0] = ["models"]
from scgn.backends import BACKENDS
import socket
def nobody(*asked, **_):
    sys.exit(f"asked for {asked}")
socket.getaddrinfo = socket.socket.connect = nobody
BACKENDS["openvino"].runtime()
print(sys.modules["openvino_telemetry"])
"""
    command = [sys.executable, "-W", "ignore", "-c", script]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert (ended.returncode, ended.stdout.strip()) == (0, "None"), ended.stderr[-2000:]


def test_signal_is_taken_after_another_thread_dropped_the_last_engine() -> None:
    pytest.importorskip("openvino")
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert (ended.returncode, ended.stdout.split()[-1:]) == (0, ["told"]), ended.stderr[-2000:]
