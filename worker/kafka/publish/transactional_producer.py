"""One Kafka transaction at a time: records and consumer offsets that become visible together or not at all."""

import contextlib
import time
from collections.abc import Callable, Sequence

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from worker.errors import FatalError, TransientError
from worker.kafka.codes import FENCED, GROUP_MOVED_ON, PRODUCER_FATAL, PURGED, UNKNOWN_TOPIC
from worker.kafka.config import METADATA_TIMEOUT_S, tell_error, transactional_config
from worker.kafka.deliver.outcome import Publication
from worker.settings import KafkaSettings

logger = structlog.get_logger()

# One attempt of a step. Short, so that a close is noticed between two.
STEP_TIMEOUT_S = 2.0


class RecordsRefusedError(Exception):
    """The transaction is aborted because of these records: index in what was given to ``transact`` to the error."""

    def __init__(self, errors: dict[int, KafkaError]) -> None:
        super().__init__(f"{len(errors)} record(s) refused")
        self.errors = errors


class AbandonedError(Exception):
    """The transaction is aborted because its offsets may not be committed any more: the group has moved on."""


class TransactionalProducer:
    """Blocking, for one thread at a time; ``close`` may come from any."""

    def __init__(self, kafka: KafkaSettings, transactional_id: str, client_id: str | None = None) -> None:
        self._kafka = kafka
        self._id = transactional_id
        config = transactional_config(kafka, transactional_id, client_id)
        self._producer = Producer(config | {"error_cb": self._on_error})
        self._fatal: KafkaError | None = None
        self._must_abort = False
        self._unknown_topics: set[str] = set()
        self._closing = False

    def start(self) -> None:
        """Fence former owners of the transactional.id and end what they left open. FatalError if the broker refuses."""
        deadline_s = time.monotonic() + self._kafka.startup_timeout_s
        try:
            self._until_done(self._producer.init_transactions, lambda: time.monotonic() > deadline_s)
        except TransientError as error:
            raise FatalError(f"no transactions with transactional.id {self._id}: {error}") from error

    def transact(
        self,
        publications: Sequence[Publication],
        offsets: Sequence[TopicPartition],
        group: object,
        *,
        singly: bool,
        may_commit: Callable[[], bool],
    ) -> None:
        """Publish and commit together; when this raises, readers see nothing of it.

        ``singly`` waits for each record before the next, so that none is refused for the batch it travels in.
        ``may_commit`` is asked right before the offsets are sent. Raises RecordsRefusedError, AbandonedError,
        TransientError (try the same again) or FatalError (fenced, or not allowed).
        """
        if self._must_abort:
            self._abort()
        self._look_up_again()
        self._until_done(lambda _: self._producer.begin_transaction())
        self._must_abort = True
        try:
            self._publish(publications, singly=singly)
            self._commit(offsets, group, may_commit)
        except (RecordsRefusedError, AbandonedError, TransientError):
            self._abort()
            raise
        self._must_abort = False

    def close(self) -> None:
        """Let a call that is under way end soon, aborting what it can; take no more."""
        self._closing = True

    def _publish(self, publications: Sequence[Publication], *, singly: bool) -> None:
        errors: dict[int, KafkaError] = {}
        produced = True
        for index, publication in enumerate(publications):
            produced = self._produce(index, publication, errors)
            if singly:
                self._flush(errors)
            if errors or not produced:
                break
        self._flush(errors)
        if errors:
            self._unknown_topics |= {
                publications[i].topic for i, error in errors.items() if error.code() in UNKNOWN_TOPIC
            }
            raise RecordsRefusedError(errors)
        if not produced:
            raise TransientError("the transaction failed before all of its records were taken")

    def _commit(self, offsets: Sequence[TopicPartition], group: object, may_commit: Callable[[], bool]) -> None:
        if not may_commit():
            raise AbandonedError
        if offsets:
            self._until_done(
                lambda timeout_s: self._producer.send_offsets_to_transaction(list(offsets), group, timeout_s)
            )
        # From here on only the broker knows: asking again until it answers is the one safe thing.
        self._until_done(self._producer.commit_transaction)

    def _produce(self, index: int, publication: Publication, errors: dict[int, KafkaError]) -> bool:
        def report(error: KafkaError | None, _message: Message) -> None:
            # Served by flush, on this thread. A record that is purged was not itself at fault.
            if error is not None and error.code() not in PURGED:
                errors[index] = error

        while True:
            try:
                self._producer.produce(
                    publication.topic,
                    partition=publication.partition,
                    key=publication.key,
                    value=publication.value,
                    headers=list(publication.headers),
                    on_delivery=report,
                )
            except BufferError:
                self._producer.poll(STEP_TIMEOUT_S)
                self._check_open()
            except KafkaException as error:
                self._raise_if_fatal(error.args[0])
                # The transaction has failed already, by a record before this one: flushing tells by which.
                if error.args[0].code() != KafkaError._STATE:  # noqa: SLF001
                    errors[index] = error.args[0]
                return False
            else:
                return True

    def _flush(self, errors: dict[int, KafkaError]) -> None:
        try:
            while self._producer.flush(STEP_TIMEOUT_S) and not errors:
                self._check_open()
        except (KafkaException, SystemError) as failure:
            # A fatal error comes out of whatever serves callbacks: as itself, or, where a delivery report follows it,
            # as the cause of the interpreter's complaint about that.
            kafka = failure if isinstance(failure, KafkaException) else failure.__cause__
            if not isinstance(kafka, KafkaException):
                raise
            self._raise_if_fatal(kafka.args[0])
            raise TransientError(f"Kafka transaction failed: {kafka.args[0].str()}") from failure
        for error in errors.values():
            self._raise_if_fatal(error)

    def _abort(self) -> None:
        self._until_done(self._producer.abort_transaction)
        self._must_abort = False

    def _until_done(self, step: Callable[[float], None], give_up: Callable[[], bool] = lambda: False) -> None:
        while True:
            try:
                step(STEP_TIMEOUT_S)
            except KafkaException as failure:
                error = failure.args[0]
                self._raise_if_fatal(error)
                if error.code() in GROUP_MOVED_ON:
                    raise AbandonedError from failure
                text = f"{error.name()}: {error.str()}"
                if not error.retriable() or give_up():
                    raise TransientError(f"Kafka transaction failed: {text}") from failure
                self._check_open()
            else:
                return

    def _check_open(self) -> None:
        if self._closing:
            raise TransientError("the worker ends before its transaction")

    def _raise_if_fatal(self, error: KafkaError) -> None:
        if error.code() == KafkaError._FATAL:  # noqa: SLF001
            error = self._which_fatal(error)
        if error.code() in FENCED:
            raise FatalError(
                f"fenced: another process uses transactional.id {self._id}, or this one did not end a transaction "
                f"within {self._kafka.transaction_timeout_s:g} s; each needs a RERANK_WORKER_WORKER_ID of its own"
            )
        if error.fatal() or error.code() in PRODUCER_FATAL:
            raise FatalError(f"Kafka transactions with transactional.id {self._id}: {error.name()}: {error.str()}")

    def _which_fatal(self, error: KafkaError) -> KafkaError:
        """Return which error it was: a call that comes after it says only that there was one."""
        # The callback may not have been served yet; serving it may raise the error besides.
        with contextlib.suppress(KafkaException, SystemError):
            self._producer.poll(0)
        return error if self._fatal is None else self._fatal

    def _look_up_again(self) -> None:
        # librdkafka asks for a topic that was missing only every few minutes.
        for topic in self._unknown_topics:
            with contextlib.suppress(KafkaException):
                self._producer.list_topics(topic, METADATA_TIMEOUT_S)
        self._unknown_topics.clear()

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = error
        tell_error("kafka producer error", error)
