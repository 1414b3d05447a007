"""Whether a collection can take another's place: what is in both, how far its index is behind, what both find."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chromadb.api import ClientAPI
from chromadb.api.models.Collection import Collection
from chromadb.errors import NotFoundError
from pydantic import BaseModel, ConfigDict, computed_field

from worker.documents.stored import HASH_KEY
from worker.errors import FatalError, WorkerError
from worker.evaluation.overlap import Overlap, overlap, sampled_texts
from worker.evaluation.readers.queries import read_questions
from worker.evaluation.recalling import Watch
from worker.kafka.admin.group import lag
from worker.kafka.admin.reach import require_reachable
from worker.models.resolve import resolve_here
from worker.recall.chroma_collections import find_collection, find_read
from worker.recall.chroma_connection import ChromaConnection
from worker.recall.chroma_swap import model_of
from worker.recall.embedder import Embedder, load_embedder
from worker.settings import Settings
from worker.settings.kafka import for_documents

MOST_COUNTED = 200_000
"""Chunks up to which documents are counted: for it the ids of all but their first chunks come over the wire."""

FEWEST_DOCUMENTS = 0.9
"""Of the present collection's: with fewer of them something is missing."""

EXPECTED_OVERLAP = 0.8
"""With the same model. Of another one, which is there to find other documents, nothing is expected."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class Side(_Model):
    """One of the two collections."""

    name: str
    chunks: int
    documents: int | None
    """None: not counted, for there are too many or they come from elsewhere than `ingest` and `index`."""
    embedding_model: str | None
    """None: it does not say."""


class Behind(_Model):
    """How far the index group of the new collection is behind the documents topic."""

    group: str
    events: int | None = None
    """None: it has never indexed, or that is ``unknown``."""
    unknown: str | None = None
    """Why it can't be told."""


