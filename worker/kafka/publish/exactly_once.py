"""Exactly once: answers, dead letters and offsets of completed prefixes in one Kafka transaction.

A query counts as completed here when its outcome is made. Outcomes wait until the transaction of the prefix they
belong to, which is opened only when they are all there: no transaction stays open for a slow LLM. What it does not
cover is the work itself: after a crash a query is worked on, and its LLM paid, again.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import structlog
from confluent_kafka import KafkaError, TopicPartition

from worker.batching.executor import SingleThreadExecutor
from worker.errors import FatalError, PoisonError, TransientError
from worker.kafka.codes import publish_failure
from worker.kafka.consume.offsets import CompletedPrefix, Partition, Position, to_commit
from worker.kafka.consume.records import TRANSACTION_SHARE
from worker.kafka.consume.source import Source
from worker.kafka.deliver.in_flight import AssignedPartition
from worker.kafka.deliver.outcome import Publication
from worker.kafka.publish.transactional_producer import AbandonedError, RecordsRefusedError, TransactionalProducer
from worker.resilience.retry import RetryPolicy
from worker.settings import KafkaSettings

logger = structlog.get_logger()

# An abort is one round trip; a broker that is away aborts by itself after transaction_timeout_s.
CLOSE_TIMEOUT_S = 5.0


@dataclass(eq=False, slots=True)
class PendingOutcome:
    """An outcome that waits for its transaction."""

    partition: AssignedPartition
    position: Position
    publication: Publication
    committed: "asyncio.Future[None]"
    failures: int = 0
    not_before_s: float = 0.0
    """On the loop's clock: it may not be tried again before."""


