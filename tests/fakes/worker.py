"""A stand-in for the worker, where what is tested is who asks it."""

import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from confluent_kafka import Consumer, Producer

from schemas import wire
from schemas.contexts import ContextsEvent, ContextsTimings
from schemas.events import (
    AnswerEvent,
    AnswerStatus,
    ContextInfo,
    DeadLetterInfo,
    Failure,
    Models,
    QueryEvent,
    Timings,
)
from tests.patience import HANG_S
from worker.settings import KafkaSettings

UNANSWERABLE = "poison"
UNANSWERED = "silence"
HELD = "hold"
"""Its contexts are sent, and its answer once ``FakeWorker.may_answer`` is set."""
CONTEXT = ContextInfo(document_id="d1", text="a passage\x1b[2J of d1", recall_rank=3, distance=0.5, rerank_rank=1)


class FakeWorker:
    """Answers each query twice, as at-least-once may; dead-letters one text, ignores one and holds one back."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.seen: list[tuple[bytes | None, wire.Headers]] = []
        self.asked: list[QueryEvent] = []
        self.may_answer = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self.may_answer.set()
        self._thread.join(HANG_S)

    def _run(self) -> None:
        servers = {"bootstrap.servers": self._kafka.bootstrap_servers}
        consumer = Consumer(
            servers
            | {
                "group.id": self._kafka.group_id,
                "group.protocol": "consumer",
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 10,
            }
        )
        producer = Producer(servers)
        consumer.subscribe([self._kafka.query_topic])
        while not self._stop.is_set():
            message = consumer.poll(0.05)
            if message is None or message.error():
                continue
            headers = message.headers() or []
            reply_topic = wire.header(headers, wire.REPLY_TOPIC)
            self.seen.append((message.key(), headers))
            event = wire.decode_query(message.value())
            self.asked.append(event)
            if event.text == UNANSWERABLE:
                info = DeadLetterInfo(
                    error_kind="poison",
                    error_class="unknown_collection",
                    error_message="no such collection",
                    source_topic=message.topic(),
                    source_partition=message.partition(),
                    source_offset=message.offset(),
                )
                producer.produce(
                    self._kafka.dead_letter_topic, message.value(), headers=wire.dead_letter_headers(info, headers)
                )
                if reply_topic is not None:
                    failure = Failure(kind=info.error_kind, code=info.error_class, reason=info.error_message)
                    failed = answered(event).model_copy(update={"status": AnswerStatus.FAILED, "failure": failure})
                    producer.produce(reply_topic, wire.encode_answer(failed), headers=wire.passthrough_headers(headers))
            elif event.text != UNANSWERED:
                if event.text == HELD:
                    self._send_contexts(producer, event, headers)
                    self.may_answer.wait(HANG_S)
                value = wire.encode_answer(answered(event))
                for _ in range(2):
                    topic = reply_topic or self._kafka.answer_topic
                    producer.produce(topic, value, headers=wire.passthrough_headers(headers))
            producer.poll(0)
        producer.flush(HANG_S)
        consumer.close()

    def _send_contexts(self, producer: Producer, event: QueryEvent, headers: wire.Headers) -> None:
        assert self._kafka.contexts_topic is not None
        contexts = ContextsEvent(
            query_id=event.id,
            query_text=event.text,
            attempt_id="a1",
            contexts=[CONTEXT],
            timings_ms=ContextsTimings(queue=0, recall=0, rerank=0, total=0),
            models=Models(),
            worker="fake",
            made_at=datetime.now(UTC),
        )
        # Somebody else's record first: it is nobody's contexts.
        for value in (b"none of ours", wire.encode_contexts(contexts)):
            producer.produce(self._kafka.contexts_topic, value, headers=wire.passthrough_headers(headers))
        producer.flush(HANG_S)


def answered(event: QueryEvent) -> AnswerEvent:
    return AnswerEvent(
        query_id=event.id,
        query_text=event.text,
        status=AnswerStatus.NO_CONTEXT,
        timings_ms=Timings(queue=0, recall=0, rerank=0, answer=0, total=0),
        models=Models(),
        worker="fake",
        answered_at=datetime.now(UTC),
    )
