"""Kafka kept as busy as a worker keeps it, with nothing scored: what else takes of a machine that scores bare."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer, Producer

from benchmarks.stack import Asker, Observer
from schemas.events import QueryEvent
from worker.kafka.config import consumer_config, outcome_config
from worker.settings import KafkaSettings

POLL_S = 0.1


class Traffic:
    """Events asked, answered with the same bytes at a steady rate, and observed, on topics of its own.

    The broker sees what a worker shows it: its own settings of consumer and producer, one answer a query, commits as
    often. The clients are librdkafka's, with threads in this process, and take next to nothing.
    """

    def __init__(self, kafka: KafkaSettings, answer: bytes) -> None:
        self._kafka = kafka
        self._answer = answer
        self._asker, self._observer = Asker(kafka), Observer(kafka, keep=False)
        commits = {"enable.auto.commit": True, "auto.commit.interval.ms": int(kafka.commit_interval_s * 1000)}
        self._consumer = Consumer(consumer_config(kafka) | {"enable.auto.offset.store": True} | commits)
        self._consumer.subscribe([kafka.query_topic])
        self._producer = Producer(outcome_config(kafka))
        self._gap_s = 0.0
        self._at_once = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._thread.start()

    @contextmanager
    def flowing(self, event: QueryEvent, per_second: float, events: int) -> Iterator[Observer]:
        """Have the event asked so many times and answered at that rate meanwhile, from the first answer on.

        What is left at the end is answered at once. RuntimeError if nothing was: then it did not flow all the while.
        """
        first, self._gap_s = self._observer.count, 1 / per_second
        self._at_once.clear()
        try:
            for _ in range(events):
                self._asker.ask(event)
            self._asker.flush()
            self._observer.await_count(first + 1)
            yield self._observer
            if self._observer.count >= first + events:
                raise RuntimeError(f"{events} events were too few to last")
        finally:
            self._at_once.set()
        self._observer.await_count(first + events)

    def close(self) -> None:
        self._stopping.set()
        self._at_once.set()
        self._thread.join(10)
        self._consumer.close()
        self._producer.flush(10)
        self._observer.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            message = self._consumer.poll(POLL_S)
            if message is None or message.error() is not None:
                continue
            partition = message.partition()
            assert partition is not None, "it was fetched from one"
            self._producer.produce(self._kafka.answer_topic, self._answer, message.key(), partition)
            self._producer.poll(0)
            self._at_once.wait(self._gap_s)