class ExactlyOnce:
    """See ``Guarantee``. One task makes the transactions, one after the other, on a thread of their own."""

    def __init__(
        self, kafka: KafkaSettings, source: Source, producer: TransactionalProducer, policy: RetryPolicy
    ) -> None:
        self._kafka = kafka
        self._source = source
        self._producer = producer
        self._policy = policy
        self._thread = SingleThreadExecutor("kafka-transactions")
        self._loop = asyncio.get_running_loop()
        self._pending: dict[AssignedPartition, list[PendingOutcome]] = {}
        self._work = asyncio.Event()
        self._under_way: Sequence[PendingOutcome] = ()
        self._idle = asyncio.Event()
        self._idle.set()
        self._singly = False
        self._broken: FatalError | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Fence whoever had this process's transactional.id; see ``Guarantee``."""
        await self._thread.run(self._producer.start)
        self._task = self._loop.create_task(self._run())

    async def deliver(self, partition: AssignedPartition, position: Position, publication: Publication) -> None:
        """Return when the transaction with this outcome and its offset is committed; see ``Guarantee``."""
        if self._broken is not None:
            raise self._broken
        outcome = PendingOutcome(partition, position, publication, self._loop.create_future())
        self._pending.setdefault(partition, []).append(outcome)
        partition.complete(position)
        self._work.set()
        await outcome.committed

    def commit(self, assigned: Mapping[Partition, AssignedPartition]) -> None:
        """Do nothing: offsets travel with the outcomes. See ``Guarantee``."""

    async def revoke(self, leaving: Mapping[Partition, AssignedPartition]) -> Mapping[Partition, CompletedPrefix]:
        """End with these partitions: a transaction under way with them is committed, or can't be any more."""
        if any(outcome.partition in leaving.values() for outcome in self._under_way):
            # If this is not enough, it is aborted before its offsets are sent, or they carry the generation of the
            # group they were read in: the new owner's first fetch of offsets waits until the broker has decided.
            await self._until_idle(self._kafka.revoke_timeout_s * TRANSACTION_SHARE)
        for partition in leaving.values():
            partition.prefix.end()
            self._pending.pop(partition, None)
        return {}

    async def commit_final(self, assigned: Mapping[Partition, AssignedPartition]) -> None:
        """Do nothing: what the drain waited for is committed. See ``Guarantee``."""

    async def close(self) -> None:
        """Abort what is under way; see ``Guarantee``."""
        self._producer.close()
        if self._task is not None:
            await self._until_idle(CLOSE_TIMEOUT_S)
            self._task.cancel()
            await asyncio.wait({self._task})
        self._thread.close()
        # A call that librdkafka does not return from is left behind: the process ends all the same.
        await asyncio.to_thread(self._thread.join, CLOSE_TIMEOUT_S)

    async def _until_idle(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            # What ends within this time shares one transaction: each costs the broker several writes.
            await asyncio.sleep(self._kafka.transaction_interval_s)
            self._work.clear()
            try:
                await self._transact()
            except FatalError as error:
                self._fail(error)
                return
            except Exception as error:
                logger.exception("internal error")
                self._fail(FatalError(f"transactions broke: {error!r}"))
                return

    async def _transact(self) -> None:
        # Read before the batch is chosen: should the group move on after this, the broker refuses the offsets.
        group = self._source.group_metadata
        if group is None:
            return
        self._under_way = batch = self._next_batch()
        if not batch:
            return
        self._idle.clear()
        # One that begins again meanwhile has ended too: its offsets may not be sent any more, its outcomes go later.
        counting = {outcome.partition.prefix for outcome in batch if not outcome.partition.superseded}
        try:
            await self._thread.run(
                partial(
                    self._producer.transact,
                    [outcome.publication for outcome in batch],
                    _offsets(batch),
                    group,
                    singly=self._singly,
                    may_commit=lambda: not any(prefix.ended for prefix in counting),
                )
            )
        except RecordsRefusedError as refused:
            self._take_refusals(batch, refused.errors)
        except AbandonedError:
            logger.info("transaction aborted: the group has moved on")
            self._loop.call_later(self._policy.first_pause_s, self._work.set)
        except TransientError as error:
            self._retry_later(batch, error)
        else:
            self._singly = False
            self._committed(batch)
        finally:
            self._under_way = ()
            self._idle.set()

    def _next_batch(self) -> list[PendingOutcome]:
        """Take of each partition, in the order of its offsets, what is in the completed prefix and may go now."""
        for partition in [partition for partition in self._pending if _left(partition)]:
            del self._pending[partition]
        flowing: list[PendingOutcome] = []
        stopped: list[PendingOutcome] = []
        for partition in self._pending:
            batch = flowing if partition.why_stopped is None else stopped
            batch.extend(self._ready(partition))
        # A partition that is stopped is tried when the others have nothing, so that its failure is not theirs.
        return flowing or stopped

    def _ready(self, partition: AssignedPartition) -> Iterator[PendingOutcome]:
        last = partition.prefix.to_commit
        now_s = self._loop.time()
        for outcome in sorted(self._pending[partition], key=lambda outcome: outcome.position.offset):
            # Once its offsets have begun again there is no prefix to wait for.
            complete = partition.superseded or (last is not None and outcome.position.offset <= last.offset)
            if not complete or outcome.not_before_s > now_s:
                return
            yield outcome

    def _committed(self, batch: Sequence[PendingOutcome]) -> None:
        for outcome in batch:
            outcome.partition.prefix.mark_committed(outcome.position)
            outcome.partition.go_on(outcome.position)
            waiting = self._pending.get(outcome.partition, [])
            if outcome in waiting:
                waiting.remove(outcome)
            outcome.publication.acknowledged()
            if not outcome.committed.done():
                outcome.committed.set_result(None)
        if any(partition.why_stopped for partition in self._pending):
            # Its time to be tried again may have come and gone during this transaction.
            self._work.set()

    def _take_refusals(self, batch: Sequence[PendingOutcome], errors: Mapping[int, KafkaError]) -> None:
        for index, error in errors.items():
            outcome = batch[index]
            failure = publish_failure(error, outcome.publication.topic)
            match failure:
                case TransientError():
                    self._retry_later([outcome], failure)
                case PoisonError() if self._singly:
                    self._replace(outcome, failure)
                case PoisonError():
                    # The broker refuses a batch as a whole: whose fault it was shows when each record travels alone.
                    continue
                case _:
                    raise failure
        self._singly = True
        self._work.set()

    def _replace(self, outcome: PendingOutcome, refused: PoisonError) -> None:
        instead = outcome.publication.refused(refused)
        if instead is None:
            error = TransientError(f"nothing is skipped, so this partition waits: {refused}")
            self._retry_later([outcome], error)
        else:
            outcome.publication = instead

    def _retry_later(self, batch: Sequence[PendingOutcome], error: TransientError) -> None:
        """Stop these partitions, and try each outcome again after a pause of its own."""
        for outcome in batch:
            outcome.failures += 1
            pause_s = self._policy.pause_s(error, outcome.failures)
            if pause_s is None:
                raise error
            outcome.not_before_s = self._loop.time() + pause_s
            outcome.partition.stop(outcome.position, str(error))
            self._loop.call_later(pause_s, self._work.set)

    def _fail(self, error: FatalError) -> None:
        self._broken = error
        for waiting in self._pending.values():
            for outcome in waiting:
                if not outcome.committed.done():
                    outcome.committed.set_exception(error)


def _left(partition: AssignedPartition) -> bool:
    # One whose offsets have begun again is published without them: its records may not be there for anybody else.
    return partition.prefix.ended and not partition.superseded


def _offsets(batch: Sequence[PendingOutcome]) -> list[TopicPartition]:
    # A batch is in the order of offsets, so the last of a partition counts.
    counting = [outcome.position for outcome in batch if not outcome.partition.superseded]
    last = {position.topic_partition: position for position in counting}
    return [to_commit(position) for position in last.values()]
