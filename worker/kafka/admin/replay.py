"""Sending the events of dead letters round again, each once: what was sent is remembered on the broker.

The memory is the committed position of a consumer group, `<group_id>-dlq-replay`: below it everything was replayed.
Whoever replays by reason leaves gaps, so what was replayed beyond the position stands in the commit's metadata. Kafka
forgets a group that commits nothing for `offsets.retention.minutes`, seven days by default: as long as it keeps a
topic by default.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from schemas import wire
from worker.errors import FatalError
from worker.kafka.admin.dead_letters import DeadLetter, Wanted, read
from worker.kafka.admin.whole_topic import partitions_of
from worker.kafka.config import common_config, producer_config
from worker.settings import KafkaSettings

# Keeps the producer's queue, and with it memory, small however many are sent; and what a crash sends again.
FLUSH_EVERY = 1_000
# Until the client has told the last record's fate.
REPORT_SLACK_S = 10.0
# The broker's offset.metadata.max.bytes, with room.
MAX_METADATA_BYTES = 4_000

Place = tuple[int, int]


class ReplayedOffsets:
    """Which offsets of one partition were replayed, as runs: sorted, apart from each other, ends exclusive."""

    def __init__(self, position: int = 0, metadata: str = "") -> None:
        """Read back what ``position`` and ``metadata`` give."""
        self._runs: list[tuple[int, int]] = [(0, position)] if position > 0 else []
        for run in filter(None, metadata.split(",")):
            first, _, last = run.partition("-")
            self._runs.append((int(first), int(last or first) + 1))
        self._last_seen: int | None = 0

    def __contains__(self, offset: int) -> bool:
        return any(first <= offset < end for first, end in self._runs)

    def see(self, offset: int, *, replayed: bool) -> None:
        """Go on to the next dead letter of the partition; what lies between two replayed ones is none, and counts."""
        if not replayed:
            self._last_seen = None
            return
        self._add(offset if self._last_seen is None else self._last_seen, offset + 1)
        self._last_seen = offset + 1

    @property
    def position(self) -> int:
        """The offset below which everything was replayed."""
        return self._runs[0][1] if self._runs and self._runs[0][0] == 0 else 0

    @property
    def metadata(self) -> str:
        """What was replayed beyond the position: `12-14,20`."""
        beyond = self._runs[1:] if self.position else self._runs
        return ",".join(str(first) if end == first + 1 else f"{first}-{end - 1}" for first, end in beyond)

    def _add(self, first: int, end: int) -> None:
        apart = [run for run in self._runs if run[1] < first or run[0] > end]
        touching = [run for run in self._runs if run not in apart]
        first = min([first, *(run[0] for run in touching)])
        end = max([end, *(run[1] for run in touching)])
        self._runs = sorted([*apart, (first, end)])


@dataclass(slots=True)
class Plan:
    """What a replay would send, and what it would not, by why."""

    letters: list[DeadLetter] = field(default_factory=list)
    """In the order they are sent; without their events' bytes, which are read again."""
    left_out: Counter[str] = field(default_factory=Counter)


def plan(
    kafka: KafkaSettings,
    wanted: Wanted,
    *,
    again: bool = False,
    max_attempts: int | None = None,
    limit: int | None = None,
) -> Plan:
    """Choose what to replay; sends nothing. ``again``: what was replayed before, too. Raises as ``read``."""
    # Looked up first: what is wrong with the settings is told in one line there.
    partitions = partitions_of(kafka, kafka.dead_letter_topic)
    with closing(_observer(kafka)) as observer:
        memory = _remembered(observer, kafka, partitions)
    found = Plan()
    for letter in read(kafka, Wanted()):
        partition, offset = _place(letter)
        replayed = offset in memory[partition]
        chosen = False
        if wanted.takes(letter):
            why_not = _why_not(kafka, letter, replayed=replayed and not again, max_attempts=max_attempts)
            if why_not is None and limit is not None and len(found.letters) >= limit:
                why_not = "beyond the limit"
            if why_not is None:
                chosen = True
                found.letters.append(letter.without_event())
            else:
                found.left_out[why_not] += 1
        memory[partition].see(offset, replayed=replayed or chosen)
    # Looked at before anything is sent: what can't be remembered would be sent again.
    if any(len(offsets.metadata) > MAX_METADATA_BYTES for offsets in memory.values()):
        raise FatalError(
            "this choice leaves more gaps than can be remembered: send fewer at a time (--limit), or fewer kinds apart"
        )
    return found


