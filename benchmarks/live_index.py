"""The live index: documents a second beside plain `ingest` of the same documents, and how soon a change is found.

``python -m benchmarks.live_index [--documents N] [--rounds N] [--rate N]`` writes ``results/live_index.json``; some 6
minutes. Both embed with the offline model and write to the same Chroma server, in turns; `index` reads real Kafka.
Freshness is that of sentences at the rate given, and of whole documents at a share of what `index` did.
"""

import argparse
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.common import print_table, save, significant, summary
from benchmarks.machine import facts
from benchmarks.stack import Servers, client_config, ending, labelled_metric, servers
from schemas import wire
from schemas.documents import DocumentEvent
from tests.worker_process import WorkerProcess, start_worker_process
from worker.documents.document import Document
from worker.documents.files.ingest import ingest
from worker.documents.samples import corpus
from worker.kafka.admin.topics import ensure, index_topics
from worker.settings import KafkaSettings, RecallSettings, Settings
from worker.settings.kafka import for_documents

PARTITIONS = 4
CATCH_UP_S = 600.0
LOOK_S = 0.25
SECONDS_AT_RATE = 30
SHARE_OF_CAPACITY = 0.7
SENTENCE_CHARS = 100
WRITTEN = "rerank_worker_documents_total"
FRESHNESS = "rerank_worker_index_freshness_seconds"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=int, default=100, help="sentences a second whose freshness is measured")
    options = parser.parse_args()
    result: dict[str, Any] = {"what": "the live index; see benchmarks/live_index.py", "machine": facts()}
    with servers(chroma=True) as stack:
        rounds = [one_round(stack, options.documents, number) for number in range(options.rounds)]
        result["documents"] = options.documents
        result["documents_per_s"] = {name: summary([each[name] for each in rounds]) for name in ("ingest", "index")}
        result["ratio"] = summary([each["index"] / each["ingest"] for each in rounds])
        calm = SHARE_OF_CAPACITY * result["documents_per_s"]["index"]["median"]
        sentences = [
            replace(each, text=each.text[-SENTENCE_CHARS:]) for each in varied(options.rate * SECONDS_AT_RATE, 98)
        ]
        result["freshness"] = {
            "sentences": freshness(stack, options.rate, sentences),
            "documents": freshness(stack, calm, varied(round(calm * SECONDS_AT_RATE), 99)),
        }
    save("live_index", result)
    rows = [[number, *each.values(), each["index"] / each["ingest"]] for number, each in enumerate(rounds)]
    print_table(["", "ingest", "index", "index / ingest"], rows)
    for name, found in result["freshness"].items():
        print(f"freshness of {name}: {found}")


def one_round(stack: Servers, count: int, number: int) -> dict[str, float]:
    """Return documents a second of both, each into a collection of its own; the one that goes first changes."""
    documents = varied(count, number)
    measures = {"ingest": ingested_per_s, "index": indexed_per_s}
    order = list(measures) if number % 2 == 0 else list(reversed(measures))
    found = {name: measures[name](stack, documents) for name in order}
    return {name: found[name] for name in measures}


def varied(count: int, number: int) -> list[Document]:
    """The sample corpus over and over, every text another one."""
    samples = corpus.documents()
    return [
        Document(f"{number}-{index}", f"{sample.text} ({number}-{index})", "benchmark", f"{index}", sample.metadata)
        for index, sample in zip(range(count), _endless(samples), strict=False)
    ]


def _endless(samples: Sequence[Document]) -> Any:
    while True:
        yield from samples


def ingested_per_s(stack: Servers, documents: Sequence[Document]) -> float:
    report = ingest(documents, settings=Settings(models="offline", recall=new_collection(stack)))
    return len(documents) / report.seconds


