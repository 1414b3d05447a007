"""The consumer: one thread that owns the native client and goes on polling, whatever is in work.

The loop speaks to the thread through a queue of commands that is served between two polls; the thread speaks to the
loop through the ``SourceListener``. A slow query therefore can't cost the assignment, and a commit can never run
beside a rebalance callback: both happen on this thread, in turn. Long, for it is the whole life of that thread.
"""

import asyncio
import json
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException

from worker.errors import FatalError
from worker.kafka.codes import CONSUMER_FATAL
from worker.kafka.config import consumer_config, tell_error
from worker.kafka.consume.commits import COMMIT_TIMEOUT_S, Committer
from worker.kafka.consume.log_watch import LogWatch
from worker.kafka.consume.offsets import CompletedPrefix, Partition
from worker.kafka.consume.pauses import PausedPartitions, PauseSet, PollGate
from worker.kafka.consume.polling import LoopCalls, Polled, Poller
from worker.kafka.consume.rebalance import Rebalance
from worker.kafka.consume.records import SourceListener
from worker.kafka.consume.stalled_fetch import StalledFetchDetector, any_broker_up
from worker.kafka.security import bearable_refusals
from worker.settings import KafkaSettings

logger = structlog.get_logger()

# Leaving the group takes one round trip; beyond this the broker is gone and its session timeout will do it.
CLOSE_TIMEOUT_S = 15.0


