"""What is put on a documents topic, and what a collection holds, document by document."""

from collections.abc import Iterable

import chromadb
from chromadb.api.models.Collection import Collection
from chromadb.config import Settings as ChromaSettings
from confluent_kafka import Producer

from schemas.wire import Headers
from tests.patience import HANG_S
from worker.kafka.config import common_config
from worker.settings import KafkaSettings, RecallSettings


def produce(kafka: KafkaSettings, events: Iterable[tuple[str, bytes | None]], *, headers: Headers = ()) -> None:
    """Put events, of a key and a value, on the documents topic in order. ``kafka``: as the index has it."""
    producer = Producer(common_config(kafka) | {"enable.idempotence": True})
    for key, value in events:
        producer.produce(kafka.query_topic, key=key.encode(), value=value, headers=list(headers))
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
