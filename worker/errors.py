"""The kinds of error that may cross a stage's boundary, named by what the worker must do next. Short: all import it."""


class WorkerError(Exception):
    """Root of every error this worker raises on purpose."""


class PoisonError(WorkerError):
    """The event can never succeed: dead-letter it with its reason.

    ``reason`` is a short, stable label (a metric label and a dead-letter header), e.g. ``invalid_json``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class TransientError(WorkerError):
    """Worth retrying; ``retry_after_s`` carries what the dependency asked for, if it did.

    The message may quote the dependency and name hosts: it goes to the log. ``code`` is what events say of it, short
    and stable, e.g. ``llm_timeout``; without one, the pipeline puts its stage's there.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.code = code


class RefusedError(TransientError):
    """The dependency is well and refuses this: done without as other failures, but waiting would not help."""


class ExpiredError(TransientError):
    """The query's deadline has passed while it waited: nobody waits for it any more, so it is not tried again."""


class FatalError(WorkerError):
    """The process cannot go on: exit non-zero with this one line; the orchestrator restarts it."""
