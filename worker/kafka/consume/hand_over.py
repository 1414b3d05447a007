"""How the consumer's thread has the loop called: in the order things happened, and with no error swallowed."""

import asyncio
import threading
from collections.abc import Callable

import structlog

from worker.errors import FatalError

logger = structlog.get_logger()

# One batch at a time crosses to the loop, so that a pause decided there takes effect before the next poll. A loop
# that is busy for longer than this gets the next batch all the same: polling must go on.
HANDOVER_TIMEOUT_S = 10.0


class LoopCalls:
    """Built on the loop's thread, used on the consumer's."""

    def __init__(self, on_fatal: Callable[[FatalError], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_fatal = on_fatal

    def tell(self, method: Callable[..., object], *args: object) -> None:
        """Have a method called on the loop; whatever it raises is fatal."""
        self._loop.call_soon_threadsafe(self._call, method, *args)

    def hand_over(self, take: Callable[[], None]) -> None:
        """Do as ``tell``, and return when it has been called or ``HANDOVER_TIMEOUT_S`` have passed."""
        taken = threading.Event()

        def called() -> None:
            try:
                take()
            finally:
                taken.set()

        self.tell(called)
        if not taken.wait(HANDOVER_TIMEOUT_S):
            logger.warning("the loop is busy: a batch was not taken in time", seconds=HANDOVER_TIMEOUT_S)

    def _call(self, method: Callable[..., object], *args: object) -> None:
        # Left to asyncio, an error would be logged, and what was handed over lost while later offsets are committed.
        try:
            method(*args)
        except Exception as error:
            logger.exception("internal error")
            self._on_fatal(FatalError(f"what Kafka's thread handed over was not taken: {error!r}"))
