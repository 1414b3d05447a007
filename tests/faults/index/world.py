"""Two index processes that follow a topic under edits, with everything that can break beneath them."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from confluent_kafka.admin import AdminClient

from schemas import wire
from tests.faults.cluster import Cluster
from tests.faults.faults import TO_BROKERS, TO_STORE, TO_WORKERS, Fault, Faults, registering, store_away, wait
from tests.faults.index.edits import FOREIGN, MAX_EVENT_BYTES, Editor
from tests.faults.index.fake_embedder import FakeEmbedder, embed_by_digest, new_chunker
from tests.faults.index.oracle import Held, Verdict, Written, judge
from tests.faults.stack import PARTITIONS, SESSION_TIMEOUT_S, WORKERS, Chroma, Stack, running_chroma, worker_settings
from tests.faults.supervisor import Supervisor
from tests.faults.traffic import Traffic, client_config
from tests.faults.world import Protocol
from tests.lexical import texts_of_both
from tests.live_index import live_collection
from tests.topics import committed_offsets, held
from tests.worker_process import WorkerProcess, start_worker_process
from worker.documents.document import Document
from worker.documents.indexer import Indexer
from worker.documents.stored import SOURCE_KEY
from worker.kafka.admin.topics import ensure, index_topics
from worker.local.process import await_condition
from worker.recall.chroma_connection import ChromaConnection
from worker.settings import KafkaSettings, RecallSettings
from worker.settings.kafka import for_documents

FOREIGN_SOURCE = "a file"
PAGE = 1_000


@dataclass(frozen=True, kw_only=True)
class IndexWorld(Stack):
    """A running stack under edits of documents."""

    traffic: Traffic

    @property
    def progress(self) -> str:
        """How much has been written to the topic."""
        return f"{self.traffic.produced:>7,} events"

    def settle(self, timeout_s: float) -> Verdict:
        """Wait until everything on the topic is committed, or the time is up; what came of it."""
        deadline_s = time.monotonic() + timeout_s
        self.traffic.await_asked(timeout_s)
        events = held(self.kafka, self.kafka.query_topic)
        caught_up = await_condition(
            lambda: sum(committed_offsets(self.admin, self.kafka)) == len(events),
            timeout_s=deadline_s - time.monotonic(),
        )
        lag = len(events) - sum(committed_offsets(self.admin, self.kafka))
        assert caught_up, f"{lag} events are not committed\n{self.supervisor.describe()}"
        letters = [
            wire.dead_letter_info(each.headers() or []) for each in held(self.kafka, self.kafka.dead_letter_topic)
        ]
        collection = _collection(self.chroma.recall)
        others = {chunk for chunk, at in collection.items() if at.metadata[SOURCE_KEY] == FOREIGN_SOURCE}
        assert others == set(FOREIGN), "what is another source's was touched"
        words, texts = texts_of_both(self.chroma.lexical, live_collection(self.chroma.recall))
        assert words == texts, "the lexical file is not that of the collection"
        return judge(
            [
                Written(each.partition(), each.offset(), each.key(), each.value(), dict(each.headers() or []))
                for each in events
            ],
            {chunk: at for chunk, at in collection.items() if chunk not in others},
            [((info.source_partition, info.source_offset), info.error_class) for info in letters],
            source=f"kafka:{self.kafka.query_topic}",
        )


def _collection(recall: RecallSettings) -> dict[str, Held]:
    collection = live_collection(recall)
    chunks: dict[str, Held] = {}
    for start in range(0, collection.count(), PAGE):
        page = collection.get(limit=PAGE, offset=start, include=["documents", "metadatas", "embeddings"])
        rows = zip(page["documents"], page["metadatas"], page["embeddings"], strict=True)
        chunks |= {chunk: Held(*row) for chunk, row in zip(page["ids"], rows, strict=True)}
    return chunks


TO_CHROMA: dict[str, Fault[IndexWorld]] = {}
"""Beside those that queries meet too: what may happen in the middle of a write."""


@registering(TO_CHROMA)
def chroma_kill(world: IndexWorld, random: Random) -> str:
    """The vector store dies and comes back."""
    return store_away(world, random, world.chroma.kill)


@registering(TO_CHROMA)
def chroma_freeze(world: IndexWorld, random: Random) -> str:
    """The vector store stands still, for longer than a call may take or for less, and does then what it was asked."""
    seconds = random.choice([1.0, 3.0, 7.0])
    world.chroma.freeze()
    try:
        wait(seconds)
    finally:
        world.chroma.thaw()
    return f"for {seconds:g} s"


LANES: list[Faults[IndexWorld]] = [TO_WORKERS, TO_BROKERS, {**TO_STORE, **TO_CHROMA}]


@contextmanager
def running_index(
    cluster: Cluster,
    data_dir: Path,
    protocol: Protocol = "consumer",
    *,
    seed: int = 0,
    documents: int,
    per_second: float,
) -> Iterator[IndexWorld]:
    """Start all but the brokers, wait until the processes are ready, take it down at the end."""
    with ExitStack() as parts:
        chroma = parts.enter_context(running_chroma(data_dir))
        _put_foreign(chroma.recall)
        name = uuid.uuid4().hex[:6]
        settings = KafkaSettings(
            bootstrap_servers=cluster.bootstrap_servers,
            documents_topic=f"documents-{name}",
            documents_dead_letter_topic=f"dead-documents-{name}",
            documents_group_id=f"index-{name}",
            partitions=PARTITIONS,
            replication_factor=3,
            session_timeout_s=SESSION_TIMEOUT_S,
            group_protocol=protocol,
            commit_interval_s=0.5,
        )
        kafka = for_documents(settings)
        ensure(kafka, create=True, names=index_topics(kafka))
        supervisor = parts.enter_context(closing(Supervisor(_starter(settings, cluster, chroma, data_dir), WORKERS)))
        supervisor.await_ready()
        yield IndexWorld(
            kafka=kafka,
            cluster=cluster,
            chroma=chroma,
            supervisor=supervisor,
            admin=AdminClient(client_config(kafka)),
            traffic=parts.enter_context(closing(Traffic(kafka, Editor(seed, documents), per_second=per_second))),
        )


def _put_foreign(recall: RecallSettings) -> None:
    with closing(ChromaConnection(recall)) as connection:
        indexer = Indexer(connection, FakeEmbedder(), collection=recall.collection, top_k=recall.top_k)
        documents = [Document(name, f"{name} was here first.", FOREIGN_SOURCE, name) for name in FOREIGN]
        indexer.index(documents, new_chunker(), skip_rejected=False, progress=lambda _: None)


def _starter(kafka: KafkaSettings, cluster: Cluster, chroma: Chroma, data_dir: Path) -> Callable[[str], WorkerProcess]:
    proxied = kafka.model_copy(update={"bootstrap_servers": cluster.proxied_bootstrap_servers})

    def start(name: str) -> WorkerProcess:
        return start_worker_process(
            proxied,
            chroma.recall,
            data_dir / f"index-{name}.log",
            subcommand="index",
            before=embed_by_digest,
            INDEX__TEXT="{body}",
            RECALL__LEXICAL_PATH=str(chroma.lexical),
            INDEX__MAX_EVENT_BYTES=str(MAX_EVENT_BYTES),
            # Poison is part of it.
            KAFKA__POISON_LIMIT="1",
            **worker_settings(name, kafka),
        )

    return start
