"""A query's deadline, from the calendar's clock to the one that timers run on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from worker.domain import Query
from worker.errors import ExpiredError


def on_loop_clock(query: Query, *, unix_now_s: float) -> float | None:
    """Return the query's deadline on the running loop's clock; None if it has none.

    What is left is measured once: should the calendar's clock jump later, the wait does not.
    """
    if query.deadline_s is None:
        return None
    return asyncio.get_running_loop().time() + query.deadline_s - unix_now_s


@asynccontextmanager
async def expiring(deadline_s: float | None, stage: str) -> AsyncIterator[None]:
    """Cancel what is inside at a deadline of the loop's clock and raise ExpiredError; None: never."""
    try:
        async with asyncio.timeout_at(deadline_s) as waiting:
            yield
    except TimeoutError as error:
        if not waiting.expired():
            raise
        raise ExpiredError(f"the deadline passed in {stage}") from error