def indexed_per_s(stack: Servers, documents: Sequence[Document]) -> float:
    """From the backlog's first to its last document in the collection; starting and joining left out."""
    kafka = new_topics(stack)
    producer = Producer(client_config(kafka))
    for document in documents:
        producer.produce(for_documents(kafka).query_topic, key=document.id.encode(), value=event_of(document))
        producer.poll(0)
    assert producer.flush(60) == 0
    with ending([start_index(stack, kafka)]) as [worker]:
        await_documents(worker, 1)
        begun_s, before = time.monotonic(), written(worker)
        await_documents(worker, len(documents))
        per_s = (len(documents) - before) / (time.monotonic() - begun_s)
        assert worker.stop() == 0
    return per_s


def freshness(stack: Servers, rate: float, documents: Sequence[Document]) -> dict[str, Any]:
    """Return how long after its event a document was in the collection, at so many new ones a second."""
    kafka = new_topics(stack)
    producer = Producer(client_config(kafka) | {"linger.ms": 0})
    with ending([start_index(stack, kafka)]) as [worker]:
        worker.await_ready()
        begun_s = time.monotonic()
        for number, document in enumerate(documents):
            time.sleep(max(0.0, begun_s + number / rate - time.monotonic()))
            producer.produce(for_documents(kafka).query_topic, key=document.id.encode(), value=event_of(document))
            producer.poll(0)
        sent_s = time.monotonic() - begun_s
        assert producer.flush(60) == 0
        await_documents(worker, len(documents))
        quantiles = {f"p{round(share * 100)}_s": quantile(worker, share) for share in (0.5, 0.95)}
        assert worker.stop() == 0
    return {"documents_per_s": significant(len(documents) / sent_s), "n": len(documents), **quantiles}


def quantile(worker: WorkerProcess, share: float) -> float:
    """Return a quantile of the freshness as Prometheus' ``histogram_quantile`` has it: between buckets, in a line."""
    page = httpx.get(f"{worker.telemetry}/metrics", timeout=30).text
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    buckets = sorted((float(s.labels["le"]), s.value) for s in samples if s.name == f"{FRESHNESS}_bucket")
    wanted = share * buckets[-1][1]
    low_s, below = 0.0, 0.0
    for high_s, count in buckets:
        if count >= wanted:
            return significant(low_s + (high_s - low_s) * (wanted - below) / (count - below), 3)
        low_s, below = high_s, count
    raise ValueError("a histogram ends in infinity")


def event_of(document: Document) -> bytes:
    return wire.encode_document(DocumentEvent(text=document.text, metadata=dict(document.metadata)))


def written(worker: WorkerProcess) -> float:
    return labelled_metric(worker, WRITTEN, outcome="written")


def await_documents(worker: WorkerProcess, count: int) -> None:
    worker.await_ready()
    deadline_s = time.monotonic() + CATCH_UP_S
    while written(worker) < count:
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"{written(worker):.0f} of {count} documents within {CATCH_UP_S:g} s")
        # A page of metrics takes milliseconds of the process that is measured.
        time.sleep(LOOK_S)


def start_index(stack: Servers, kafka: KafkaSettings) -> WorkerProcess:
    log_path = stack.folder / f"{kafka.documents_group_id}.log"
    # As many threads as `ingest` has: what the tests start takes one.
    return start_worker_process(kafka, new_collection(stack), log_path, subcommand="index", RERANK__THREADS="0")


def new_collection(stack: Servers) -> RecallSettings:
    assert stack.chroma is not None
    return RecallSettings(host=stack.chroma.host, port=stack.chroma.port, collection=f"live-{uuid.uuid4().hex[:8]}")


def new_topics(stack: Servers) -> KafkaSettings:
    name = uuid.uuid4().hex[:6]
    topics = {"documents_topic": f"docs-{name}", "documents_dead_letter_topic": f"dead-docs-{name}"}
    kafka = stack.new_topics(PARTITIONS, **topics, documents_group_id=f"index-{name}")
    documents = for_documents(kafka)
    ensure(documents, create=True, names=index_topics(documents))
    return kafka


if __name__ == "__main__":
    main()
