"""The outcome of one query event, made and not yet published: what passes from a job to its delivery."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from worker.errors import PoisonError

Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Publication:
    """An answer or a dead letter as a record. Holding it costs memory; publishing it twice costs a duplicate."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    on_acknowledged: Callable[[], None]
    """Called on the loop, once, when the outcome counts: the broker has it, or its transaction is committed."""
    if_refused: Callable[[PoisonError], "Publication"] | None = None
    """Makes what goes out instead where the topic never takes this record. None: there is nothing instead, so it is
    tried again until it is taken."""
