"""Where spans go: which are sampled, the thread that sends them by OTLP, and how long a worker that ends waits for it.

In nobody's way: what can't be got rid of is dropped, and counted by the library's own log.
"""

import threading
from collections.abc import Sequence
from importlib.metadata import version

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

CLOSE_TIMEOUT_S = 2.0
"""For what is recorded and not sent when the worker ends: a collector may be away, and its library waits for it."""
EXPORT_TIMEOUT_S = 5.0


def otlp_processor(endpoint: str) -> SpanProcessor:
    """Return what sends spans to an OTLP/gRPC endpoint, e.g. ``http://collector:4317``; plain text unless ``https``.

    The exporter's own variables (``OTEL_EXPORTER_OTLP_HEADERS``, ``OTEL_EXPORTER_OTLP_CERTIFICATE``) are heard.
    """
    exporter = OTLPSpanExporter(endpoint, insecure=not endpoint.startswith("https"), timeout=EXPORT_TIMEOUT_S)
    return BatchSpanProcessor(exporter)


def new_provider(processor: SpanProcessor, *, worker_id: str, ratio: float) -> TracerProvider:
    """Return what records the share ``ratio`` of the queries, and of those that come with a decision what it says.

    ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` are heard.
    """
    resource = Resource.create({SERVICE_VERSION: version("rerank-worker"), SERVICE_INSTANCE_ID: worker_id})
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "rerank-worker"}))
    provider = TracerProvider(ParentBased(_Ratio(ratio)), resource, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return provider


def close(provider: TracerProvider) -> None:
    """Send what is recorded; blocks for ``CLOSE_TIMEOUT_S`` at most."""
    closing = threading.Thread(target=provider.shutdown, name="traces-close", daemon=True)
    closing.start()
    closing.join(CLOSE_TIMEOUT_S)


class _Ratio(Sampler):
    """Samples a share of the traces that begin here, and each that is linked to one: a batch of a sampled query."""

    def __init__(self, ratio: float) -> None:
        self._of_queries = TraceIdRatioBased(ratio)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        sampler = ALWAYS_ON if links else self._of_queries
        return sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return f"LinkedOr{self._of_queries.get_description()}"
