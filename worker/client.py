"""Asking from the outside: produce query events, wait for their answers. Blocking, for command lines and tests."""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, Message, Producer
from confluent_kafka import TopicPartition as Partition

from schemas import wire
from schemas.contexts import ContextsEvent
from schemas.events import AnswerEvent, QueryEvent
from worker.errors import FatalError, PoisonError, TransientError
from worker.kafka.admin.group import describe_progress
from worker.kafka.admin.topics import ensure, watermarks
from worker.kafka.codes import LEADER_MOVING
from worker.kafka.config import common_config, producer_config
from worker.kafka.consume.records import Record, from_message
from worker.settings import KafkaSettings

# How late a deadline or Ctrl-C may be noticed.
POLL_S = 0.2
CLOSE_TIMEOUT_S = 1.0


class QueryClient:
    """Produces queries and reads every partition of the answer and dead-letter topics, joining no group.

    It sees what is published after it was made. Use from one thread, as a context manager. Making one blocks up to
    ``startup_timeout_s``; FatalError if no broker answers or a topic is missing.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        *,
        reply_topic: str | None = None,
        on_contexts: Callable[[ContextsEvent], None] | None = None,
    ) -> None:
        """``reply_topic``: the replies go there, and no other topic is read; the worker must allow it.

        ``on_contexts`` sees what an answer will rest on, if that comes first: ``kafka.contexts_topic`` is read for it,
        where one is set.
        """
        self._kafka = kafka
        self._on_contexts = on_contexts
        self._reply_topic = reply_topic
        self._partitions = {topic.name: topic.partitions for topic in ensure(kafka, create=False)}
        self._consumer = Consumer(
            common_config(kafka)
            | {
                # Obligatory, though nothing is joined or committed: assign() instead of subscribe().
                "group.id": f"rerank-worker-client-{uuid.uuid4()}",
                "enable.auto.commit": False,
                # The mock broker does not wake a waiting fetch; at the default of 500 ms it would look slow.
                "fetch.wait.max.ms": 50,
            }
        )
        self._producer = Producer(producer_config(kafka))
        # Looked up now, before anything is asked: an answer right after its question must not be missed.
        topics = [kafka.answer_topic, kafka.dead_letter_topic] if reply_topic is None else [reply_topic]
        if on_contexts is not None and kafka.contexts_topic is not None:
            topics.append(kafka.contexts_topic)
        self._partitions |= {topic: self._count(topic) for topic in topics if topic not in self._partitions}
        self._consumer.assign([partition for topic in topics for partition in self._at_end(topic)])

    def ask(
        self, event: QueryEvent, *, timeout_s: float, key: str | None = None, headers: wire.Headers = ()
    ) -> AnswerEvent:
        """Produce one query and return its answer; as ``ask_all`` does, raising what it raises."""
        [answer] = self.ask_all([event], timeout_s=timeout_s, key=key, headers=headers)
        return answer

    def ask_all(
        self,
        events: Sequence[QueryEvent],
        *,
        timeout_s: float,
        on_answer: Callable[[AnswerEvent], None] = lambda _: None,
        key: str | None = None,
        headers: wire.Headers = (),
    ) -> list[AnswerEvent]:
        """Produce the queries and return their answers in the same order; ``on_answer`` sees each as it comes.

        ``key`` is the records', instead of each query's id; ``headers`` go along: any but ``correlation-id``
        and ``reply-topic``, which are the client's.
        Raises TransientError if not all come within ``timeout_s``, PoisonError if one failed, FatalError
        if Kafka does not take a query.
        """
        deadline_s = time.monotonic() + timeout_s
        awaited = [str(uuid.uuid4()) for _ in events]
        self._produce(dict(zip(awaited, events, strict=True)), deadline_s, key, headers)
        answers: dict[str, AnswerEvent] = {}
        while len(answers) < len(awaited):
            if time.monotonic() >= deadline_s:
                missing = len(awaited) - len(answers)
                which = f"{missing} of {len(awaited)} answers did not come" if len(awaited) > 1 else "no answer"
                raise TransientError(f"{which} within {timeout_s:g} s: {self._why_none()}")
            record = self._poll()
            correlation_id = None if record is None else wire.header(record.headers, wire.CORRELATION_ID)
            if record is None or correlation_id not in awaited or correlation_id in answers:
                continue
            if record.position.topic == self._kafka.contexts_topic:
                self._tell_contexts(record)
                continue
            answers[correlation_id] = self._read(record)
            on_answer(answers[correlation_id])
        return [answers[correlation_id] for correlation_id in awaited]

    def tail(self, *, from_beginning: bool = False) -> Iterator[AnswerEvent]:
        """Yield answers as they come, for ever; ``from_beginning``: the oldest the topic still has first."""
        topic = self._kafka.answer_topic
        if from_beginning:
            partitions = range(self._partitions[topic])
            self._consumer.assign([Partition(topic, number, OFFSET_BEGINNING) for number in partitions])
        while True:
            record = self._poll()
            if record is None or record.position.topic != topic:
                continue
            try:
                yield wire.decode_answer(record.value)
            except wire.WireError:
                # Somebody else's record on the topic is none of this reader's business.
                continue

    def close(self) -> None:
        """Close both clients; what was not delivered by now is not waited for."""
        self._consumer.close()
        self._producer.purge()
        self._producer.flush(CLOSE_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _why_none(self) -> str:
        progress = describe_progress(self._kafka)
        if self._reply_topic is None:
            return progress
        return f"{progress}; the worker must have {self._reply_topic} among its kafka.reply_topics"

    def _count(self, topic: str) -> int:
        try:
            count = len(
                self._consumer.list_topics(topic, timeout=self._kafka.startup_timeout_s).topics[topic].partitions
            )
        except KafkaException as error:
            raise FatalError(f"Kafka topic {topic} can't be looked up: {error.args[0].str()}") from error
        if not count:
            raise FatalError(f"there is no Kafka topic {topic} for the reply")
        return count

    def _at_end(self, topic: str) -> list[Partition]:
        try:
            return [self._end_of(Partition(topic, number, OFFSET_END)) for number in range(self._partitions[topic])]
        except KafkaException as error:
            raise FatalError(f"the end of Kafka topic {topic} can't be looked up: {error.args[0].str()}") from error

    def _end_of(self, partition: Partition) -> Partition:
        _, end = watermarks(self._consumer, self._kafka, partition)
        return Partition(partition.topic, partition.partition, end)

    def _produce(
        self, events: dict[str, QueryEvent], deadline_s: float, key: str | None, headers: wire.Headers
    ) -> None:
        refused: list[KafkaError] = []

        def on_delivery(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                refused.append(error)

        topic = self._kafka.query_topic
        for correlation_id, event in events.items():
            # Ours first: only so many come back on the answer, and it is told by its correlation id.
            own: list[tuple[str, str | bytes | None]] = [(wire.CORRELATION_ID, correlation_id.encode())]
            if self._reply_topic is not None:
                own.append((wire.REPLY_TOPIC, self._reply_topic.encode()))
            try:
                self._producer.produce(
                    topic,
                    key=event.id if key is None else key,
                    value=wire.encode_query(event),
                    headers=[*own, *headers],
                    on_delivery=on_delivery,
                )
            except KafkaException as error:
                raise FatalError(f"a query can't be sent to {topic}: {error.args[0].str()}") from error
        left = self._producer.flush(max(0.0, deadline_s - time.monotonic()))
        if refused:
            raise FatalError(f"Kafka did not take a query on {topic}: {refused[0].str()}")
        if left:
            raise TransientError(f"Kafka at {self._kafka.bootstrap_servers} did not take the queries in time")

    def _poll(self) -> Record | None:
        message = self._consumer.poll(POLL_S)
        if message is None:
            return None
        error = message.error()
        if error is not None and error.code() in LEADER_MOVING:
            # The consumer finds the new leader by itself; the deadline of whoever asks goes on.
            return None
        if error is not None:
            raise FatalError(f"reading answers failed: {error.str()}")
        return from_message(message)

    def _tell_contexts(self, record: Record) -> None:
        try:
            contexts = wire.decode_contexts(record.value)
        except wire.WireError:
            # Nobody waits for them; the answer will say what there is to say.
            return
        if self._on_contexts is not None:
            self._on_contexts(contexts)

    def _read(self, record: Record) -> AnswerEvent:
        if record.position.topic == self._kafka.dead_letter_topic:
            reason = wire.header(record.headers, wire.ERROR_CLASS) or "unknown"
            message = wire.header(record.headers, wire.ERROR_MESSAGE) or "it says not why"
            raise PoisonError(reason, f"the query was dead-lettered ({reason}): {message}")
        try:
            answer = wire.decode_answer(record.value)
        except wire.WireError as error:
            raise FatalError(f"the answer is of another version of the contract: {error}") from error
        if answer.failure is not None:
            raise PoisonError(answer.failure.code, f"the query failed ({answer.failure.code}): {answer.failure.reason}")
        return answer
