"""One bad item must not cost the others of its batch: a call that failed is made again with fewer items.

But only where an item can be to blame: what a function raises as one of the worker's own errors is the batch's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic

from worker.domain import Item, Result
from worker.errors import WorkerError

# Finds two items that break a batch of 1,024; a function that fails for all is not called a thousand times.
MAX_RERUNS = 40


@dataclass(frozen=True, slots=True)
class BatchOutcome(Generic[Result]):
    """What became of a batch, and which of its parts the memory was too short for."""

    results: Sequence[Result | Exception]
    """One per item, in order."""
    fitted: list[range] = field(default_factory=list)
    """Parts that ran, as positions of their items."""
    did_not_fit: list[range] = field(default_factory=list)
    """Parts that ran out of memory although none of their items does so alone: together they were too many."""


def bisect_failing(
    run: Callable[[Sequence[Item]], Sequence[Result | Exception]],
    items: Sequence[Item],
    error: Exception,
    *,
    out_of_memory: Callable[[Exception], bool] = lambda _: False,
) -> BatchOutcome[Result]:
    """Halve the items that ``run`` failed for with ``error`` until those that break it are alone with their error.

    A WorkerError concerns the whole batch (an outage, a lost device) and is no item's fault: nothing is run again, and
    what has not run by then fails with it. After ``MAX_RERUNS`` calls the rest fails with the last error: then it is no
    item's fault. ``out_of_memory`` tells the errors at which fewer items may fit: once some did, the others are tried
    to the last.
    """
    results: list[Result | Exception] = [error] * len(items)
    fitted: list[range] = []
    did_not_fit: list[range] = []
    reruns = 0

    def halves(part: range, error: Exception) -> list[range]:
        """Return the halves of a part that failed, the first one last; none if it is given up."""
        too_large = out_of_memory(error)
        if too_large:
            did_not_fit.append(part)
        if len(part) == 1 or (reruns > MAX_RERUNS and not (too_large and fitted)):
            results[part.start : part.stop] = [error] * len(part)
            return []
        middle = part.start + len(part) // 2
        return [range(middle, part.stop), range(part.start, middle)]

    parts = [] if isinstance(error, WorkerError) else halves(range(len(items)), error)
    while parts:
        part = parts.pop()
        reruns += 1
        try:
            results[part.start : part.stop] = run(items[part.start : part.stop])
        except WorkerError as failure:
            for left in (part, *parts):
                results[left.start : left.stop] = [failure] * len(left)
            break
        except Exception as failure:  # noqa: BLE001 - handed to the callers, item by item
            parts += halves(part, failure)
        else:
            fitted.append(part)
    hopeless = {part.start for part in did_not_fit if len(part) == 1}
    return BatchOutcome(results, fitted, [part for part in did_not_fit if hopeless.isdisjoint(part)])
