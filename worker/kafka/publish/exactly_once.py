"""Exactly once: answers, dead letters and offsets of completed prefixes in one Kafka transaction.

A query counts as completed here when its outcome is made. Outcomes wait until the transaction of the prefix they
belong to, which is opened only when they are all there: no transaction stays open for a slow LLM. What it does not
cover is the work itself: after a crash a query is worked on, and its LLM paid, again.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import structlog
from confluent_kafka import KafkaError

from worker.batching.executor import SingleThreadExecutor
from worker.errors import FatalError, PoisonError, TransientError
from worker.kafka.codes import publish_failure
from worker.kafka.consume.offsets import CompletedPrefix, Partition, Position
from worker.kafka.consume.records import TRANSACTION_SHARE
from worker.kafka.consume.source import Source
from worker.kafka.deliver.outcome import Publication
from worker.kafka.deliver.partition import AssignedPartition
from worker.kafka.publish.pending import PendingOutcome, PendingOutcomes
from worker.kafka.publish.transactional_producer import AbandonedError, RecordsRefusedError, TransactionalProducer
from worker.resilience.retry import RetryPolicy
from worker.settings import KafkaSettings

logger = structlog.get_logger()

# An abort is one round trip; a broker that is away aborts by itself after transaction_timeout_s.
CLOSE_TIMEOUT_S = 5.0


class ExactlyOnce:
    """See ``Guarantee``. One task makes the transactions, one after the other, on a thread of their own."""

    def __init__(
        self,
        kafka: KafkaSettings,
        source: Source,
        producer: TransactionalProducer,
        policy: RetryPolicy,
        on_commit: Callable[[str], None],
    ) -> None:
        """``on_commit`` is told on the loop what became of the offsets in a transaction: `ok`, or `put_off`."""
        self._kafka = kafka
        self._on_commit = on_commit
        self._source = source
        self._producer = producer
        self._policy = policy
        self._thread = SingleThreadExecutor("kafka-transactions")
        self._loop = asyncio.get_running_loop()
        self._pending = PendingOutcomes()
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

    async def deliver(self, partition: AssignedPartition, position: Position, publication: Publication | None) -> None:
        """Return when the transaction with this outcome and its offset is committed; see ``Guarantee``."""
        if self._broken is not None:
            raise self._broken
        records = [] if publication is None else [publication, *publication.also]
        outcome = PendingOutcome(partition, position, records, self._loop.create_future())
        self._pending.add(outcome)
        partition.complete(position)
        self._work.set()
        await outcome.committed

    def commit(self, assigned: Mapping[Partition, AssignedPartition]) -> None:
        """Let partitions that are done with be committed to their end; other offsets travel with their outcomes.

        In a transaction too, whose offsets the broker refuses once the group has moved on. See ``Guarantee``.
        """
        if self._pending.look_for_ends(assigned.values()):
            self._work.set()

    async def revoke(self, leaving: Mapping[Partition, AssignedPartition]) -> Mapping[Partition, CompletedPrefix]:
        """End with these partitions: a transaction under way with them is committed, or can't be any more."""
        if any(outcome.partition in leaving.values() for outcome in self._under_way):
            # If this is not enough, it is aborted before its offsets are sent, or they carry the generation of the
            # group they were read in: the new owner's first fetch of offsets waits until the broker has decided.
            await self._until_idle(self._kafka.revoke_timeout_s * TRANSACTION_SHARE)
        for partition in leaving.values():
            partition.prefix.end()
            self._pending.forget(partition)
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
        batch = self._pending.next_batch(self._loop.time())
        self._under_way = outcomes = batch.outcomes
        if not outcomes and not batch.ends:
            return
        self._idle.clear()
        # One that leaves or begins again meanwhile has ended: its offsets may not be sent any more.
        counting = batch.prefixes
        sent = [(outcome, record) for outcome in outcomes for record in outcome.records]
        try:
            await self._thread.run(
                partial(
                    self._producer.transact,
                    [record for _, record in sent],
                    batch.offsets,
                    group,
                    singly=self._singly,
                    may_commit=lambda: not any(prefix.ended for prefix in counting),
                )
            )
        except RecordsRefusedError as refused:
            self._take_refusals(sent, refused.errors)
        except AbandonedError:
            logger.info("transaction aborted: the group has moved on")
            self._on_commit("put_off")
            self._loop.call_later(self._policy.first_pause_s, self._work.set)
        except TransientError as error:
            self._retry_later(outcomes, error)
        else:
            self._singly = False
            if batch.offsets:
                self._on_commit("ok")
            for prefix, last in batch.ends.items():
                prefix.mark_committed(last)
            self._committed(outcomes)
        finally:
            self._under_way = ()
            self._idle.set()

    def _committed(self, batch: Sequence[PendingOutcome]) -> None:
        for outcome in batch:
            outcome.partition.prefix.mark_committed(outcome.position)
            outcome.partition.go_on(outcome.position)
            self._pending.remove(outcome)
            for record in outcome.records:
                record.acknowledged()
            if not outcome.committed.done():
                outcome.committed.set_result(None)
        if self._pending.any_stopped:
            # Its time to be tried again may have come and gone during this transaction.
            self._work.set()

    def _take_refusals(
        self, sent: Sequence[tuple[PendingOutcome, Publication]], errors: Mapping[int, KafkaError]
    ) -> None:
        for index, error in errors.items():
            outcome, record = sent[index]
            failure = publish_failure(error, record.topic, asked_for=record.asked_for)
            match failure:
                case TransientError():
                    self._retry_later([outcome], failure)
                case PoisonError() if self._singly:
                    self._replace(outcome, record, failure)
                case PoisonError():
                    # The broker refuses a batch as a whole: whose fault it was shows when each record travels alone.
                    continue
                case _:
                    raise failure
        self._singly = True
        self._work.set()

    def _replace(self, outcome: PendingOutcome, record: Publication, refused: PoisonError) -> None:
        instead = record.refused(refused)
        if instead is None:
            error = TransientError(f"nothing is skipped, so this partition waits: {refused}")
            self._retry_later([outcome], error)
        else:
            at = outcome.records.index(record)
            outcome.records[at : at + 1] = [each for one in instead for each in (one, *one.also)]

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
        for outcome in self._pending.all:
            if not outcome.committed.done():
                outcome.committed.set_exception(error)
