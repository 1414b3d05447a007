"""Spans of an event's way, a query's or a document's, by OpenTelemetry: what is recorded and under which names.

Long: a span a method. Off unless an endpoint is set (``otlp.py``); what is not recorded costs next to nothing. Names
are those that OpenTelemetry's semantic conventions have for messaging, databases and generative AI, and OpenInference
for the reranker, of which the others know nothing. Texts are put down only if asked for.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Literal

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from schemas import wire
from worker.telemetry.marks import MARK

MOST_LINKS = 128
"""OpenTelemetry's own bound on the links of a span."""

_W3C = TraceContextTextMapPropagator()


class _Headers(Getter[wire.Headers]):
    def get(self, carrier: wire.Headers, key: str) -> list[str] | None:
        value = wire.header(carrier, key)
        return None if value is None else [value]

    def keys(self, carrier: wire.Headers) -> list[str]:
        return [name for name, _ in carrier]


@dataclass(frozen=True, slots=True)
class Names:
    """What spans say of the worker."""

    group: str = ""
    client_id: str = ""
    cross_encoder: str = ""
    answerer: str = ""
    asks_llm: bool = False
    """Whether the answerer is a model behind an endpoint."""


class StageSpan:
    """A stage under way; told what came of it."""

    def __init__(self, span: Span | None = None) -> None:
        self._span = span

    def note(self, **attributes: AttributeValue | None) -> None:
        """Put down what is known of the result; None where it is not. Underscores stand for dots."""
        if self._span is not None:
            known = {name.replace("__", "."): value for name, value in attributes.items() if value is not None}
            self._span.set_attributes(known)


_NOTHING = nullcontext(StageSpan())


@dataclass(frozen=True, slots=True)
class Sending:
    """A record on its way to a topic; ends when the broker has it."""

    headers: Sequence[tuple[str, bytes]]
    """That carry the context to whoever reads the record."""
    end: Callable[[], None]


class EventTrace:
    """One event's recorded way: of a query, from its record to the acknowledgement of its answer."""

    def __init__(self, tracer: Tracer, names: Names, span: Span) -> None:
        self._tracer = tracer
        self._names = names
        self._span = span
        context = span.get_span_context()
        self.exemplar: Mapping[str, str] = {
            "trace_id": trace.format_trace_id(context.trace_id),
            "span_id": trace.format_span_id(context.span_id),
        }
        """What a sample of a histogram names this trace by."""

    def note(self, outcome: str) -> None:
        """Put down what became of the event."""
        self._span.set_attribute("rerank_worker.outcome", outcome)

    def failed(self, reason: str) -> None:
        """Put down why it is dead-lettered."""
        _mark_failed(self._span, reason)

    def send(self, topic: str, key: bytes | None) -> Sending:
        """Begin to send the answer."""
        span = self._tracer.start_span(
            f"send {topic}",
            trace.set_span_in_context(self._span),
            SpanKind.PRODUCER,
            attributes=_messaging("send", "send", topic, key) | {"messaging.client.id": self._names.client_id},
        )
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, trace.set_span_in_context(span))
        return Sending([(name, value.encode()) for name, value in carrier.items()], span.end)


