"""Flags of `python -m tests.fuzz`."""

from __future__ import annotations

import os
import sys

# One thread: children are forked, and each has limits of processor time.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

from .command import main

sys.exit(main())
