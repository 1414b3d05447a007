"""Settings of the section `telemetry`; a short file, since a section is a file."""

from typing import Annotated, Literal

from pydantic import Field

from worker.settings.fields import Seconds, Section


class TelemetrySettings(Section):
    """What operators look at."""

    host: str = "0.0.0.0"  # noqa: S104 - probes and Prometheus come from other hosts
    """Address of `/metrics`, `/live` and `/ready`."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 9464
    """Their port; 0 takes a free one and logs it."""
    hang_timeout_s: Seconds = 180.0
    """A call of the model's, the recall's or the tokenizer's thread that runs for longer hangs: `/live` fails, and the
    worker ends with exit code 1, for only a new process has a thread that works."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """`auto`: readable on a terminal, JSON elsewhere."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe event that is written. `debug` has a line an answer too; what went wrong is told at `warning`."""
    otlp_endpoint: str | None = None
    """Where traces go, by OTLP over gRPC, e.g. `http://collector:4317`; none are made without. `OTEL_SERVICE_NAME`,
    `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_EXPORTER_OTLP_HEADERS` are heard."""
    trace_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the queries that are traced, 0 to 1, among those whose `traceparent` does not say whether they are."""
    trace_texts: bool = False
    """Put questions into spans. Else a trace holds names, numbers and the query's id, and no text."""
