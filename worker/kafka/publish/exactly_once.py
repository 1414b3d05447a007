"""Exactly once: answers, dead letters and offsets of completed prefixes in one Kafka transaction.

A query counts as completed here when its outcome is made. Outcomes wait until the transaction of the prefix they
belong to, which is opened only when they are all there: no transaction stays open for a slow LLM. What it does not
cover is the work itself: after a crash a query is worked on, and its LLM paid, again.
"""

import asyncio
import contextlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import structlog
from confluent_kafka import KafkaError, TopicPartition

from worker.batching.executor import OneThread
from worker.errors import FatalError, PoisonError, TransientError
from worker.kafka.consume.offsets import CompletedPrefix, Partition, Position
from worker.kafka.consume.records import TRANSACTION_SHARE
from worker.kafka.consume.source import Source
from worker.kafka.deliver.outcome import Publication
from worker.kafka.deliver.partition import Assignment
from worker.kafka.publish.at_least_once import FIRST_RETRY_S
from worker.kafka.publish.producer import publish_failure
from worker.kafka.publish.transactional_producer import AbandonedError, RecordsRefusedError, TransactionalProducer
from worker.settings import KafkaSettings

logger = structlog.get_logger()

# An abort is one round trip; a broker that is away aborts by itself after transaction_timeout_s.
CLOSE_TIMEOUT_S = 5.0


@dataclass(eq=False, slots=True)
class _Made:
    """An outcome that waits for its transaction."""

    assignment: Assignment
    position: Position
    publication: Publication
    committed: "asyncio.Future[None]"
    failures: int = 0
    not_before_s: float = 0.0


