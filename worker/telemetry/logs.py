"""Structured logs: readable on a terminal, JSON lines elsewhere; libraries' own logs in the same form."""

import logging
import sys
from typing import Any

import structlog
from structlog.dev import ConsoleRenderer, RichTracebackFormatter
from structlog.processors import ExceptionRenderer, JSONRenderer
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import Processor

from worker.settings import TelemetrySettings

# They announce every request or every loaded tensor at info; botocore what it signs at debug.
# httpx2 is the name under which the OpenAI client may carry its own copy.
_CHATTY = (
    *("httpx", "httpx2", "httpcore", "httpcore2", "openai", "botocore", "urllib3"),
    *("chromadb", "sentence_transformers", "transformers", "huggingface_hub"),
)


def configure(telemetry: TelemetrySettings) -> None:
    """Send every log line to standard error in one form. Call once, before anything logs."""
    json_lines = telemetry.log_format == "json" or (telemetry.log_format == "auto" and not sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    # Without locals, as structlog would have them: a password is one where a client is made.
    endings: list[Processor] = (
        [ExceptionRenderer(ExceptionDictTransformer(show_locals=False)), JSONRenderer(default=str)]
        if json_lines
        else [ConsoleRenderer(exception_formatter=RichTracebackFormatter(show_locals=False))]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        # What is below the level costs next to nothing: one event of every query is.
        wrapper_class=structlog.make_filtering_bound_logger(telemetry.log_level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _name_source],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *endings],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(telemetry.log_level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def quiet_commands() -> None:
    """Keep a command's output to what it prints: only warnings are logged. ``configure`` is for the worker itself."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    # It warns of every retry while a broker is starting; what comes of it is the command's own error.
    logging.getLogger("librdkafka").setLevel(logging.CRITICAL)


def _name_source(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    record: logging.LogRecord = event["_record"]
    event["logger"] = record.name
    return event
