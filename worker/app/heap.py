"""What the garbage collector need not look at. Short: one thought of its own, which is no part of running.

Python's collector walks through everything that lives whenever a quarter as much has survived since, and a process
that has loaded torch and its models holds a million objects that stay until its end. Of 650 µs that the loop took a
query at 400 queries/s, 150 were that (benchmarks/host_path.py). Objects without cycles, which is what a query leaves,
go at once whatever the collector does.
"""

import gc

YOUNG_OBJECTS = 50_000
"""So many more that hold others than went make it look for cycles among them: not the thousands of queries in work."""


def settle_heap() -> None:
    """Leave what lives now to the end of the process, and look less often for cycles; once, when all is loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