def replay(kafka: KafkaSettings, chosen: Plan) -> int:
    """Send each event to the query topic, with its key, bytes and headers and its attempts so far; count them.

    Returns when the broker has acknowledged all, and remembers them. FatalError if it does not take one: up to
    ``FLUSH_EVERY`` of those before it may have been sent and not be remembered; sending them again gives a second
    answer with the same ``query_id``.
    """
    places = {_place(letter) for letter in chosen.letters}
    sending = _Sending(kafka)
    # One for both: each takes most of a second to find the group's coordinator.
    with closing(_observer(kafka)) as observer:
        memory = _remembered(observer, kafka, partitions_of(kafka, kafka.dead_letter_topic))
        for letter in read(kafka, Wanted()) if places else ():
            partition, offset = _place(letter)
            wanted = (partition, offset) in places
            if wanted:
                sending.send(letter)
            memory[partition].see(offset, replayed=wanted or offset in memory[partition])
            if wanted and sending.sent % FLUSH_EVERY == 0:
                sending.await_all()
                _remember(observer, kafka, memory)
        sending.await_all()
        _remember(observer, kafka, memory)
    return sending.sent


def _why_not(kafka: KafkaSettings, letter: DeadLetter, *, replayed: bool, max_attempts: int | None) -> str | None:
    if replayed:
        return "replayed before (--all sends them again)"
    if letter.info.source_topic != kafka.query_topic:
        # The header is whatever was written to the topic: it must not say where this user's rights are used.
        return f"from another topic than {kafka.query_topic}"
    if wire.value_omitted(letter.record.headers):
        return (
            f"too large for {kafka.dead_letter_topic}: such an event is still in {kafka.query_topic}, where "
            "`dlq show` says, and must be sent from there"
        )
    if max_attempts is not None and letter.info.attempts >= max_attempts:
        return f"tried {max_attempts} times or more"
    return None


def _place(letter: DeadLetter) -> Place:
    return letter.record.position.partition, letter.record.position.offset


def _observer(kafka: KafkaSettings) -> Consumer:
    # With the group's id, to ask for its offsets and to commit; without subscribing it never becomes a member.
    return Consumer(common_config(kafka) | {"group.id": f"{kafka.group_id}-dlq-replay", "enable.auto.commit": False})


def _remembered(observer: Consumer, kafka: KafkaSettings, partitions: int) -> dict[int, ReplayedOffsets]:
    try:
        asked = [TopicPartition(kafka.dead_letter_topic, number) for number in range(partitions)]
        committed = observer.committed(asked, timeout=kafka.startup_timeout_s)
    except KafkaException as error:
        raise FatalError(f"what was replayed can't be looked up: {error.args[0].str()}") from error
    try:
        return {each.partition: ReplayedOffsets(each.offset, each.metadata or "") for each in committed}
    except ValueError as error:
        raise FatalError(f"the group {kafka.group_id}-dlq-replay was committed by something else: {error}") from error


def _remember(observer: Consumer, kafka: KafkaSettings, memory: Mapping[int, ReplayedOffsets]) -> None:
    offsets = [
        TopicPartition(kafka.dead_letter_topic, partition, replayed.position, replayed.metadata)
        for partition, replayed in memory.items()
    ]
    try:
        observer.commit(offsets=offsets, asynchronous=False)
    except KafkaException as error:
        raise FatalError(
            f"the events are sent, but that can't be remembered, and a second replay would send them again: "
            f"{error.args[0].str()}"
        ) from error


class _Sending:
    """A producer that says by name what was not taken."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._producer = Producer(producer_config(kafka))
        self._refused: list[str] = []
        self.sent = 0

    def send(self, letter: DeadLetter) -> None:
        self.sent += 1
        try:
            self._producer.produce(
                letter.info.source_topic,
                key=letter.record.key,
                value=letter.record.value,
                headers=list[tuple[str, str | bytes | None]](wire.replay_headers(letter.record.headers)),
                on_delivery=self._report,
            )
        except KafkaException as error:
            self._refused.append(f"{letter.info.source_topic}: {error.args[0].str()}")
            self.await_all()

    def await_all(self) -> None:
        # Longer than any record may take: what was not taken is told by name.
        if self._producer.flush(self._kafka.delivery_timeout_s + REPORT_SLACK_S):
            self._refused.append("nobody: no broker answered in time")
        if self._refused:
            raise FatalError(
                f"{len(self._refused)} of {self.sent} events were not taken; the first by {self._refused[0]}"
            )

    def _report(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._refused.append(f"{message.topic()}: {error.str()}")


def by_reason(letters: Sequence[DeadLetter]) -> str:
    """Count the dead letters by reason, the most frequent first: `3 unknown_collection, 1 tombstone`."""
    counted = Counter(letter.info.error_class for letter in letters)
    return ", ".join(f"{count} {reason}" for reason, count in counted.most_common())