@dataclass(frozen=True, slots=True)
class Tracing:
    """The worker's spans. Without a tracer, the default, nothing is recorded. Used on the loop's thread."""

    tracer: Tracer | None = None
    names: Names = field(default_factory=Names)
    texts: bool = False

    @contextmanager
    def process(
        self, topic: str, partition: int, offset: int, key: bytes | None, headers: wire.Headers, **ids: str
    ) -> Iterator[EventTrace | None]:
        """Record the work on one event; None where it is not recorded. What is inside belongs to it.

        ``ids``: of what the event is about, by our names.
        """
        if self.tracer is None:
            yield None
            return
        asked = _W3C.extract(headers, Context(), _Headers())
        creation = trace.get_current_span(asked).get_span_context()
        attributes = _messaging("process", "process", topic, key) | {
            "messaging.destination.partition.id": str(partition),
            "messaging.kafka.offset": offset,
            "messaging.consumer.group.name": self.names.group,
            "messaging.client.id": self.names.client_id,
            **{f"rerank_worker.{name}": value for name, value in ids.items()},
        }
        links = [Link(creation)] if creation.is_valid else []
        # Of a single message the creation may be the parent, and should be linked (messaging spans, "Trace structure").
        span = self.tracer.start_span(f"process {topic}", asked, SpanKind.CONSUMER, attributes, links)
        with _current(span):
            yield EventTrace(self.tracer, self.names, span) if span.is_recording() else None

    def recall(self, collection: str, text: str) -> AbstractContextManager[StageSpan]:
        """Record a search."""
        return self._stage(
            f"retrieval {collection}",
            SpanKind.CLIENT,
            {
                "gen_ai.operation.name": "retrieval",
                "gen_ai.data_source.id": collection,
                "db.system.name": "chroma",
                "db.collection.name": collection,
            },
            {"gen_ai.retrieval.query.text": text},
        )

    def rerank(self, top_n: int, text: str) -> AbstractContextManager[StageSpan]:
        """Record a reranking."""
        return self._stage(
            f"rerank {self.names.cross_encoder}",
            SpanKind.INTERNAL,
            {
                "openinference.span.kind": "RERANKER",
                "reranker.model_name": self.names.cross_encoder,
                "reranker.top_k": top_n,
            },
            {"reranker.query": text},
        )

    def answer(self, text: str) -> AbstractContextManager[StageSpan]:
        """Record the making of an answer."""
        if not self.names.asks_llm:
            return self._stage(f"answer {self.names.answerer}", SpanKind.INTERNAL, {}, {"input.value": text})
        attributes: dict[str, AttributeValue] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": self.names.answerer,
        }
        return self._stage(f"chat {self.names.answerer}", SpanKind.CLIENT, attributes, {"input.value": text})

    def write(
        self, operation: Literal["upsert", "delete"], collection: str | None
    ) -> AbstractContextManager[StageSpan]:
        """Record the bringing in of a document, from its wait for those before it to the store's answer.

        ``collection``: None where it is taken out of any.
        """
        attributes = {"db.system.name": "chroma", "db.operation.name": operation}
        if collection is None:
            return self._stage(operation, SpanKind.CLIENT, attributes, {})
        named = attributes | {"db.collection.name": collection}
        return self._stage(f"{operation} {collection}", SpanKind.CLIENT, named, {})

    def _stage(
        self, name: str, kind: SpanKind, attributes: Mapping[str, AttributeValue], texts: Mapping[str, AttributeValue]
    ) -> AbstractContextManager[StageSpan]:
        if self.tracer is None or MARK.get() is None:
            return _NOTHING
        noted = {**attributes, **texts} if self.texts else attributes
        return _under_way(self.tracer.start_span(name, kind=kind, attributes=noted))


OFF = Tracing()


def record_batch(
    tracer: Tracer, batcher: str, *, seconds: float, items: int, cost: int, marks: Sequence[object]
) -> None:
    """Record a micro-batch that has just run, as a trace of its own, linked to those of the queries that shared it.

    ``marks``: of its jobs, as ``MARK`` had them. Without one no query of it is recorded, and neither is the batch.
    """
    links = [Link(mark) for mark in marks if isinstance(mark, SpanContext)][:MOST_LINKS]
    if not links:
        return
    ended_ns = time.time_ns()
    attributes = {"rerank_worker.batch.items": items, "rerank_worker.batch.cost": cost}
    begun_ns = ended_ns - int(seconds * 1e9)
    tracer.start_span(f"batch {batcher}", Context(), SpanKind.INTERNAL, attributes, links, begun_ns).end(ended_ns)


@contextmanager
def _current(span: Span) -> Iterator[None]:
    """Make a span the one that all inside belongs to, and end it; errors are named by their code or class."""
    mark = MARK.set(span.get_span_context() if span.is_recording() else None)
    try:
        # Their messages may quote texts and hosts, and a cancellation is no failure.
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield
            except Exception as error:
                _mark_failed(span, getattr(error, "code", None) or type(error).__name__)
                raise
    finally:
        MARK.reset(mark)


@contextmanager
def _under_way(span: Span) -> Iterator[StageSpan]:
    with _current(span):
        yield StageSpan(span)


def _mark_failed(span: Span, reason: str) -> None:
    span.set_attribute("error.type", reason)
    span.set_status(Status(StatusCode.ERROR))


def _messaging(operation: str, kind: str, topic: str, key: bytes | None) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "messaging.destination.name": topic,
    }
    if key is not None:
        attributes["messaging.kafka.message.key"] = key.decode(errors="replace")
    return attributes
