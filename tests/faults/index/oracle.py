"""The oracle of the live index: told what stands in the topic, in the collection and among the dead letters.

It knows nothing of marks, lanes and leases. Each key's last event says how its document is to stand.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.faults.index.edits import REASON
from tests.faults.index.fake_embedder import FakeEmbedder, new_chunker
from worker.documents.document import Document
from worker.recall.chroma_collections import PRIVATE_PREFIX
from worker.recall.embedder import Vectors

Place = tuple[int, int]
"""Partition and offset of an event."""


@dataclass(frozen=True, slots=True)
class Written:
    """A record of the documents topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Held:
    """A chunk of the collection."""

    text: str
    metadata: Mapping[str, Any]
    vector: Vectors


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the oracle found. The lists are of ids and places, and empty where all is well."""

    events: int
    documents: int
    """That are to be there."""
    chunks: int
    """That are there."""
    missing: list[str]
    """Chunks of last states that are not there."""
    other_state: list[str]
    """Chunks that have text or metadata of another state than the last."""
    left_over: list[str]
    """Chunks of former states or of deleted documents."""
    doubled: list[str]
    """Chunks whose text another chunk has too."""
    wrong_vector: list[str]
    """Chunks found by a text that is not theirs."""
    not_dead_lettered: list[Place]
    """Poison that is not among the dead letters."""
    mistaken: list[tuple[Place, str]]
    """Dead letters of what is none, or with another reason."""
    poison: "Counter[str]"
    """Events that were to be dead-lettered, by reason."""
    repeats: int
    """Dead letters beyond the first of their event."""

    @property
    def wrong(self) -> list[str]:
        """What is not as promised, a line each."""
        found: dict[str, Sequence[object]] = {
            "missing": self.missing,
            "of another state than the last": self.other_state,
            "left over": self.left_over,
            "doubled": self.doubled,
            "with another text's vector": self.wrong_vector,
            "not dead-lettered": self.not_dead_lettered,
            "dead letters of another reason or of no poison": self.mistaken,
        }
        return [f"{len(those)} {what}: {those[:5]} ..." for what, those in found.items() if those]

    @property
    def described(self) -> dict[str, Any]:
        """Itself in numbers, for a report."""
        return {
            "events": self.events,
            "documents": self.documents,
            "chunks": self.chunks,
            "missing": len(self.missing),
            "other_state": len(self.other_state),
            "left_over": len(self.left_over),
            "doubled": len(self.doubled),
            "wrong_vector": len(self.wrong_vector),
            "poison": dict(sorted(self.poison.items())),
            "not_dead_lettered": len(self.not_dead_lettered),
            "dead_lettered_by_mistake": len(self.mistaken),
            "dead_letter_repeats": self.repeats,
        }


def judge(
    topic: Iterable[Written], collection: Mapping[str, Held], letters: Sequence[tuple[Place, str]], *, source: str
) -> Verdict:
    """Compare. ``letters``: place and reason of each dead letter; ``source``: what the index's documents belong to."""
    events = sorted(topic, key=lambda event: (event.partition, event.offset))
    poison = {(each.partition, each.offset): each.headers[REASON].decode() for each in events if REASON in each.headers}
    last = {
        event.key.decode(): event.value
        for event in events
        if event.key is not None and (event.partition, event.offset) not in poison
    }
    wanted = {
        chunk.id: chunk
        for key, value in last.items()
        if (document := _document(key, value, source)) is not None
        for chunk in CHUNKER.chunks(document)
    }
    texts = Counter(held.text for held in collection.values())
    told = dict(letters)
    return Verdict(
        events=len(events),
        documents=sum("#" not in chunk for chunk in wanted),
        chunks=len(collection),
        missing=sorted(wanted.keys() - collection.keys()),
        other_state=sorted(
            chunk.id
            for chunk in wanted.values()
            if chunk.id in collection
            and (chunk.text, chunk.metadata) != (collection[chunk.id].text, _public(collection[chunk.id].metadata))
        ),
        left_over=sorted(collection.keys() - wanted.keys()),
        doubled=sorted(chunk for chunk, held in collection.items() if texts[held.text] > 1),
        wrong_vector=_wrong_vectors(collection),
        not_dead_lettered=sorted(poison.keys() - told.keys()),
        mistaken=sorted({(place, reason) for place, reason in letters if poison.get(place) != reason}),
        poison=Counter(poison.values()),
        repeats=len(letters) - len(told),
    )


CHUNKER = new_chunker()


def _document(key: str, value: bytes | None, source: str) -> Document | None:
    said = {} if value is None else json.loads(value)
    return Document(key, said["text"], source, "", said["metadata"]) if "text" in said else None


def _public(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metadata.items() if not name.startswith(PRIVATE_PREFIX)}


def _wrong_vectors(collection: Mapping[str, Held]) -> list[str]:
    if not collection:
        return []
    right = FakeEmbedder().embed_documents([held.text for held in collection.values()])
    near = np.isclose(right, [held.vector for held in collection.values()], atol=1e-5).all(axis=1)
    return sorted(chunk for chunk, is_right in zip(collection, near, strict=True) if not is_right)
