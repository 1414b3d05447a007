"""Every metric, declared once: name, type, unit, labels, help. ``docs/reference/metrics.md`` is generated from here.

Long, for it is a list.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from schemas.events import AnswerEvent
from worker.telemetry.labels import DEAD_LETTER, KNOWN

# From a warm accelerator's milliseconds to an LLM on a busy CPU.
STAGE_BUCKETS_S = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    15.0,
    30.0,
    60.0,
    120.0,
    300.0,
)
END_TO_END_BUCKETS_S = (*STAGE_BUCKETS_S, 900.0)
# Of changes that come as they happen; a backlog of hours shows as such.
FRESHNESS_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3_600.0, 86_400.0)
BATCH_ITEM_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

PREFIX = "rerank_worker"


class Metrics:
    """The worker's metrics on one registry of their own. Thread-safe, as prometheus_client is."""

    def __init__(self, registry: CollectorRegistry, *, group: str = "") -> None:
        """``group``: the consumer group. It is on what is added up over a deployment: two may share a Prometheus."""
        self.registry = registry
        self._group = group
        self.stage_seconds = self._histogram(
            "stage_duration_seconds",
            "Time of one query in one stage (queue, recall, rerank, answer, publish), waiting for batches included.",
            ["stage"],
            STAGE_BUCKETS_S,
        )
        self.end_to_end_seconds = self._histogram(
            "end_to_end_duration_seconds",
            "From the query event's Kafka timestamp to the broker's acknowledgement of its answer.",
            ["status"],
            END_TO_END_BUCKETS_S,
        )
        self.time_to_contexts_seconds = self._histogram(
            "time_to_contexts_seconds",
            "From the query event's Kafka timestamp to the broker's acknowledgement of its contexts event.",
            [],
            END_TO_END_BUCKETS_S,
        )
        self.batch_items = self._histogram(
            "batch_items",
            "Items of one micro-batch: questions to embed, queries of one call to recall, pairs to score, documents.",
            ["batcher"],
            BATCH_ITEM_BUCKETS,
        )
        self.batch_seconds = self._histogram(
            "batch_duration_seconds",
            "Time of one micro-batch that was its own: their sum a second is the share of time the device was busy.",
            ["batcher"],
            STAGE_BUCKETS_S,
        )
        self.batch_wait_seconds = self._histogram(
            "batch_wait_seconds",
            "How long the first item of a micro-batch had waited when it left: what batching adds to latency.",
            ["batcher"],
            STAGE_BUCKETS_S,
        )
        self.batch_cost = self._counter(
            "batch_cost",
            "Cost put into micro-batches (tokens for rerank, characters for index), padding left out.",
            ["batcher"],
        )
        self.batch_padded_cost = self._counter(
            "batch_padded_cost",
            "Cost of micro-batches with padding; 1 - rate(batch_cost) / rate(this) is the padding's share.",
            ["batcher"],
        )
        self.batch_budget = self._gauge(
            "batch_budget",
            "Most that a micro-batch may cost now, padding included: lowered while memory is too short for more.",
            ["batcher"],
        )
        self.events = self._counter(
            "events", "Query events that ended, by outcome: the answer's status, or dead_letter.", ["outcome"]
        )
        self.documents = self._counter(
            "documents",
            "Document events that ended without a dead letter, by outcome: written; unchanged; deleted; absent, to be "
            "deleted and not there; superseded by a newer one; abandoned; ignored, being about no document.",
            ["outcome"],
        )
        self.index_freshness_seconds = self._histogram(
            "index_freshness_seconds",
            "From a document's change, as its event says or by the record's Kafka timestamp, until searches see it.",
            [],
            FRESHNESS_BUCKETS_S,
        )
        self.dead_letters = self._counter("dead_letters", "Events dead-lettered, by reason.", ["reason"])
        self.replies = self._counter(
            "replies",
            "Replies to topics that queries named, by outcome: sent, or why an answer went to the answer topic instead "
            "and a failure nowhere: not_allowed, not_there, not_writable, answer_too_large, answer_refused.",
            ["outcome"],
        )
        self.contexts_events = self._counter(
            "contexts_events",
            "Contexts events, by outcome: sent; failed: the topic did not take it; dropped: too many waited for it to.",
            ["outcome"],
        )
        self.degradations = self._counter("degradations", "Answers published without a stage that failed.", ["stage"])
        self.lexical_seconds = self._histogram(
            "lexical_leg_duration_seconds",
            "Time of the lexical leg of one call of recall: its file searched, what vectors did not find fetched.",
            [],
            STAGE_BUCKETS_S,
        )
        self.contexts_by_leg = self._counter(
            "contexts_by_leg",
            "Contexts of answers by what found them, where candidates are found by words too: dense, lexical, both.",
            ["legs"],
        )
        self.llm_tokens = self._counter("llm_tokens", "Tokens the LLM counted, by kind: prompt, completion.", ["kind"])
        self.answer_store_lookups = self._counter(
            "answer_store_lookups", "Lookups in the answer store, by outcome: hit, miss, failed.", ["outcome"]
        )
        self.llm_circuit_open = self._gauge(
            "llm_circuit_open", "1 while the LLM fails and is left alone, 0 while it is asked."
        )
        self.dependency_errors = self._counter(
            "dependency_errors",
            "Tries of a query at a dependency that failed, by dependency (store, lexical, reranker, llm) and code.",
            ["dependency", "code"],
        )
        self.in_flight_queries = self._gauge("in_flight_queries", "Query events in work.")
        self.in_flight_queries_limit = self._gauge("in_flight_queries_limit", "Events in work at which all pauses.")
        self.in_flight_pairs = self._gauge("in_flight_pairs", "(query, document) pairs the events in work may need.")
        self.in_flight_pairs_limit = self._gauge("in_flight_pairs_limit", "Pairs in work at which all pauses.")
        self.unpublished_bytes = self._gauge(
            "unpublished_bytes", "Bytes of answers and dead letters that are made and that the broker has not yet."
        )
        self.unpublished_bytes_limit = self._gauge(
            "unpublished_bytes_limit", "Bytes of unpublished outcomes at which all pauses."
        )
        self.completed_uncommitted_queries = self._gauge(
            "completed_uncommitted_queries",
            "Query events done with whose offsets an older one of their partition holds back: a crash repeats them.",
        )
        self.topic_partitions = self._gauge(
            "topic_partitions", "Partitions of the query topic, as librdkafka last reported.", ["group", "topic"]
        )
        self.assigned_partitions = self._gauge(
            "assigned_partitions", "Partitions this process owns.", ["group"]
        ).labels(group=group)
        self.paused_partitions = self._gauge("paused_partitions", "Owned partitions that backpressure has paused.")
        self.oldest_in_flight_age_seconds = self._gauge(
            "watermark_age_seconds", "How long the oldest unfinished query event has been in work; 0 if there is none."
        )
        self.oldest_event_age_seconds = self._gauge(
            "oldest_event_age_seconds",
            "Time since the oldest unfinished query event was produced: the lag in seconds; 0 if there is none.",
        )
        self.stopped_partitions = self._gauge(
            "stopped_partitions", "Owned partitions stopped because the topic takes no answer or dead letter of theirs."
        )
        self.consumer_lag = self._gauge(
            "consumer_lag_records",
            "Records between the committed offset and the partition's end, as librdkafka last reported.",
            ["group", "topic", "partition"],
        )
        self.rebalances = self._counter("rebalances", "Assignments, by kind: assigned, revoked, lost.", ["kind"])
        self.epochs = self._counter(
            "epochs", "Partitions that began again, by reason: offsets_went_back, topic_made_again.", ["reason"]
        )
        self.commits = self._counter(
            "commits",
            "Offset commits, by outcome: ok, put_off. Exactly once: transactions that carry offsets.",
            ["outcome"],
        )
        self.build = Info("build", "Version of the worker.", namespace=PREFIX, registry=registry)
        self.models = Info("models", "Models in use.", namespace=PREFIX, registry=registry)
        self.collection = Info(
            "collection",
            "Default collection, and the one that is read in its place: where it points, if the embedding model fits.",
            namespace=PREFIX,
            registry=registry,
        )

        # Looked up once a label: prometheus_client takes longer over that than over counting.
        self._of_stage = cache(self.stage_seconds.labels)
        self._of_status = cache(self.end_to_end_seconds.labels)
        self._of_outcome = cache(self.events.labels)

    def observe_answer(
        self,
        answer: AnswerEvent,
        *,
        publish_s: float,
        end_to_end_s: float,
        exemplar: Mapping[str, str] | None = None,
    ) -> None:
        """Record an answer the broker has acknowledged. ``exemplar``: what names its trace, if it has one."""
        named = None if exemplar is None else dict(exemplar)
        spent = answer.timings_ms
        for stage, seconds in (
            ("queue", spent.queue / 1000),
            ("recall", spent.recall / 1000),
            ("rerank", spent.rerank / 1000),
            ("answer", spent.answer / 1000),
            ("publish", publish_s),
        ):
            # A stage that was skipped took no time; counting it as fast would hide the slow ones.
            if seconds > 0:
                self._of_stage(stage).observe(seconds, named)
        self._of_status(answer.status).observe(max(0.0, end_to_end_s), named)
        self._of_outcome(answer.status).inc()
        for degradation in answer.degradations:
            self.degradations.labels(stage=degradation.stage).inc()
        for context in answer.contexts:
            if context.legs is not None:
                self.contexts_by_leg.labels(legs="both" if len(context.legs) > 1 else context.legs[0]).inc()
        if answer.answer and answer.answer.usage:
            self.llm_tokens.labels(kind="prompt").inc(answer.answer.usage.prompt_tokens)
            self.llm_tokens.labels(kind="completion").inc(answer.answer.usage.completion_tokens)

    def observe_contexts(self, seconds: float, *, exemplar: Mapping[str, str] | None = None) -> None:
        """Record a contexts event the broker has acknowledged, so long after its query was asked."""
        self.time_to_contexts_seconds.observe(max(0.0, seconds), None if exemplar is None else dict(exemplar))

    def observe_batch(
        self, batcher: str, *, items: int, cost: int, padded_cost: int, seconds: float, wait_s: float, budget: int
    ) -> None:
        """Record one micro-batch that has run: its cost without and with padding, its time, its first item's wait.

        ``budget``: what the next one may cost.
        """
        self.batch_items.labels(batcher=batcher).observe(items)
        self.batch_seconds.labels(batcher=batcher).observe(seconds)
        self.batch_wait_seconds.labels(batcher=batcher).observe(wait_s)
        self.batch_cost.labels(batcher=batcher).inc(cost)
        self.batch_padded_cost.labels(batcher=batcher).inc(padded_cost)
        self.batch_budget.labels(batcher=batcher).set(budget)

    def observe_dependency_error(self, dependency: str, code: str) -> None:
        """Count a try at a dependency that failed."""
        self.dependency_errors.labels(dependency=dependency, code=code).inc()

    def observe_commit(self, outcome: str) -> None:
        """Count an offset commit that the broker has answered: `ok`, or `put_off` to the next one."""
        self.commits.labels(outcome=outcome).inc()

    def observe_dead_letter(self, reason: str) -> None:
        """Record a dead letter the broker has acknowledged."""
        self.events.labels(outcome=DEAD_LETTER).inc()
        self.dead_letters.labels(reason=reason).inc()

    def observe_statistics(self, statistics: Mapping[str, Any]) -> None:
        """Take from librdkafka's statistics (its STATISTICS.md) how many partitions there are, and owned ones' lag.

        That of the others is forgotten.
        """
        self.consumer_lag.clear()
        for topic, described in statistics.get("topics", {}).items():
            known = [partition for partition in described.get("partitions", {}) if int(partition) >= 0]
            if known:
                self.topic_partitions.labels(group=self._group, topic=topic).set(len(known))
            for partition, state in described.get("partitions", {}).items():
                # -1 is librdkafka's "unknown", and its own row for partitions it does not know yet. Of partitions that
                # have left it keeps what it knew last.
                owned = state.get("fetch_state") not in {"none", "stopping", "stopped", None}
                if owned and state.get("consumer_lag", -1) >= 0:
                    lag = self.consumer_lag.labels(group=self._group, topic=topic, partition=partition)
                    lag.set(state["consumer_lag"])

    def _histogram(self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> Histogram:
        return Histogram(name, text, labels, namespace=PREFIX, buckets=buckets, registry=self.registry)

    def _counter(self, name: str, text: str, labels: Sequence[str]) -> Counter:
        counter = Counter(name, text, labels, namespace=PREFIX, registry=self.registry)
        for known in KNOWN.get(name, ()):
            counter.labels(**known)
        return counter

    def _gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(name, text, labels, namespace=PREFIX, registry=self.registry)
