"""What a query event ends with, as records: an answer or a dead letter, and the reply to whoever named a topic for it.

A reply topic takes the place of the answer topic for that query's answer. A failure is told there, and is a dead letter
all the same: for the asker the one, for operators the other. Long: each kind stands beside what follows from it.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import structlog
from pydantic import JsonValue

from schemas import wire
from schemas.events import AnswerEvent, DeadLetterInfo
from schemas.replies import REPLY_REFUSED, ReplyRefusal, ReplyTo
from worker.errors import PoisonError
from worker.kafka.consume.records import Record
from worker.kafka.deliver.dead_letter import dead_letter
from worker.kafka.deliver.outcome import Publication
from worker.kafka.publish.reply_topics import ReplyTopics
from worker.query.mapping import Attempt, failed_event
from worker.settings import Settings
from worker.telemetry.metrics import Metrics
from worker.telemetry.tracing import EventTrace, Sending

logger = structlog.get_logger()

REFUSALS = frozenset(map(str, ReplyRefusal))


@dataclass(frozen=True, slots=True)
class Asked:
    """One query event as it was asked, read or not: all that its outcome needs, whatever that will be."""

    record: Record
    query_id: str
    """Empty where it could not be read, as is ``query_text``."""
    query_text: str
    metadata: dict[str, JsonValue] | None
    begun_at_s: float
    """Unix seconds."""
    settings: Settings
    metrics: Metrics
    reply_topics: ReplyTopics
    unix_time_s: Callable[[], float]
    reply: ReplyTo | ReplyRefusal | None = None
    """Where the reply goes; or why it does not go where it was wanted; None: to the answer topic, as by default."""
    trace: EventTrace | None = None
    """None where the query is not traced: its own context goes on as it came then."""
    attempt_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    """What this attempt is told by, for the same query may be worked on again."""

    @property
    def asked_at_s(self) -> float:
        """The event's Kafka timestamp, Unix seconds; when it was begun with where it has none."""
        return self.begun_at_s if self.record.timestamp_s is None else self.record.timestamp_s

    @property
    def attempt(self) -> Attempt:
        """What the events that come of it say of the attempt."""
        return Attempt(self.attempt_id, self.settings.worker_id, self.asked_at_s, self.begun_at_s)

    @property
    def log_fields(self) -> dict[str, Any]:
        """What every log line about this query says of it."""
        position = self.record.position
        return {
            "topic": position.topic,
            "partition": position.partition,
            "offset": position.offset,
            "query_id": self.query_id or None,
        }

    def answered(self, event: AnswerEvent, *, made_s: float | None = None) -> Publication:
        """Return the answer. ``made_s``: when it was made, on the monotonic clock; None: now."""
        to = self.reply if isinstance(self.reply, ReplyTo) else None
        topic = self.settings.kafka.answer_topic if to is None else to.topic
        if self.trace is not None:
            self.trace.note(event.status)
        headers, sending = self.send(topic)
        if isinstance(self.reply, ReplyRefusal):
            headers.append((REPLY_REFUSED, self.reply.encode()))
        return _Answer(
            topic,
            key=self.record.key,
            value=wire.encode_answer(event),
            headers=headers,
            asked=self,
            event=event,
            made_s=time.monotonic() if made_s is None else made_s,
            partition=-1 if to is None or to.partition is None else to.partition,
            asked_for=to is not None,
            sending=sending,
        )

    def send(self, topic: str) -> tuple[list[tuple[str, bytes | None]], Sending | None]:
        """Return the headers of a record about this query, and its way to the topic, begun now, if it is traced."""
        headers = wire.passthrough_headers(self.record.headers)
        if self.trace is None:
            return headers, None
        sending = self.trace.send(topic, self.record.key)
        return [*wire.without_trace(headers), *sending.headers], sending

    def dead_letter(self, kind: Literal["poison", "transient"], reason: str, message: str) -> Publication:
        """Return the record to be set aside, with why; and the reply that tells so, if one is wanted."""
        if self.trace is not None:
            self.trace.failed(reason)
        letter = dead_letter(
            self.record,
            kind,
            reason,
            message,
            topic=self.settings.kafka.dead_letter_topic,
            written_s=self.asked_at_s,
            on_acknowledged=self._set_aside,
            named={"query_id": self.query_id or None},
        )
        if not isinstance(self.reply, ReplyTo):
            return letter
        return replace(letter, also=[self._failed(letter.info, self.reply)])

    def _set_aside(self, reason: str) -> None:
        self.metrics.observe_dead_letter(reason)
        self.count_reply()

    def _failed(self, info: DeadLetterInfo, to: ReplyTo) -> Publication:
        event = failed_event(
            info,
            self.attempt,
            query_id=self.query_id,
            query_text=self.query_text,
            metadata=self.metadata,
            now_s=self.unix_time_s(),
        )
        return _FailedReply(
            to.topic,
            key=self.record.key,
            value=wire.encode_answer(event),
            headers=wire.passthrough_headers(self.record.headers),
            asked=self,
            partition=-1 if to.partition is None else to.partition,
            asked_for=True,
        )

    def count_reply(self, outcome: str | None = None) -> None:
        """Count what became of the reply, if one was wanted: ``outcome``, or where ``reply`` says it went."""
        if isinstance(self.reply, ReplyRefusal):
            outcome = self.reply
        if outcome is not None:
            self.metrics.replies.labels(outcome=outcome).inc()


@dataclass(frozen=True, slots=True)
class _Answer(Publication):
    asked: Asked
    event: AnswerEvent
    made_s: float
    """On the monotonic clock."""
    sending: Sending | None

    def acknowledged(self) -> None:
        asked, event = self.asked, self.event
        if self.sending is not None:
            self.sending.end()
        asked.metrics.observe_answer(
            event,
            publish_s=time.monotonic() - self.made_s,
            end_to_end_s=asked.unix_time_s() - asked.asked_at_s,
            exemplar=None if asked.trace is None else asked.trace.exemplar,
        )
        asked.count_reply("sent" if self.asked_for else None)
        logger.debug("answered", status=event.status, total_ms=event.timings_ms.total, **asked.log_fields)

    def refused(self, error: PoisonError) -> Sequence[Publication]:
        if error.reason not in REFUSALS:
            return [self.asked.dead_letter("poison", error.reason, str(error))]
        return [_without_reply(self.asked, self.topic, error).answered(self.event, made_s=self.made_s)]


@dataclass(frozen=True, slots=True)
class _FailedReply(Publication):
    """Beside a dead letter."""

    asked: Asked

    def acknowledged(self) -> None:
        self.asked.count_reply("sent")

    def refused(self, error: PoisonError) -> Sequence[Publication]:
        # The dead letter is there; no one's queries wait for a reply that its own topic does not take.
        if error.reason in REFUSALS:
            _without_reply(self.asked, self.topic, error).count_reply()
        else:
            logger.warning("a reply was refused", reply_topic=self.topic, reason=str(error), **self.asked.log_fields)
            self.asked.count_reply(error.reason)
        return []


def _without_reply(asked: Asked, topic: str, error: PoisonError) -> Asked:
    """Return what was asked as its outcome is told from now on: not to the topic it named."""
    refusal = ReplyRefusal(error.reason)
    logger.warning("a reply topic refuses", reply_topic=topic, reason=str(error), **asked.log_fields)
    asked.reply_topics.refuse(topic, refusal)
    return replace(asked, reply=refusal)
