"""One bad item must not cost the others of its batch: a call that fails is made again with fewer items."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# Finds two items that break a batch of 1,024; a function that fails for all is not called a thousand times.
MAX_RERUNS = 40


@dataclass(frozen=True, slots=True)
class Isolated(Generic[Result]):
    """What became of a batch, and which of its parts the memory was too short for."""

    results: list[Result | Exception]
    """One per item, in order."""
    fitted: list[range] = field(default_factory=list)
    """Parts that ran, as positions of their items."""
    did_not_fit: list[range] = field(default_factory=list)
    """Parts that ran out of memory although none of their items does so alone: together they were too many."""


def run_isolating(
    run: Callable[[Sequence[Item]], Sequence[Result | Exception]],
    items: Sequence[Item],
    *,
    out_of_memory: Callable[[Exception], bool] = lambda _: False,
) -> Isolated[Result]:
    """Call ``run``; where it raises, halve the items until those that break it are alone with their error.

    After ``MAX_RERUNS`` further calls the rest fails with the last error: then it is not the items' fault.
    ``out_of_memory`` tells the errors at which fewer items may fit: once some did, the others are tried to the last.
    """
    results: list[Result | Exception] = [RuntimeError("not run")] * len(items)
    fitted: list[range] = []
    did_not_fit: list[range] = []
    parts = [range(len(items))]
    calls = 0
    while parts:
        part = parts.pop()
        try:
            calls += 1
            outcome: Sequence[Result | Exception] = run(items[part.start : part.stop])
            if len(outcome) != len(part):
                raise RuntimeError(f"{len(part)} items gave {len(outcome)} results")  # noqa: TRY301
            fitted.append(part)
        except Exception as error:  # noqa: BLE001 - handed to the callers, item by item
            too_large = out_of_memory(error)
            if too_large:
                did_not_fit.append(part)
            if len(part) > 1 and (calls <= MAX_RERUNS or (too_large and fitted)):
                middle = part.start + len(part) // 2
                parts += [range(middle, part.stop), range(part.start, middle)]
                continue
            outcome = [error] * len(part)
        results[part.start : part.stop] = outcome
    hopeless = {part.start for part in did_not_fit if len(part) == 1}
    return Isolated(results, fitted, [part for part in did_not_fit if hopeless.isdisjoint(part)])
