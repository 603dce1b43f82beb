"""What runs a deployed graph: one module per runtime behind one protocol, and the choice."""

from scgn.backends.backend import Backend, BackendError, Context, Engine
from scgn.backends.choice import BACKENDS, Choice, backend_named, choose

__all__ = [
    "BACKENDS", "Backend", "BackendError", "Choice", "Context", "Engine", "backend_named", "choose",
]  # fmt: skip
