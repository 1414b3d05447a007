"""Swapping collections: what is listed of them, and the one request that makes a name point to another."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from chromadb.api import ClientAPI
from chromadb.api.models.Collection import Collection
from chromadb.errors import NotFoundError

from worker.errors import FatalError
from worker.recall.chroma_collections import DIMENSION_KEY, MODEL_KEY, NAME, find_collection
from worker.recall.pointer import KEYS, TARGET_KEY, Pointer

PAGE = 100
"""Collections listed with one request."""


@dataclass(frozen=True, slots=True)
class Swap:
    """What a name said, and what it is to say."""

    before: Pointer | None
    """None: there is no collection of that name yet."""
    after: Pointer
    named: Collection | None


def model_of(collection: Collection) -> tuple[str | None, int | None]:
    """Return the name of the embedding model and its dimension, as recorded; None where it was made elsewhere."""
    metadata: Mapping[str, Any] = collection.metadata or {}
    return metadata.get(MODEL_KEY), metadata.get(DIMENSION_KEY)


def all_collections(client: ClientAPI) -> Iterator[Collection]:
    """Yield every collection of the database."""
    offset = 0
    while page := client.list_collections(limit=PAGE, offset=offset):
        yield from page
        offset += len(page)


def plan_swap(client: ClientAPI, name: str, new: str) -> Swap:
    """Return what it takes to have ``name`` lead to ``new``; its own name takes the pointer away.

    FatalError says why it can't be: one hop alone is followed, so neither may ``new`` point nor anything to ``name``.
    """
    named = _find(client, name)
    before = None if named is None else Pointer.of(named)
    target = named if new == name else _find(client, new)
    if target is None:
        raise FatalError(f"there is no collection {new!r}: fill it first, with `rerank-worker index --into {new}`")
    if new != name:
        _require_one_hop(client, name, target)
    elif before is not None and before.alone:
        raise FatalError(f"the collection {name!r} only points, and holds nothing that could be read instead")
    if named is None or before is None:
        if not NAME.fullmatch(name):
            raise FatalError(f"{name!r} cannot be the name of a collection")
        return Swap(None, Pointer(name, new, alone=True), None)
    after = replace(before, target=None if new == name else new, before=_former(client, named, target))
    return Swap(before, after, named)


def swap(client: ClientAPI, planned: Swap) -> None:
    """Have the name point as planned: with one request, before which readers see the old and after which the new."""
    if planned.named is None:
        # Not `get_or_create`: what another has made meanwhile is no pointer.
        client.create_collection(
            planned.after.name,
            embedding_function=None,
            metadata=planned.after.as_metadata,
            configuration={"hnsw": {"space": "cosine"}},
        )
        return
    kept = {key: value for key, value in (planned.named.metadata or {}).items() if key not in KEYS}
    # Chroma takes no empty metadata; a value of None is none.
    planned.named.modify(metadata={TARGET_KEY: None, **kept, **planned.after.as_metadata})


def _require_one_hop(client: ClientAPI, name: str, target: Collection) -> None:
    further = Pointer.of(target).target
    if further is not None:
        raise FatalError(f"the collection {target.name!r} points itself, to {further!r}: name that one")
    for each in all_collections(client):
        if Pointer.of(each).target == name != each.name:
            raise FatalError(
                f"the collection {each.name!r} points to {name!r}, and one hop alone is followed: what queries name is "
                f"{each.name!r}, so say `collections swap {each.name} {target.name}`"
            )


def _former(client: ClientAPI, named: Collection, target: Collection) -> str | None:
    """Return what workers shall read whose model is not the target's: what was read last with another model."""
    pointer = Pointer.of(named)
    current = named if pointer.target is None else _find(client, pointer.target)
    former = pointer.before if current is None or model_of(current) == model_of(target) else current.name
    # Its own collection is what such workers read last in any case.
    return None if former in {target.name, named.name} else former


def _find(client: ClientAPI, name: str) -> Collection | None:
    try:
        return find_collection(client, name)
    except NotFoundError:
        return None
