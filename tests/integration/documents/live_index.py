"""What a collection must hold once the index has caught up, and index processes to hold it against.

The oracle knows nothing of marks and lanes: it keeps the last state of each key, as the topic does.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import chromadb
from chromadb.api.models.Collection import Collection
from chromadb.config import Settings as ChromaSettings
from confluent_kafka import Producer

from schemas import wire
from tests.patience import HANG_S
from tests.topics import held
from worker.kafka.config import common_config
from worker.settings import KafkaSettings, RecallSettings

WORDS = ("broker", "offset", "partition", "replica", "leader", "segment", "snapshot", "column", "trigger", "vector")
POISON = b'{"text": '


@dataclass(frozen=True, slots=True)
class Event:
    key: str
    value: bytes | None


@dataclass
class Oracle:
    """Makes random events of random documents, and remembers what is to come of them."""

    seed: int
    keys: int
    texts: dict[str, str] = field(default_factory=dict)
    """Of each document that is to be there."""
    poisoned: int = 0
    sent: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def events(self, count: int) -> Iterator[Event]:
        for _ in range(count):
            yield self._event()

    def _event(self) -> Event:
        key = f"doc-{self._random.randrange(self.keys)}"
        self.sent += 1
        kind = self._random.random()
        if kind < 0.02:
            # Changes nothing: what was there before stays.
            self.poisoned += 1
            return Event(key, POISON)
        if kind < 0.20:
            self.texts.pop(key, None)
            return Event(key, None if kind < 0.12 else b'{"op": "delete"}')
        self.texts[key] = text = self._text(key)
        return Event(key, json.dumps({"text": text, "metadata": {"sent": self.sent}}).encode())

    def _text(self, key: str) -> str:
        # Most fit into one chunk; some have several, and another number of them each time.
        words = self._random.randint(250, 600) if self._random.random() < 0.04 else self._random.randint(3, 12)
        return " ".join([f"{key} version {self.sent}:", *self._random.choices(WORDS, k=words)])


def produce(kafka: KafkaSettings, events: Iterator[Event]) -> None:
    """Put the events on the documents topic, in order."""
    producer = Producer(common_config(kafka) | {"enable.idempotence": True})
    for event in events:
        producer.produce(kafka.query_topic, key=event.key.encode(), value=event.value)
        producer.poll(0)
    assert producer.flush(HANG_S) == 0


def live_collection(recall: RecallSettings) -> Collection:
    client = chromadb.HttpClient(recall.host, recall.port, settings=ChromaSettings(anonymized_telemetry=False))
    return client.get_collection(recall.collection, embedding_function=None)


def indexed(recall: RecallSettings) -> dict[str, str]:
    """The text of each document, put together of its chunks."""
    found = live_collection(recall).get(include=["documents"])
    chunks = dict(zip(found["ids"], found["documents"], strict=True))
    texts = {}
    for identifier in [chunk for chunk in chunks if "#" not in chunk]:
        parts = [chunks.pop(identifier)]
        while (following := f"{identifier}#{len(parts) + 1}") in chunks:
            parts.append(chunks.pop(following))
        texts[identifier] = " ".join(" ".join(parts).split())
    assert chunks == {}, "chunks without a first one, or behind a gap"
    return texts


def dead_letters(kafka: KafkaSettings) -> Sequence[tuple[int, int]]:
    """Where the events stood that were set aside, each once."""
    infos = [wire.dead_letter_info(message.headers() or []) for message in held(kafka, kafka.dead_letter_topic)]
    assert {info.error_class for info in infos} <= {"invalid_json"}
    return sorted({(info.source_partition, info.source_offset) for info in infos})
