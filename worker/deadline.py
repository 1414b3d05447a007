"""A query's deadline, from the calendar's clock to the one that timers run on."""

import asyncio

from worker.types import Query


def on_loop_clock(query: Query, *, unix_now_s: float) -> float | None:
    """Return the query's deadline on the running loop's clock; None if it has none.

    What is left is measured once: should the calendar's clock jump later, the wait does not.
    """
    if query.deadline_s is None:
        return None
    return asyncio.get_running_loop().time() + query.deadline_s - unix_now_s
