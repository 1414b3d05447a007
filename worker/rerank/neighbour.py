"""A neighbour: another process that never rests, beside which a scorer shows what it is worth on a shared machine.

Threads that wait for one another at every product lose more than their share to it, and how much more depends on how
they wait; a quiet machine tells nothing of that. Short: it only spins.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from worker.errors import FatalError

# It ends with its owner, however that one ends.
SPIN = """
import os, sys
owner = int(sys.argv[1])
print("busy", flush=True)
while os.getppid() == owner:
    sum(range(100_000))
"""


@contextmanager
def busy_neighbour() -> Iterator[None]:
    """Keep one core busy meanwhile, by a process that may run on any; blocks until it computes, some 50 ms.

    FatalError if it can't be started.
    """
    command = [sys.executable, "-I", "-S", "-c", SPIN, str(os.getpid())]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603 - our own command
        try:
            if process.stdout is None or not process.stdout.readline():
                raise FatalError("a busy process to measure beside can't be started")
            yield
        finally:
            process.kill()