class Readiness(_Model):
    """The report: what `collections compare` and `collections swap` show."""

    current: Side | None
    """What is read today; None if that is nothing."""
    new: Side
    behind: Behind
    overlap: Overlap | None
    no_overlap: str | None
    """Why the two were not asked the same."""
    reasons: Sequence[str]
    """What speaks against the swap."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ready(self) -> bool:
        """Whether nothing does."""
        return not self.reasons


@dataclass(frozen=True, slots=True)
class Request:
    """What to compare, and what is enough."""

    name: str
    """What queries name."""
    new: str
    questions: Path | None = None
    """None: texts of the present collection are asked for."""
    sample: int = 50
    """Most questions asked; 0: none."""
    max_lag: int = 0
    min_overlap: float | None = None
    """None: ``EXPECTED_OVERLAP`` with the same model."""


NewEmbedder = Callable[[str | None], Embedder]


def readiness(
    settings: Settings,
    connection: ChromaConnection,
    request: Request,
    watch: Watch,
    *,
    new_embedder: NewEmbedder | None = None,
) -> Readiness:
    """Compare what a name leads to with what it may lead to. Blocks, for as long as embedding the sample takes.

    FatalError if there is no new collection, TransientError if the store is away; brokers that are away and a model
    that is not on this machine are part of the report. ``new_embedder`` loads a model by the name a collection records.
    """
    given = None if request.questions is None else [each.text for each in read_questions(request.questions)[0]]
    watch("counting", 0, 0)
    current, new = connection.ask(lambda client: _both(client, request))
    sides = None if current is None else _side(connection, current), _side(connection, new)
    watch("asking how far the index is", 0, 0)
    behind = _behind(settings, request.new)
    agreed, no_overlap = None, _nothing_to_ask(request, *sides)
    same_model = current is not None and model_of(current) == model_of(new)
    if current is not None and no_overlap is None:
        try:
            questions = sampled_texts(connection, current, request.sample) if given is None else given[: request.sample]
            watch("loading the embedding model", 0, 0)
            load = new_embedder or _loader(settings)
            embedder = load(model_of(current)[0])
            asked = (current, embedder), (new, embedder if same_model else load(model_of(new)[0]))
            agreed = overlap(connection, asked, questions, top_k=settings.recall.top_k, watch=watch)
        except FatalError as error:
            no_overlap = str(error)
    least = EXPECTED_OVERLAP if request.min_overlap is None and same_model else request.min_overlap
    reasons = [*_too_little(*sides), *_too_late(behind, request.max_lag), *_too_different(agreed, least)]
    return Readiness(
        current=sides[0], new=sides[1], behind=behind, overlap=agreed, no_overlap=no_overlap, reasons=reasons
    )


def _both(client: ClientAPI, request: Request) -> tuple[Collection | None, Collection]:
    """Return what the name leads to, if that is anywhere, and the new one, wherever that points."""
    try:
        new = find_collection(client, request.new)
    except NotFoundError as error:
        raise FatalError(
            f"there is no collection {request.new!r}: fill it with `rerank-worker index --into {request.new}`"
        ) from error
    try:
        return find_read(client, request.name), new
    except NotFoundError:
        return None, new


def _side(connection: ChromaConnection, collection: Collection) -> Side:
    chunks = connection.ask(lambda _: collection.count())
    return Side(
        name=collection.name,
        chunks=chunks,
        documents=_documents(connection, collection, chunks),
        embedding_model=model_of(collection)[0],
    )


def _documents(connection: ChromaConnection, collection: Collection, chunks: int) -> int | None:
    if chunks == 0 or chunks > MOST_COUNTED:
        return None if chunks else 0
    some = connection.ask(lambda _: collection.get(limit=1, include=["metadatas"]))["metadatas"] or []
    if not any(HASH_KEY in (metadata or {}) for metadata in some):
        return None
    # Chunks are numbered from 1 in documents that have several.
    follows: dict[str, Any] = {"chunk": {"$gte": 2}}
    later = connection.ask(lambda _: collection.get(where=follows, include=[]))
    return chunks - len(later["ids"])


def _behind(settings: Settings, new: str) -> Behind:
    # The group of what `index` fills without `--into` has no collection's name in its own.
    usual = new in {settings.recall.collection, *settings.index.collections}
    kafka = for_documents(settings.kafka, into=None if usual else new)
    try:
        require_reachable(kafka)
        return Behind(group=kafka.group_id, events=lag(kafka))
    except WorkerError as error:
        return Behind(group=kafka.group_id, unknown=str(error))


def _loader(settings: Settings) -> NewEmbedder:
    def load(name: str | None) -> Embedder:
        recall = settings.recall if name is None else settings.recall.model_copy(update={"embedding_model": name})
        wanted = settings.model_copy(update={"recall": recall})
        return load_embedder(resolve_here("embedding", wanted), wanted)

    return load


def _nothing_to_ask(request: Request, current: Side | None, new: Side) -> str | None:
    if current is None:
        return f"{request.name!r} reads nothing yet"
    if current.name == new.name:
        return f"{request.name!r} reads {new.name!r} already"
    if request.sample == 0:
        return "no question was to be asked"
    return next((f"{side.name!r} is empty" for side in (current, new) if side.chunks == 0), None)


def _too_little(current: Side | None, new: Side) -> Iterator[str]:
    if new.chunks == 0:
        yield f"{new.name!r} is empty"
    elif current and current.documents and new.documents is not None:
        share = new.documents / current.documents
        if share < FEWEST_DOCUMENTS:
            yield f"{new.name!r} has {share:.0%} of the documents of {current.name!r}"


def _too_late(behind: Behind, most: int) -> Iterator[str]:
    if behind.unknown is not None:
        yield f"how far the group {behind.group!r} is behind the topic is not known: {behind.unknown}"
    elif behind.events is not None and behind.events > most:
        yield f"the group {behind.group!r} is {behind.events:,} events behind the topic, more than {most:,}"


def _too_different(agreed: Overlap | None, least: float | None) -> Iterator[str]:
    if agreed is not None and least is not None and agreed.mean < least:
        yield f"the two agree in {agreed.mean:.0%} of the documents they find, less than {least:.0%}"
