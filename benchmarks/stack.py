"""Real servers and workers for a benchmark, what they use of the machine, and an observer of the answers."""

import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from confluent_kafka import Consumer, Producer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from schemas import wire
from schemas.events import QueryEvent
from tests.worker_process import WorkerProcess
from worker.kafka.admin.topics import ensure
from worker.local.broker import local_broker
from worker.local.chroma import LocalChroma, local_chroma
from worker.local.process import await_condition
from worker.settings import KafkaSettings, Settings

ROOT = Path(__file__).parents[1]
SESSION_TIMEOUT_S = 6.0
ANSWER_TIMEOUT_S = 300.0


def client_config(kafka: KafkaSettings) -> dict[str, Any]:
    """Return how a benchmark's own clients reach the broker; that it goes away at the end is no news."""
    return {"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0}


@dataclass(frozen=True)
class Servers:
    """Where the servers are, and a folder for logs that goes with them."""

    bootstrap_servers: str
    chroma: LocalChroma | None
    folder: Path

    def new_topics(self, partitions: int, **settings: Any) -> KafkaSettings:
        """Create topics of their own for one measurement, and name a group that nobody has used."""
        name = uuid.uuid4().hex[:6]
        kafka = KafkaSettings(
            bootstrap_servers=self.bootstrap_servers,
            query_topic=f"queries-{name}",
            answer_topic=f"answers-{name}",
            dead_letter_topic=f"dead-letters-{name}",
            group_id=f"group-{name}",
            partitions=partitions,
            session_timeout_s=SESSION_TIMEOUT_S,
            **settings,
        )
        ensure(kafka, create=True)
        return kafka


@contextmanager
def servers(*, chroma: bool) -> Iterator[Servers]:
    """Run Kafka, and Chroma if wanted, with data that goes at the end."""
    with tempfile.TemporaryDirectory(prefix="rerank-benchmark-") as name:
        folder = Path(name)
        with local_broker(Settings().cache_dir, folder / "kafka") as broker:
            if not chroma:
                yield Servers(broker.bootstrap_servers, None, folder)
                return
            with local_chroma(folder / "chroma") as store:
                yield Servers(broker.bootstrap_servers, store, folder)


@contextmanager
def ending(workers: list[WorkerProcess]) -> Iterator[list[WorkerProcess]]:
    """Kill at the end whichever of the workers still run; more may be added meanwhile."""
    try:
        yield workers
    finally:
        for worker in workers:
            if not worker.ended:
                worker.kill()


def start_simulated_worker(
    kafka: KafkaSettings, log_path: Path, *, checkout: Path = ROOT, **options: object
) -> WorkerProcess:
    """Start ``benchmarks.simulated_worker`` with these options around a checkout's worker; it does not wait."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.simulated_worker", *flags],
            env=environment(checkout) | {"RERANK_WORKER_KAFKA": kafka.model_dump_json(exclude_defaults=True)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    return WorkerProcess(process, "", log_path)


def environment(checkout: Path) -> dict[str, str]:
    """Return an environment in which Python finds this checkout's benchmarks around another one's worker."""
    found = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(checkout), str(ROOT), found]), "PYTHONSAFEPATH": "1"}


def labelled_metric(worker: WorkerProcess, name: str, **labels: str) -> float:
    """Return the sum of the metric's samples that have these labels; 0 if there is none yet."""
    page = httpx.get(f"{worker.telemetry}/metrics", timeout=30).text
    families = text_string_to_metric_families(page)
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


class Asker:
    """Produces query events, the partitions in turn."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._producer = Producer(client_config(kafka) | {"linger.ms": 0, "queue.buffering.max.messages": 1_000_000})
        self._number = 0

    def ask(self, event: QueryEvent) -> None:
        """Produce one event; its ``metadata`` will say which partition it went to."""
        partition = self._number % self._kafka.partitions
        self._number += 1
        event = event.model_copy(update={"metadata": {"partition": partition}})
        self._producer.produce(
            self._kafka.query_topic, key=event.id.encode(), value=wire.encode_query(event), partition=partition
        )
        self._producer.poll(0)

    def flush(self) -> None:
        """Return when the broker has everything."""
        assert self._producer.flush(60) == 0


@dataclass(frozen=True, slots=True)
class Seen:
    """An answer, when it was written and when it was seen, in Unix seconds."""

    query_id: str
    worker: str
    partition: int
    status: str
    written_s: float
    seen_s: float
    stages_ms: dict[str, float]


@dataclass
class Observer:
    """Reads the answers of one answer topic on a thread of its own, from before the first one."""

    kafka: KafkaSettings
    keep: bool = True
    """Without it answers are only counted."""
    answers: list[Seen] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        self._consumer = Consumer(client_config(self.kafka) | {"group.id": "observer", "enable.auto.commit": False})
        self._consumer.assign([TopicPartition(self.kafka.answer_topic, n, 0) for n in range(self.kafka.partitions)])
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._thread.start()

    def await_count(self, count: int, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        """Return when so many answers were seen; RuntimeError if they do not come."""
        if not await_condition(lambda: self.count >= count, timeout_s=timeout_s):
            raise RuntimeError(f"{self.count} of {count} answers came within {timeout_s:g} s")

    def await_that(self, is_met: Callable[[], bool], what: str, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        """Return when a condition is met; RuntimeError with what was waited for if it is not."""
        if not await_condition(is_met, timeout_s=timeout_s):
            raise RuntimeError(f"not within {timeout_s:g} s: {what}")

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(10)
        self._consumer.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            first = self._consumer.poll(0.1)
            if first is None:
                continue
            seen_s = time.time()
            for message in [first, *self._consumer.consume(500, timeout=0)]:
                if message.error() is not None:
                    continue
                if self.keep:
                    answer = wire.decode_answer(message.value() or b"")
                    self.answers.append(
                        Seen(
                            answer.query_id,
                            answer.worker,
                            int(str((answer.metadata or {}).get("partition", -1))),
                            answer.status.value,
                            message.timestamp()[1] / 1000,
                            seen_s,
                            answer.timings_ms.model_dump(),
                        )
                    )
                self.count += 1


def cpu_seconds(workers: Sequence[WorkerProcess]) -> dict[str, float]:
    """Return the CPU time used so far by the workers, the servers and this process, in seconds."""
    used = {"worker": 0.0, "kafka": 0.0, "chroma": 0.0, "benchmark": sum(psutil.Process().cpu_times()[:2])}
    pids = {worker.process.pid for worker in workers}
    for child in psutil.Process().children(recursive=True):
        try:
            command = " ".join(child.cmdline())
            role = "worker" if child.pid in pids else "kafka" if "kafka.Kafka" in command else "chroma"
            if role != "chroma" or "chroma" in command:
                used[role] += sum(child.cpu_times()[:2])
        except psutil.Error:
            continue
    return used


def cores_used(before: dict[str, float], after: dict[str, float], seconds: float) -> dict[str, float]:
    """Return how many cores each used between two readings."""
    return {role: round((after[role] - before[role]) / seconds, 3) for role in after}
