"""How a micro-batch knows whose jobs it holds without knowing what a trace is; short, for both sides import it."""

from collections.abc import Hashable
from contextvars import ContextVar

MARK: ContextVar[Hashable] = ContextVar("mark", default=None)
"""What the job that is being submitted is to be named by in the report of its batch; None: not at all."""
