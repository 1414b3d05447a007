"""Pointers: the name that queries use may lead to another collection. So an index is swapped under running workers.

Chroma has no alias: what a name points to is metadata of the collection of that name, which one request changes.
Readers follow it, writers write what they name (docs/decisions/0024-pointer.md).
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from chromadb.api.models.Collection import Collection

TARGET_KEY = "points_to"
BEFORE_KEY = "points_back_to"
ALONE_KEY = "only_points"
KEYS = frozenset({TARGET_KEY, BEFORE_KEY, ALONE_KEY})
"""Metadata of a collection whose name points elsewhere, beside what it says of its own contents."""

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Pointer:
    """What a name says of where to read."""

    name: str
    target: str | None = None
    """None: it does not point, its own collection is read."""
    before: str | None = None
    """What was read before vectors of another model were: for workers that still embed with the former one."""
    alone: bool = False
    """The collection of that name was made to point and holds nothing."""

    @staticmethod
    def of(collection: Collection) -> "Pointer":
        """Return what a collection's name says."""
        metadata: Mapping[str, Any] = collection.metadata or {}
        return Pointer(
            collection.name, metadata.get(TARGET_KEY), metadata.get(BEFORE_KEY), bool(metadata.get(ALONE_KEY))
        )

    @property
    def current(self) -> str:
        """The collection to read."""
        return self.target or self.name

    @property
    def readable(self) -> Sequence[str]:
        """The collections that may be read, newest first: the first that the embedding model fits is."""
        names = [self.current, self.before, None if self.alone else self.name]
        return list(dict.fromkeys(filter(None, names)))

    @property
    def as_metadata(self) -> dict[str, str | bool]:
        """Itself, as a collection's metadata."""
        said = {TARGET_KEY: self.target, BEFORE_KEY: self.before, ALONE_KEY: self.alone}
        return {key: value for key, value in said.items() if value}


class Readings:
    """Which collection each name reads: told once when it changes, whichever of the searching threads sees it first."""

    def __init__(self, on_change: Callable[[str, str], None] = lambda _name, _reads: None) -> None:
        """``on_change`` is told the name and the collection that is read, on a thread that searches."""
        self._on_change = on_change
        self._lock = threading.Lock()
        self._told: dict[str, tuple[str, str | None]] = {}

    def note(self, name: str, reads: str, *, why_not: Exception | None = None) -> None:
        """Take note of what is read; ``why_not``: for what reason it is not what the name says."""
        told = reads, None if why_not is None else str(why_not)
        with self._lock:
            before = self._told.get(name)
            if told == before:
                return
            self._told[name] = told
        if why_not is not None:
            logger.warning("not reading what the collection points to", collection=name, reads=reads, reason=told[1])
        elif before is not None or reads != name:
            logger.info("following the collection's pointer", collection=name, reads=reads)
        self._on_change(name, reads)
