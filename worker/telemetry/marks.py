"""How a micro-batch knows whose jobs it holds without knowing what a trace is; short, for both sides import it."""

from contextvars import ContextVar

MARK: ContextVar[object] = ContextVar("mark", default=None)
"""What the job that is being submitted is to be named by in the report of its batch; None: not at all."""
