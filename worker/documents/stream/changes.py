"""What an event wants of a document, and what that takes where the document stands already. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from worker.documents.chunker import Chunk
from worker.documents.document import Document
from worker.documents.stored import HASH_KEY
from worker.documents.stream.marks import Mark

Outcome = Literal["written", "unchanged", "deleted", "absent", "superseded", "abandoned"]
Stored = Mapping[str, Mapping[str, Any]]
"""Metadata by the id of the chunk."""


@dataclass(slots=True, eq=False)
class Change:
    """One event's document as it is to stand, and whether anybody still wants it to."""

    id: str
    document: Document | None
    """None: not at all."""
    collection: str | None
    """Where it is to stand, by the name events use; None where ``document`` is."""
    mark: Mark
    abandoned: bool = False
    """Set on the loop: its partition has left, so nothing more may be written for it."""
    writing: bool = False
    """Set by the thread that writes, before it looks at ``abandoned``: who sets that must wait then."""

    @property
    def chars(self) -> int:
        """Characters of its text: what it weighs in a batch."""
        return 1 if self.document is None else 1 + len(self.document.text)

    def may_be_written(self) -> bool:
        """Whether it still may: to be asked last, on the thread that writes."""
        self.writing = True
        return not self.abandoned


def superseded(change: Change, held: Stored) -> bool:
    """Whether a later event of the document has left these chunks."""
    known = Mark.from_stored(held.get(change.id, {}))
    return known is not None and known.is_newer_than(change.mark)


@dataclass(slots=True)
class Plan:
    """What one change takes."""

    change: Change
    outcome: Outcome
    write: list[Chunk] = field(default_factory=list)
    remark: bool = False
    """The first chunk stays and gets the mark."""
    delete: list[str] = field(default_factory=list)
    stands: Sequence[Chunk] = ()
    """What the document then has, written now or before."""


def planned(change: Change, wanted: Sequence[Chunk], held: Stored) -> Plan:
    """Return what it takes to have these chunks of a document where those are."""
    ids = {chunk.id for chunk in wanted}
    write = [chunk for chunk in wanted if held.get(chunk.id, {}).get(HASH_KEY) != chunk.content_hash]
    delete = [chunk for chunk in held if chunk not in ids]
    if not wanted:
        return Plan(change, "deleted" if held else "absent", delete=delete)
    if not write and not delete:
        return Plan(change, "unchanged", stands=wanted)
    return Plan(change, "written", write, change.id not in {chunk.id for chunk in write}, delete, wanted)
