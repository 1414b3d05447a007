"""The one thread on which this process's models are loaded and compute.

An OpenMP team belongs to the thread that starts it. Where the teams of a process have more threads than there are
cores, GNU's runtime, which torch uses on Linux, lets a team's threads sleep between two operations instead of spinning
(libgomp, ``gomp_managed_threads`` in team.c). On two cores a scorer that was loaded on one thread and run on another
slept some 500 times a forward pass instead of never, and was 1 to 8 % slower on a quiet machine, up to 20 % on a busy
one. A thread that has ended takes its team along.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from worker.batching.executor import OneThread

CLOSE_TIMEOUT_S = 30.0


@asynccontextmanager
async def computing_thread() -> AsyncIterator[OneThread]:
    """Own such a thread; at the end a call that hangs is left behind in time."""
    thread = OneThread("compute")
    try:
        yield thread
    finally:
        await thread.aclose(CLOSE_TIMEOUT_S)
