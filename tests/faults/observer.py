"""The reader that tells the oracle of everything that is asked, and that comes of it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas import wire
from tests.faults.oracle import SequenceOracle, Verdict
from tests.faults.traffic import POISON, client_config, query_id_of
from tests.patience import HANG_S
from worker.kafka.consume.offsets import LogId
from worker.local.process import await_condition
from worker.settings import KafkaSettings

REQUEST_TIMEOUT_S = 20.0


class Observer:
    """Reads the three topics and the group's offsets, in a thread of its own, and tells the oracle.

    Sees what a ``read_committed`` reader sees. Each round looks up the committed offsets first and reads all that
    stands in the topics after: an outcome acknowledged before its offset was committed must be among it.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._oracle = SequenceOracle()
        self._telling = threading.Lock()
        self._rounds = 0
        self._kafka = kafka
        self._admin = AdminClient(client_config(kafka))
        self._connect()
        self._read_to: dict[tuple[str, int], int] = {}
        # Held through a round.
        self._looking = threading.Lock()
        self._log: LogId | None = None
        self._failed: BaseException | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._thread.start()

    def await_outcomes(self, events: int, timeout_s: float) -> Verdict:
        """Return the verdict once this many events were seen, have their outcome and are committed, or time is up."""
        deadline_s = time.monotonic() + timeout_s
        await_condition(lambda: self._failed is not None or self._settled(events), timeout_s=timeout_s)
        if self._failed is not None:
            raise self._failed
        # One whole round more: what is repeated or committed late is seen too.
        seen = self._rounds
        await_condition(lambda: self._rounds >= seen + 2, timeout_s=deadline_s - time.monotonic())
        with self._telling:
            return self._oracle.verdict()

    def close(self) -> None:
        """Stop, and join the thread."""
        self._stopping.set()
        self._thread.join(HANG_S)
        self._disconnect()

    def _connect(self) -> None:
        # Of the group by name only: it never subscribes.
        self._group = Consumer(
            client_config(self._kafka) | {"group.id": self._kafka.group_id, "isolation.level": "read_uncommitted"}
        )
        self._consumer = Consumer(
            client_config(self._kafka)
            | {
                "group.id": f"observer-of-{self._kafka.group_id}",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                # How late an end is told: by a fetch that finds nothing.
                "fetch.wait.max.ms": 100,
            }
        )

    def _disconnect(self) -> None:
        self._consumer.close()
        self._group.close()

    @property
    def progress(self) -> tuple[int, int]:
        """Queries seen so far, and those of them without an outcome."""
        with self._telling:
            return self._oracle.seen, self._oracle.pending

    @contextmanager
    def not_looking(self) -> Iterator[None]:
        """Look away while the query topic, read to its end, is made again; what comes then is of another log."""
        with self._looking:
            assert self._read_until(self._ends(self._partitions()))
            yield
            # Clients that know the old topic may look for the new one where it is not.
            self._disconnect()
            self._connect()
            stay = {each: at for each, at in self._read_to.items() if each[0] != self._kafka.query_topic}
            self._consumer.incremental_assign([TopicPartition(*each, at) for each, at in stay.items()])
            self._read_to = stay
            with self._telling:
                self._oracle.topic_made_again()

    def believe(self, log: LogId) -> None:
        """Of commits that say of which log they are, count those of this one alone."""
        self._log = log

    def _settled(self, events: int) -> bool:
        seen, pending = self.progress
        return seen >= events and pending == 0

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    with self._looking:
                        self._round()
                except KafkaException:
                    # A broker is down, or moves: the next round sees what this one did not.
                    self._stopping.wait(0.2)
        except BaseException as error:  # noqa: BLE001 - told to whoever waits for the verdict
            self._failed = error

    def _round(self) -> None:
        partitions = self._partitions()
        committed = self._committed(partitions)
        if not self._read_until(self._ends(partitions)):
            return
        with self._telling:
            for commit in committed:
                if self._oracle.committed(commit.partition, commit.offset):
                    print(f"committed early: {commit} that notes {commit.metadata}; this is {self._log}", flush=True)
        self._rounds += 1

    def _partitions(self) -> list[tuple[str, int]]:
        """Every partition there is now; new ones are read from their beginning."""
        topics = (self._kafka.query_topic, self._kafka.answer_topic, self._kafka.dead_letter_topic)
        known = self._admin.list_topics(timeout=REQUEST_TIMEOUT_S).topics
        # A broker may not have heard yet of a topic that has just been made again.
        found = [(topic, number) for topic in topics if topic in known for number in known[topic].partitions]
        if new := [each for each in found if each not in self._read_to]:
            self._consumer.incremental_assign([TopicPartition(*each, 0) for each in new])
            self._read_to |= dict.fromkeys(new, 0)
        return found

    def _committed(self, partitions: list[tuple[str, int]]) -> list[TopicPartition]:
        wanted = [TopicPartition(*each) for each in partitions if each[0] == self._kafka.query_topic]
        found = self._group.committed(wanted, timeout=REQUEST_TIMEOUT_S)
        return [each for each in found if each.offset > 0 and self._counts(each)]

    def _counts(self, commit: TopicPartition) -> bool:
        noted = LogId.from_metadata(commit.metadata)
        # Of a worker that has not noticed yet that the topic is another one.
        of_another_log = self._log is not None and noted is not None and noted.topic != self._log.topic
        return commit.error is None and not of_another_log

    def _ends(self, partitions: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
        # The high watermarks, with what is still in transactions: markers of a transaction reach the partitions one
        # by one, so the offsets may show before the answers do. Asked one by one: the admin client's list_offsets
        # breaks an assertion of librdkafka 2.16 when leaders move meanwhile, and ends the process.
        return {
            each: self._group.get_watermark_offsets(TopicPartition(*each), timeout=REQUEST_TIMEOUT_S)[1]
            for each in partitions
        }

    def _read_until(self, ends: dict[tuple[str, int], int]) -> bool:
        deadline_s = time.monotonic() + HANG_S
        while any(self._read_to[each] < end for each, end in ends.items()):
            if self._stopping.is_set() or time.monotonic() > deadline_s:
                return False
            messages = self._consumer.consume(1_000, timeout=0.1)
            with self._telling:
                for message in messages:
                    self._tell(message)
        return True

    def _tell(self, message: Message) -> None:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                # Markers at the end are passed too: only this tells.
                self._read_to[topic, partition] = max(self._read_to[topic, partition], offset)
            return
        self._read_to[topic, partition] = max(self._read_to[topic, partition], offset + 1)
        value = message.value() or b""
        if topic == self._kafka.query_topic:
            query_id = query_id_of(value)
            self._oracle.asked(partition, offset, query_id, message.key(), poison=query_id.startswith(POISON))
        elif topic == self._kafka.answer_topic:
            answer = wire.decode_answer(value)
            self._oracle.answered(answer.query_id, answer.status.value)
        else:
            letter = wire.dead_letter_info(message.headers() or [])
            self._oracle.dead_lettered(query_id_of(value), letter.error_class)