class ExactlyOnce:
    """See ``Guarantee``. One task makes the transactions, one after the other, on a thread of their own."""

    def __init__(self, kafka: KafkaSettings, source: Source, producer: TransactionalProducer) -> None:
        self._kafka = kafka
        self._source = source
        self._producer = producer
        self._thread = OneThread("kafka-transactions")
        self._loop = asyncio.get_running_loop()
        self._made: dict[Assignment, list[_Made]] = {}
        self._work = asyncio.Event()
        self._under_way: Sequence[_Made] = ()
        self._idle = asyncio.Event()
        self._idle.set()
        self._singly = False
        self._broken: FatalError | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Fence whoever had this process's transactional.id; see ``Guarantee``."""
        await self._thread.run(self._producer.start)
        self._task = self._loop.create_task(self._run())

    async def deliver(self, assignment: Assignment, position: Position, publication: Publication) -> None:
        """Return when the transaction with this outcome and its offset is committed; see ``Guarantee``."""
        if self._broken is not None:
            raise self._broken
        made = _Made(assignment, position, publication, self._loop.create_future())
        self._made.setdefault(assignment, []).append(made)
        assignment.complete(position)
        self._work.set()
        await made.committed

    def commit(self, assigned: Mapping[Partition, Assignment]) -> None:
        """Do nothing: offsets travel with the outcomes. See ``Guarantee``."""

    async def let_go(self, leaving: Mapping[Partition, Assignment]) -> Mapping[Partition, CompletedPrefix]:
        """End with these partitions: a transaction under way with them is committed, or can't be any more."""
        if any(made.assignment in leaving.values() for made in self._under_way):
            # If this is not enough, it is aborted before its offsets are sent, or they carry the generation of the
            # group they were read in: the new owner's first fetch of offsets waits until the broker has decided.
            await self._until_idle(self._kafka.revoke_timeout_s * TRANSACTION_SHARE)
        for assignment in leaving.values():
            assignment.prefix.end()
            self._made.pop(assignment, None)
        return {}

    async def finish(self, assigned: Mapping[Partition, Assignment]) -> None:
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
        # Read before the choice below: should the group move on after this, the broker refuses the offsets.
        group = self._source.group_metadata
        if group is None:
            return
        self._under_way = batch = self._choose()
        if not batch:
            return
        self._idle.clear()
        try:
            await self._thread.run(
                partial(
                    self._producer.transact,
                    [made.publication for made in batch],
                    _offsets(batch),
                    group,
                    singly=self._singly,
                    may_commit=lambda: not any(made.assignment.prefix.ended for made in batch),
                )
            )
        except RecordsRefusedError as refused:
            self._take_refusals(batch, refused.errors)
        except AbandonedError:
            logger.info("transaction aborted: the group has moved on")
            self._again(FIRST_RETRY_S)
        except TransientError as error:
            self._put_off(batch, str(error))
        else:
            self._singly = False
            self._committed(batch)
        finally:
            self._under_way = ()
            self._idle.set()

    def _choose(self) -> Sequence[_Made]:
        """Take of each partition, in the order of its offsets, what is in the completed prefix and may go now."""
        for assignment in [assignment for assignment in self._made if assignment.prefix.ended]:
            del self._made[assignment]
        well = [made for assignment in self._made if assignment.why_stopped is None for made in self._ready(assignment)]
        # A partition that is stopped is tried when the others have nothing, so that its failure is not theirs.
        return well or [made for assignment in self._made for made in self._ready(assignment)]

    def _ready(self, assignment: Assignment) -> Iterator[_Made]:
        last = assignment.prefix.to_commit
        now_s = self._loop.time()
        for made in sorted(self._made[assignment], key=lambda made: made.position.offset):
            if last is None or made.position.offset > last.offset or made.not_before_s > now_s:
                return
            yield made

    def _committed(self, batch: Sequence[_Made]) -> None:
        for made in batch:
            made.assignment.prefix.mark_committed(made.position)
            made.assignment.go_on(made.position)
            waiting = self._made.get(made.assignment, [])
            if made in waiting:
                waiting.remove(made)
            made.publication.on_acknowledged()
            if not made.committed.done():
                made.committed.set_result(None)
        if any(assignment.why_stopped for assignment in self._made):
            # Its time to be tried again may have come and gone during this transaction.
            self._work.set()

    def _take_refusals(self, batch: Sequence[_Made], errors: Mapping[int, KafkaError]) -> None:
        for index, error in errors.items():
            made = batch[index]
            failure = publish_failure(error, made.publication.topic)
            if isinstance(failure, FatalError):
                raise failure
            if not isinstance(failure, PoisonError):
                self._put_off([made], str(failure))
            elif not self._singly:
                # The broker refuses a batch as a whole: whose fault it was shows when each record travels alone.
                continue
            elif made.publication.if_refused is None:
                self._put_off([made], f"nothing is skipped, so this partition waits: {failure}")
            else:
                made.publication = made.publication.if_refused(failure)
        self._singly = True
        self._work.set()

    def _put_off(self, batch: Sequence[_Made], why: str) -> None:
        """Stop these partitions and try again after a capped exponential backoff with full jitter."""
        for made in batch:
            made.failures += 1
            longest_s = min(self._kafka.publish_retry_max_s, FIRST_RETRY_S * 2 ** min(made.failures, 16))
            wait_s = random.uniform(0, longest_s)  # noqa: S311 - spreads load, guards nothing
            made.not_before_s = self._loop.time() + wait_s
            made.assignment.stop(made.position, why)
            self._again(wait_s)

    def _again(self, wait_s: float) -> None:
        self._loop.call_later(wait_s, self._work.set)

    def _fail(self, error: FatalError) -> None:
        self._broken = error
        for waiting in self._made.values():
            for made in waiting:
                if not made.committed.done():
                    made.committed.set_exception(error)


def _offsets(batch: Sequence[_Made]) -> list[TopicPartition]:
    # A batch is in the order of offsets, so the last of a partition counts.
    last = {made.position.topic_partition: made.position for made in batch}
    return [TopicPartition(at.topic, at.partition, at.offset + 1) for at in last.values()]
