"""A client of librdkafka's that produces nothing and reports of each record as its topic says."""

import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from confluent_kafka import KafkaError

from tests.patience import HANG_S
from worker.kafka.publish import idempotent_producer

Report = Callable[[KafkaError | None, object], None]

REFUSALS = {"missing": KafkaError.UNKNOWN_TOPIC_OR_PART, "forbidden": KafkaError.TOPIC_AUTHORIZATION_FAILED}


class FakeClient:
    """Acknowledges at once, but for these topics.

    `away` never answers, `small` refuses, `beside` refuses what does not travel alone, `missing` is not there,
    `forbidden` not for us, for `full` the queue is full, and at `broken` the client breaks.
    """

    made: ClassVar["list[FakeClient]"] = []
    look_up = threading.Event()

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.sent: list[str] = []
        self.records: list[dict[str, Any]] = []
        self._reports: list[tuple[Report, KafkaError | None]] = []
        FakeClient.made.append(self)

    def produce(self, topic: str, *, on_delivery: Report, **record: Any) -> None:
        if topic == "full":
            raise BufferError
        if topic == "broken":
            raise RuntimeError("the client's handle is gone")
        self.sent.append(topic)
        self.records.append(record)
        alone = self.config.get("batch.num.messages") == 1
        refused = topic == "small" or (topic == "beside" and not alone)
        if topic in REFUSALS:
            self._reports.append((on_delivery, KafkaError(REFUSALS[topic])))
        elif topic != "away":
            self._reports.append((on_delivery, KafkaError(KafkaError.MSG_SIZE_TOO_LARGE) if refused else None))

    def list_topics(self, topic: str, timeout: float) -> None:
        assert FakeClient.look_up.wait(HANG_S)

    def poll(self, timeout: float) -> int:
        if not self._reports:
            # As the client's own, which waits for a report for some of its timeout.
            time.sleep(0.001)
        while self._reports:
            report, error = self._reports.pop(0)
            report(error, None)
        return 0

    def flush(self, timeout: float) -> int:
        return self.sent.count("away")


def fake_clients(monkeypatch: pytest.MonkeyPatch) -> list[FakeClient]:
    """Have producers make these; return those that were made. A look-up takes until ``FakeClient.look_up`` is set."""
    made: list[FakeClient] = []
    monkeypatch.setattr(idempotent_producer, "Producer", FakeClient)
    monkeypatch.setattr(FakeClient, "made", made)
    monkeypatch.setattr(FakeClient, "look_up", threading.Event())
    return made
