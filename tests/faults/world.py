"""Everything a fault can happen to: brokers and their network, the vector store, the LLM, two workers; and traffic."""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from confluent_kafka.admin import AdminClient

from tests.fakes.llm import FakeLlm, fake_llm
from tests.faults.cluster import Cluster
from tests.faults.observer import Observer
from tests.faults.oracle import Verdict
from tests.faults.stack import (
    MAX_IN_FLIGHT,
    PARTITIONS,
    POLL_BATCH,
    SESSION_TIMEOUT_S,
    WORKERS,
    Chroma,
    Stack,
    running_chroma,
    worker_settings,
)
from tests.faults.supervisor import Supervisor
from tests.faults.traffic import Traffic, client_config, queries
from tests.hanging_worker import hang_on_signal
from tests.worker_process import WorkerProcess, start_worker_process
from worker.documents.document import Document
from worker.documents.files.ingest import ingest
from worker.kafka.admin.topics import ensure
from worker.kafka.consume.log_watch import INTERVAL_S
from worker.settings import KafkaSettings, Settings

# Beyond the interval: the brokers' answer.
NOTICED_S = 5.0
TOPIC_MADE_AGAIN = "topic-made-again"

Guarantee = Literal["at_least_once", "exactly_once"]
Protocol = Literal["classic", "consumer"]
Ordering = Literal["none", "key"]


@dataclass(frozen=True, slots=True)
class Promise:
    """What the workers are set to guarantee."""

    guarantee: Guarantee = "at_least_once"
    protocol: Protocol = "consumer"
    ordering: Ordering = "none"

    @property
    def ordered(self) -> bool:
        """Whether answers of one key come in the order of its queries. A transaction keeps every order."""
        return self.ordering == "key" or self.guarantee == "exactly_once"

    def repeats_allowed(self, disruptions: "Counter[str]", *, per_second: float) -> int:
        """Return the in-flight bound: what a worker that is cut off may have answered and not committed.

        Of a topic that was made again, what was read before that was noticed is answered twice, whatever the guarantee.
        """
        unnoticed = int(disruptions[TOPIC_MADE_AGAIN] * per_second * (INTERVAL_S + NOTICED_S))
        if self.guarantee == "exactly_once":
            return unnoticed
        return unnoticed + disruptions.total() * PARTITIONS * (MAX_IN_FLIGHT + POLL_BATCH)

    def __str__(self) -> str:
        return f"{self.guarantee}, group.protocol={self.protocol}, ordering={self.ordering}"


@dataclass(frozen=True, kw_only=True)
class World(Stack):
    """A running stack under traffic of queries."""

    promise: Promise
    llm: FakeLlm
    traffic: Traffic
    observer: Observer

    @property
    def progress(self) -> str:
        """How many queries were seen, and how many of them have their outcome."""
        seen, pending = self.observer.progress
        return f"{seen - pending:>7,} of {seen:,}"

    def wrong(self, verdict: Verdict) -> list[str]:
        """Return what of the promise is broken, a line each."""
        return verdict.wrong(ordered=self.promise.ordered, repeats_allowed=self.repeats_allowed)

    @property
    def repeats_allowed(self) -> int:
        """The in-flight bound, once for each disruption."""
        return self.promise.repeats_allowed(self.disruptions, per_second=self.traffic.per_second)

    def settle(self, timeout_s: float) -> Verdict:
        """Wait until all that was asked has its outcome, or the time is up; what came of it."""
        deadline_s = time.monotonic() + timeout_s
        self.traffic.await_asked(timeout_s)
        return self.observer.await_outcomes(self.traffic.produced, deadline_s - time.monotonic())


@contextmanager
def running_world(
    cluster: Cluster, data_dir: Path, promise: Promise, *, seed: int = 0, per_second: float = 100.0
) -> Iterator[World]:
    """Start all but the brokers, wait until the workers are ready, take it down at the end."""
    with ExitStack() as parts:
        chroma = parts.enter_context(running_chroma(data_dir))
        document = Document(id="paris", text="Paris is the capital of France.", source="tests", origin="paris")
        ingest([document], settings=Settings(models="offline", recall=chroma.recall))
        llm = parts.enter_context(fake_llm())

        name = uuid.uuid4().hex[:6]
        kafka = KafkaSettings(
            bootstrap_servers=cluster.bootstrap_servers,
            query_topic=f"queries-{name}",
            answer_topic=f"answers-{name}",
            dead_letter_topic=f"dead-letters-{name}",
            group_id=f"group-{name}",
            partitions=PARTITIONS,
            replication_factor=3,
            session_timeout_s=SESSION_TIMEOUT_S,
            group_protocol=promise.protocol,
            commit_interval_s=0.5,
        )
        ensure(kafka, create=True)
        start = _starter(kafka, cluster, chroma, llm, promise, data_dir)
        supervisor = parts.enter_context(closing(Supervisor(start, WORKERS)))
        supervisor.await_ready()
        yield World(
            promise=promise,
            kafka=kafka,
            cluster=cluster,
            chroma=chroma,
            llm=llm,
            supervisor=supervisor,
            traffic=parts.enter_context(closing(Traffic(kafka, queries(seed), per_second=per_second))),
            observer=parts.enter_context(closing(Observer(kafka))),
            admin=AdminClient(client_config(kafka)),
        )


def _starter(
    kafka: KafkaSettings, cluster: Cluster, chroma: Chroma, llm: FakeLlm, promise: Promise, data_dir: Path
) -> Callable[[str], WorkerProcess]:
    proxied = kafka.model_copy(update={"bootstrap_servers": cluster.proxied_bootstrap_servers})

    def start(name: str) -> WorkerProcess:
        return start_worker_process(
            proxied,
            chroma.recall,
            data_dir / f"worker-{name}.log",
            before=hang_on_signal,
            KAFKA__DELIVERY_GUARANTEE=promise.guarantee,
            KAFKA__ORDERING=promise.ordering,
            KAFKA__TRANSACTION_TIMEOUT_S="10",
            ANSWER__BASE_URL=llm.base_url,
            ANSWER__MODEL="fake-llm",
            ANSWER__TIMEOUT_S="3",
            ANSWER__ATTEMPTS="2",
            **worker_settings(name, kafka),
        )

    return start
