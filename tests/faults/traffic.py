"""What is asked while the faults happen."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

from confluent_kafka import Producer

from schemas import wire
from schemas.events import QueryEvent
from tests.patience import HANG_S
from tests.raw_producer import RawHeader, raw_producer
from worker.local.process import await_condition
from worker.settings import KafkaSettings

KEYS = 50
POISON_SHARE = 0.04
GENERATE_SHARE = 0.1
DEADLINE_SHARE = 0.01
TICK_S = 0.05
# New partitions are noticed after this; 5 minutes by default.
METADATA_AGE, METADATA_AGE_MS = "topic.metadata.refresh.interval.ms", 2_000


POISON = "poison"
"""How the id of whatever must be dead-lettered begins."""


def query_id_of(value: bytes) -> str:
    """What tells a query from all others, whether it can be decoded or not."""
    return str(json.loads(value)["id"]) if value.startswith(b"{") else value.decode()


def client_config(kafka: KafkaSettings) -> dict[str, Any]:
    """Return how those who watch reach the brokers. Brokers that are down are no news to them."""
    return {"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0, METADATA_AGE: METADATA_AGE_MS}


@dataclass(frozen=True, slots=True)
class Event:
    """A record to produce."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


def queries(seed: int) -> Callable[[int], Event]:
    """Return what makes a query event of a number; the same seed makes the same ones in their order."""
    random = Random(seed)

    def make(number: int) -> Event:
        draw = random.random()
        event = QueryEvent(
            id=f"q{number}",
            text="capital of france",
            top_k=1,
            generate=draw < GENERATE_SHARE,
            deadline_ms=100 if draw > 1 - DEADLINE_SHARE else None,
        )
        is_poison = GENERATE_SHARE <= draw < GENERATE_SHARE + POISON_SHARE
        value = f"{POISON} {number}".encode() if is_poison else wire.encode_query(event)
        return Event(b"%d" % random.randrange(KEYS), value)

    return make


class Traffic:
    """Produces events at a steady rate, in a thread of its own, until there are enough."""

    def __init__(self, kafka: KafkaSettings, event: Callable[[int], Event], *, per_second: float) -> None:
        """``event`` makes one of its number; it is called once for each, in order, by one thread at a time."""
        self._kafka = kafka
        self._topic = kafka.query_topic
        self._producer = self._new_producer()
        # Held by whoever produces.
        self._producing = threading.Lock()
        self._event = event
        self.per_second = per_second
        self._wanted = 0
        self.produced = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._thread.start()

    def ask(self, events: int) -> None:
        """Ask this many more."""
        self._wanted += events

    def ask_at_once(self, values: Callable[[int], bytes], count: int, headers: Sequence[RawHeader]) -> None:
        """Ask this many more, with headers that Python's client can't write; ``values`` is told a number for the id."""
        # Another producer, which knows nothing of the order of a key: these have one each.
        with self._producing, raw_producer(self._kafka.bootstrap_servers) as producer:
            for _ in range(count):
                value, partition = values(self.produced), self.produced % self._kafka.partitions
                producer.send(self._topic, value, headers=headers, key=value[:100], partition=partition)
                self.produced += 1
                self._wanted += 1
            producer.flush()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Ask nothing meanwhile; the broker has everything before. The topic may be another one afterwards."""
        with self._producing:
            assert self._producer.flush(HANG_S) == 0
            yield
            self._producer = self._new_producer()

    def _new_producer(self) -> Producer:
        return Producer(client_config(self._kafka) | {"enable.idempotence": True, "linger.ms": 5})

    def await_asked(self, timeout_s: float) -> None:
        """Return when the broker has everything; AssertionError if it has not in time."""
        deadline_s = time.monotonic() + timeout_s
        complete = await_condition(lambda: self.produced >= self._wanted, timeout_s=timeout_s)
        assert complete, f"{self.produced} of {self._wanted} events were produced"
        assert self._producer.flush(max(1.0, deadline_s - time.monotonic())) == 0

    def close(self) -> None:
        """Stop, and join the thread."""
        self._stopping.set()
        self._thread.join(HANG_S)
        self._producer.flush(HANG_S)

    def _run(self) -> None:
        owed = 0.0
        while not self._stopping.wait(TICK_S):
            with self._producing:
                owed = min(owed + self.per_second * TICK_S, self._wanted - self.produced)
                while owed >= 1:
                    self._produce_one()
                    owed -= 1
                self._producer.poll(0)

    def _produce_one(self) -> None:
        event = self._event(self.produced)
        while not self._stopping.is_set():
            try:
                self._producer.produce(self._topic, event.value, event.key, headers=list(event.headers))
            except BufferError:
                # Brokers that are away: what has been made goes out, in its order, when they are back.
                self._producer.poll(1)
            else:
                self.produced += 1
                return
