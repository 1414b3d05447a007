"""What a transaction that can't go on says of it, whichever call meets the error first."""

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from worker.errors import FatalError
from worker.kafka.deliver.outcome import Publication
from worker.kafka.publish import transactional_producer as module
from worker.kafka.publish.transactional_producer import TransactionalProducer
from worker.settings import KafkaSettings


class FakeFencedProducer:
    """Fenced by a namesake: ``produce`` knows only that something was fatal, what it was comes with the callbacks."""

    def __init__(self, configuration: dict[str, Any]) -> None:
        self._tell: Callable[[KafkaError], None] = configuration["error_cb"]

    def begin_transaction(self) -> None:
        pass

    def produce(self, *_: object, **__: object) -> None:
        raise KafkaException(KafkaError(KafkaError._FATAL, "Unable to produce message: Local: Fatal error"))

    def poll(self, _timeout_s: float) -> int:
        fenced = KafkaError(KafkaError._FENCED, "fenced", fatal=True)
        self._tell(fenced)
        raise KafkaException(fenced)


def test_a_producer_that_was_fenced_says_so_in_whatever_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Producer", FakeFencedProducer)
    producer = TransactionalProducer(KafkaSettings(), "workers-same")
    with pytest.raises(FatalError, match=r"fenced: another process uses transactional.id workers-same"):
        producer.transact(
            [Publication("answers", key=None, value=b"", headers=[])], [], None, singly=False, may_commit=lambda: True
        )
