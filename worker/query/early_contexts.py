"""Contexts first: what an answer will rest on leaves when it begins to be written, where a topic is set for that.

No outcome: no offset and no answer waits for it, and what becomes of it changes neither. The answer repeats it all.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from schemas import wire
from schemas.events import Models, QueryEvent
from worker.kafka.deliver.outcome import Publication
from worker.kafka.publish.best_effort import BestEffort
from worker.query.mapping import contexts_event
from worker.query.outcomes import Asked
from worker.query.pipeline import Outcome
from worker.telemetry.tracing import Sending


@dataclass(frozen=True, slots=True)
class EarlyContexts:
    """Sends the contexts of every query to one topic. Used on the loop's thread."""

    topic: str
    producer: BestEffort
    models: Models
    unix_time_s: Callable[[], float] = time.time

    def send(self, asked: Asked, event: QueryEvent, outcome: Outcome) -> None:
        """Hand over what is known of the outcome; see ``OnContexts``."""
        contexts = contexts_event(event, outcome, asked.attempt, models=self.models, now_s=self.unix_time_s())
        headers, sending = asked.send(self.topic)
        self.producer.publish(
            _Contexts(
                self.topic,
                key=asked.record.key,
                value=wire.encode_contexts(contexts),
                headers=headers,
                asked=asked,
                sending=sending,
            )
        )


@dataclass(frozen=True, slots=True)
class _Contexts(Publication):
    asked: Asked
    sending: Sending | None

    def acknowledged(self) -> None:
        asked = self.asked
        if self.sending is not None:
            self.sending.end()
        asked.metrics.observe_contexts(
            asked.unix_time_s() - asked.asked_at_s, exemplar=None if asked.trace is None else asked.trace.exemplar
        )
