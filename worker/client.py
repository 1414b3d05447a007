"""Asking from the outside: produce query events, wait for their answers. Blocking, for command lines and tests."""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from schemas import wire
from schemas.events import AnswerEvent, QueryEvent
from worker.errors import FatalError, TransientError
from worker.kafka.config import common_config, producer_config
from worker.settings import KafkaSettings

POLL_S = 0.2


class QueryClient:
    """Produces queries and reads every partition of the answer topic, without a consumer group: it leaves no trace.

    Use from one thread, as a context manager. FatalError if no broker answers or the answer topic is missing.
    """

    def __init__(self, kafka: KafkaSettings, *, from_beginning: bool = False) -> None:
        self._kafka = kafka
        self._consumer = Consumer(
            common_config(kafka)
            # A group id is obligatory in the client, though nothing joins: assign() instead of subscribe().
            | {"group.id": f"rerank-worker-client-{uuid.uuid4()}", "enable.auto.commit": False}
        )
        self._producer = Producer(producer_config(kafka))
        start = OFFSET_BEGINNING if from_beginning else OFFSET_END
        # The end is looked up now: an answer that comes right after the question must not be missed.
        self._consumer.assign([self._at(number, start) for number in self._answer_partitions()])

    def ask(self, event: QueryEvent, *, timeout_s: float) -> AnswerEvent:
        """Produce one query and return its answer. TransientError if none comes in time."""
        [answer] = self.ask_all([event], timeout_s=timeout_s)
        return answer

    def ask_all(
        self,
        events: Sequence[QueryEvent],
        *,
        timeout_s: float,
        on_answer: Callable[[AnswerEvent], None] = lambda _: None,
    ) -> list[AnswerEvent]:
        """Produce the queries and return their answers in the same order; ``on_answer`` sees each as it comes.

        Raises TransientError if not all come within ``timeout_s``, FatalError if a query can't be produced.
        """
        deadline_s = time.monotonic() + timeout_s
        for event in events:
            self._produce(event)
        if self._producer.flush(timeout_s):
            raise TransientError(f"Kafka at {self._kafka.bootstrap_servers} did not take the queries in time")
        answers: dict[str, AnswerEvent] = {}
        wanted = {event.id for event in events}
        while wanted - answers.keys():
            if time.monotonic() >= deadline_s:
                missing = len(wanted - answers.keys())
                raise TransientError(
                    f"{missing} of {len(wanted)} answers did not come within {timeout_s:g} s; is a worker running on "
                    f"{self._kafka.bootstrap_servers} (`rerank-worker run`)? Or see {self._kafka.dead_letter_topic}"
                )
            answer = self._next_answer()
            if answer is not None and answer.query_id in wanted and answer.query_id not in answers:
                answers[answer.query_id] = answer
                on_answer(answer)
        return [answers[event.id] for event in events]

    def answers(self) -> Iterator[AnswerEvent]:
        """Yield answers as they come, for ever."""
        while True:
            answer = self._next_answer()
            if answer is not None:
                yield answer

    def close(self) -> None:
        """Close both clients."""
        self._consumer.close()
        self._producer.flush(POLL_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer_partitions(self) -> list[int]:
        topic = self._kafka.answer_topic
        try:
            found = self._consumer.list_topics(topic, timeout=self._kafka.startup_timeout_s).topics[topic]
        except KafkaException as error:
            raise FatalError(
                f"no Kafka broker answered at {self._kafka.bootstrap_servers}; "
                "set RERANK_WORKER_KAFKA__BOOTSTRAP_SERVERS, or start one with `rerank-worker local up`"
            ) from error
        if found.error is not None or not found.partitions:
            raise FatalError(f"Kafka has no topic {topic}; create it with `rerank-worker topics --create`")
        return list(found.partitions)

    def _at(self, partition: int, start: int) -> TopicPartition:
        if start != OFFSET_END:
            return TopicPartition(self._kafka.answer_topic, partition, start)
        _, end = self._consumer.get_watermark_offsets(
            TopicPartition(self._kafka.answer_topic, partition), timeout=self._kafka.startup_timeout_s
        )
        return TopicPartition(self._kafka.answer_topic, partition, end)

    def _produce(self, event: QueryEvent) -> None:
        self._producer.produce(
            self._kafka.query_topic,
            key=event.id.encode(),
            value=wire.encode_query(event),
            headers=[(wire.CORRELATION_ID, event.id.encode())],
            on_delivery=_raise_undelivered,
        )

    def _next_answer(self) -> AnswerEvent | None:
        message = self._consumer.poll(POLL_S)
        if message is None:
            return None
        error = message.error()
        if error is not None:
            raise FatalError(f"reading {self._kafka.answer_topic} failed: {error.str()}")
        try:
            value = message.value()
            return wire.decode_answer(value.encode() if isinstance(value, str) else value)
        except wire.WireError:
            # Somebody else's record on the topic is none of this reader's business.
            return None


def _raise_undelivered(error: KafkaError | None, _message: object) -> None:
    if error is not None:
        raise FatalError(f"Kafka did not take a query: {error.str()}")
