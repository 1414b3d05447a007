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
