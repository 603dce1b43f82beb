"""Engines that tests build go to a folder of their own, one for the whole run."""

from __future__ import annotations

import os
import tempfile

_FOLDER = tempfile.TemporaryDirectory(prefix="scgn-test-cache-")
os.environ["XDG_CACHE_HOME"] = _FOLDER.name  # before the settings' default is taken from it