class Source:
    """Consumes the query topic. Built and used on the loop's thread; ``start`` and ``close`` once each."""

    def __init__(self, kafka: KafkaSettings, listener: SourceListener, client_id: str | None = None) -> None:
        self._kafka = kafka
        self._client_id = client_id
        self._listener = listener
        self._calls = LoopCalls(listener.on_fatal)
        self._tell = self._calls.tell
        # Bounded by its use: one commit and the last one are outstanding at most.
        self._commands: queue.Queue[Callable[[Consumer], None]] = queue.Queue(maxsize=4)
        self._stopping = threading.Event()
        self._group_metadata: object | None = None
        self._gate = PollGate()
        self._paused = PausedPartitions()
        self._brokers_down = False
        self._fatal = CONSUMER_FATAL - bearable_refusals(kafka)
        self._last_poll_s = time.monotonic()
        self._stalled = StalledFetchDetector()
        self._statistics_came = False
        self._committer = Committer(
            on_committed=lambda prefix, position: self._tell(prefix.mark_committed, position),
            on_ended=lambda: self._tell(self._commit_ended),
            on_outcome=lambda outcome: self._tell(listener.on_commit, outcome),
            on_fatal=lambda error: self._tell(listener.on_fatal, error),
        )
        self._commit_begun_s: float | None = None
        self._thread_ended: Future[None] = Future()
        self._rebalance = Rebalance(
            listener,
            self._committer,
            revoke_timeout_s=kafka.revoke_timeout_s,
            tell=self._tell,
            after_assign=self._after_assign,
            after_unassign=self._after_unassign,
        )
        self._logs = LogWatch(
            kafka,
            client_id,
            self._rebalance.leases,
            on_made_again=lambda leases: self._tell(listener.on_made_again, leases),
            after_assign_anew=self._after_unassign,
        )
        self._poller = Poller(kafka, self._rebalance.left, self._on_error)
        self._thread = threading.Thread(target=self._run, name="kafka-source", daemon=True)

    def start(self) -> None:
        """Join the consumer group; returns at once."""
        self._thread.start()

    def pause(self, to_pause: PauseSet) -> None:
        """Fetch nothing of these partitions from the next poll on, and all the others again."""
        self._gate.set(to_pause)

    @property
    def group_metadata(self) -> object | None:
        """Where this member stood in the group at the last poll, for a transaction's offsets; None before the first.

        The broker refuses offsets that come with an older one. Any thread may read it.
        """
        return self._group_metadata

    def commit(self, prefixes: Mapping[Partition, CompletedPrefix]) -> None:
        """Commit the completed prefixes between two polls; returns at once, without effect while one is under way.

        A prefix whose assignment has ended by then is left out. A broker that refuses for good is told to the
        listener; one that is busy or away is asked again with the next call.
        """
        now_s = time.monotonic()
        if self._commit_begun_s is None or now_s - self._commit_begun_s > COMMIT_TIMEOUT_S:
            self._commit_begun_s = now_s
            self._have_done(lambda consumer: self._committer.commit(consumer, prefixes))

    async def commit_now(self, prefixes: Mapping[Partition, CompletedPrefix]) -> None:
        """Commit as ``commit`` does, and return when the broker has answered or ``revoke_timeout_s`` has passed.

        Polling stops meanwhile: for the end of a drain only. FatalError if the broker refuses for good.
        """
        done: Future[None] = Future()

        def command(consumer: Consumer) -> None:
            try:
                self._committer.commit_final(consumer, prefixes, self._kafka.revoke_timeout_s)
            except FatalError as error:
                done.set_exception(error)
            else:
                done.set_result(None)

        self._have_done(command)
        answered = asyncio.wrap_future(done)
        ended = asyncio.wrap_future(self._thread_ended)  # and answers nobody
        wait_s = self._kafka.revoke_timeout_s
        await asyncio.wait({answered, ended}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        if answered.done():
            await answered
        else:
            logger.warning("the last commit was not answered; its queries will be answered again")

    def _have_done(self, command: Callable[[Consumer], None]) -> None:
        self._commands.put_nowait(command)
        self._gate.wake()

    def _commit_ended(self) -> None:
        self._commit_begun_s = None

    async def close(self) -> None:
        """Leave the group (its partitions are revoked first) and join the thread."""
        self._stopping.set()
        self._gate.wake()
        await asyncio.to_thread(self._thread.join, self._kafka.revoke_timeout_s + CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            logger.error("kafka consumer did not close in time")

    @property
    def brokers_down(self) -> bool:
        """Whether librdkafka has lost every broker and none has answered since."""
        return self._brokers_down

    def poll_age_s(self) -> float:
        """Seconds since the last poll began: the thread's heartbeat. Any thread may call it.

        A revoke that keeps to its time counts as polling: probes must not kill a worker for a rebalance.
        """
        return max(0.0, time.monotonic() - max(self._last_poll_s, self._rebalance.busy_until_s))

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._consume()
        except FatalError as error:
            self._tell(self._listener.on_fatal, error)
        except KafkaException as error:
            self._tell(self._listener.on_fatal, FatalError(f"Kafka consumer failed: {error.args[0].str()}"))
        except Exception as error:
            logger.exception("internal error")
            self._tell(self._listener.on_fatal, FatalError(f"the consumer's thread broke: {error!r}"))
        finally:
            self._thread_ended.set_result(None)

    def _consume(self) -> None:
        """Live one client's life: until the end, or until its topic is another one."""
        consumer = Consumer(
            consumer_config(self._kafka, self._client_id)
            | {"error_cb": self._on_error, "stats_cb": self._on_statistics, "on_commit": self._committer.on_commit}
        )
        try:
            self._rebalance.subscribe(consumer, self._kafka.query_topic)
            while not self._stopping.is_set() and not self._logs.made_again:
                self._serve_commands(consumer)
                if self._statistics_came:
                    self._act_on_statistics(consumer)
                if time.monotonic() >= self._logs.look_at_s:
                    self._logs.serve(consumer)
                    self._apply_pauses(consumer)
                if self._gate.to_apply != self._paused.applied:
                    self._apply_pauses(consumer)
                if self._kafka.delivery_guarantee == "exactly_once":
                    # Here, for it hangs beside a poll() on another thread, and before each poll, for KIP-848 may
                    # raise the member's epoch without a callback. It takes under a millisecond.
                    self._group_metadata = consumer.consumer_group_metadata()
                if self._gate.await_open(self._kafka.poll_timeout_s):
                    self._poll(consumer)
            self._serve_commands(consumer)
        finally:
            self._committer.close()
            consumer.close()
            # A commit of this client that is not answered by now never will be.
            self._tell(self._commit_ended)
            self._logs.made_again = False

    def _serve_commands(self, consumer: Consumer) -> None:
        while True:
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                return
            command(consumer)

    def _poll(self, consumer: Consumer) -> None:
        self._last_poll_s = time.monotonic()
        polled = self._poller.poll(consumer)
        if polled.records or polled.ends:
            self._hand_over(polled)

    def _hand_over(self, polled: Polled) -> None:
        self._brokers_down = False
        take_records = self._listener.prepare(polled.records)

        def take() -> None:
            take_records()
            if polled.ends:
                self._listener.on_ends(polled.ends)

        self._calls.hand_over(take)

    def _after_assign(self, consumer: Consumer) -> None:
        self._logs.ask_anew()
        self._apply_pauses(consumer)

    def _after_unassign(self, partitions: Sequence[Partition]) -> None:
        self._paused.forget(partitions)
        self._poller.forget(partitions)

    def _apply_pauses(self, consumer: Consumer) -> None:
        self._paused.apply(consumer, self._gate.to_apply.and_also(self._logs.unknown), self._rebalance.owned)

    def _on_statistics(self, document: str) -> None:
        statistics: dict[str, object] = json.loads(document)
        self._brokers_down = self._brokers_down and not any_broker_up(statistics)
        self._stalled.observe(statistics, self._rebalance.owned)
        self._statistics_came = True
        self._tell(self._listener.on_statistics, statistics)

    def _act_on_statistics(self, consumer: Consumer) -> None:
        self._statistics_came = False
        stalled = self._stalled.reassign_stalled(consumer, self._rebalance.owned)
        self._logs.look_again(stalled)
        self._after_unassign(stalled)
        self._apply_pauses(consumer)

    def _on_error(self, error: KafkaError) -> None:
        if error.code() in self._fatal or error.fatal():
            self._tell(self._listener.on_fatal, FatalError(f"Kafka consumer: {error.name()}: {error.str()}"))
            return
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
            self._brokers_down = True
        # librdkafka retries everything else by itself.
        tell_error("kafka consumer error", error)
