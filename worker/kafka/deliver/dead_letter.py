"""A record that is set aside: its key, value and headers as they came, and why; or a note of where it stands."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

from schemas import wire
from schemas.events import DeadLetterInfo
from worker.errors import PoisonError
from worker.kafka.consume.records import Record
from worker.kafka.deliver.outcome import Publication

logger = structlog.get_logger()

# A key that is longer is left out too where a dead letter does not fit its topic.
CLAIM_CHECK_KEY_BYTES = 1_024


@dataclass(frozen=True, slots=True)
class DeadLetter(Publication):
    """See ``dead_letter``."""

    record: Record
    info: DeadLetterInfo
    on_acknowledged: Callable[[str], None]
    """Told the reason, once the broker has it."""
    named: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    """What the log says of the event besides where it stands."""

    def acknowledged(self) -> None:
        """Count it, and say so; see ``Publication``."""
        info, position = self.info, self.record.position
        self.on_acknowledged(info.error_class)
        logger.warning(
            "dead-lettered",
            kind=info.error_kind,
            reason=info.error_class,
            message=info.error_message,
            topic=position.topic,
            partition=position.partition,
            offset=position.offset,
            **self.named,
        )

    def refused(self, error: PoisonError) -> Sequence[Publication] | None:  # noqa: ARG002 - not the event's fault
        """Return a dead letter that fits any topic: where the record stands, in place of what it holds."""
        # The event is still in its own topic: a note of where is better than a partition that stands still for ever.
        key = self.record.key
        return [
            _ClaimCheck(
                self.topic,
                key if key is not None and len(key) <= CLAIM_CHECK_KEY_BYTES else None,
                None,
                [*wire.dead_letter_headers(self.info, ()), (wire.VALUE_OMITTED, b"true")],
                self.record,
                self.info,
                self.on_acknowledged,
                named=self.named,
            )
        ]


@dataclass(frozen=True, slots=True)
class _ClaimCheck(DeadLetter):
    def refused(self, error: PoisonError) -> Sequence[Publication] | None:  # noqa: ARG002 - there is nothing smaller
        return None


def dead_letter(
    record: Record,
    kind: Literal["poison", "transient"],
    reason: str,
    message: str,
    *,
    topic: str,
    written_s: float,
    on_acknowledged: Callable[[str], None],
    named: Mapping[str, Any] | None = None,
) -> DeadLetter:
    """Return the record to be set aside on ``topic``.

    ``written_s``: its own timestamp, or what stands in for it; Unix seconds. One that its topic does
    not take for its size becomes a note, and is counted as itself.
    """
    position = record.position
    info = DeadLetterInfo(
        error_kind=kind,
        error_class=reason,
        error_message=message,
        source_topic=position.topic,
        source_partition=position.partition,
        source_offset=position.offset,
        source_timestamp=datetime.fromtimestamp(written_s, UTC),
        attempts=1 + wire.attempts(record.headers),
    )
    headers = wire.dead_letter_headers(info, record.headers)
    return DeadLetter(topic, record.key, record.value, headers, record, info, on_acknowledged, named=named or {})
