"""Spans reach a collector; one that is away, or hangs, holds up nobody."""

import logging
import socket
import threading
import time

import pytest

from tests.fakes.collector import fake_collector
from tests.patience import HANG_S
from worker.telemetry import otlp

# What could not be sent is told by a thread that outlives its test, and would be printed among the results.
logging.getLogger("opentelemetry").addHandler(logging.NullHandler())


def test_spans_come_with_who_sent_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=tests")
    with fake_collector() as collector:
        processor = otlp.otlp_processor(f"http://127.0.0.1:{collector.port}")
        provider = otlp.new_provider(processor, worker_id="w1", ratio=1.0)
        provider.get_tracer("tests").start_span("one").end()
        assert provider.force_flush(int(HANG_S * 1000))
        assert [span.name for span in collector.spans] == ["one"]
        [resource] = collector.resources
        assert resource["service.name"] == "rerank-worker"
        assert resource["service.instance.id"] == "w1"
        assert resource["deployment.environment.name"] == "tests"
        otlp.close(provider)


def test_the_environment_names_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "answers")
    with fake_collector() as collector:
        processor = otlp.otlp_processor(f"http://127.0.0.1:{collector.port}")
        provider = otlp.new_provider(processor, worker_id="w1", ratio=1.0)
        assert provider.resource.attributes["service.name"] == "answers"
        otlp.close(provider)


@pytest.mark.parametrize("ratio", [0.0, 0.25, 1.0])
def test_a_share_of_the_queries_is_traced(ratio: float) -> None:
    with fake_collector() as collector:
        provider = otlp.new_provider(
            otlp.otlp_processor(f"http://127.0.0.1:{collector.port}"), worker_id="w", ratio=ratio
        )
        tracer = provider.get_tracer("tests")
        sampled = sum(tracer.start_span("one").is_recording() for _ in range(2_000))
        otlp.close(provider)
    # Six standard deviations: once in a thousand million runs.
    assert abs(sampled - 2_000 * ratio) <= 6 * (2_000 * ratio * (1 - ratio)) ** 0.5


@pytest.mark.parametrize("away", [True, False])
def test_a_collector_that_is_away_or_silent_holds_up_no_worker_that_ends(away: bool) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if not away:
            # Connections are taken by the kernel and nobody answers.
            silent.listen()
        provider = otlp.new_provider(
            otlp.otlp_processor(f"http://127.0.0.1:{silent.getsockname()[1]}"), worker_id="w1", ratio=1.0
        )
        begun_s = time.monotonic()
        for _ in range(10_000):
            provider.get_tracer("tests").start_span("one").end()
        recorded_s = time.monotonic() - begun_s
        closing = threading.Thread(target=otlp.close, args=(provider,))
        closing.start()
        closing.join(HANG_S)
        assert not closing.is_alive()
    # A call of the exporter would take EXPORT_TIMEOUT_S each; there are twenty batches.
    assert recorded_s < 10 * otlp.EXPORT_TIMEOUT_S
