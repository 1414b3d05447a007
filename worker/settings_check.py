"""Settings as a process may use them: read, spelled right, possible together, and fit to be shown."""

import difflib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from worker.errors import FatalError
from worker.settings import CONFIG_FILE_VARIABLE, Settings

PREFIX = "RERANK_WORKER_"
# Read by the tests' own fixtures, never by the worker.
NOT_SETTINGS = (CONFIG_FILE_VARIABLE, f"{PREFIX}TESTS_")

# What the delivery guarantee rests on, and what has a setting of its own.
PROTECTED_OPTIONS = {
    "bootstrap.servers": "kafka.bootstrap_servers",
    "group.id": "kafka.group_id",
    "group.protocol": "kafka.group_protocol",
    "auto.offset.reset": "kafka.auto_offset_reset",
    "max.poll.interval.ms": "kafka.max_poll_interval_s",
    "delivery.timeout.ms": "kafka.delivery_timeout_s",
    "message.timeout.ms": "kafka.delivery_timeout_s",
    "partition.assignment.strategy": None,
    "enable.auto.commit": None,
    "enable.auto.offset.store": None,
    "enable.idempotence": None,
    "acks": None,
    "request.required.acks": None,
    "isolation.level": None,
    "transactional.id": None,
    "allow.auto.create.topics": None,
}
# KIP-848 keeps these on the broker; librdkafka refuses to start with them.
BROKER_SIDE_OPTIONS = ("session.timeout.ms", "heartbeat.interval.ms", "group.protocol.type")


def load_settings() -> Settings:
    """Read the settings and check them. FatalError lists every problem, one a line."""
    if misspelt := list(_misspelt(os.environ)):
        raise FatalError("unknown settings:\n" + "\n".join(misspelt))
    try:
        settings = Settings()
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors(include_input=False)]
        raise FatalError("settings that can't be used:\n" + "\n".join(lines)) from error
    except (SettingsError, OSError, ValueError) as error:
        raise FatalError(f"the settings can't be read: {error}") from error
    check_settings(settings)
    return settings


def check_settings(settings: Settings) -> None:
    """Refuse combinations that can't work. FatalError lists all of them, with what to set instead."""
    problems = [*_kafka_problems(settings), *_stage_problems(settings)]
    if problems:
        raise FatalError("settings that can't work together:\n" + "\n".join(f"  {problem}" for problem in problems))


def redacted(settings: Settings) -> dict[str, Any]:
    """Return the settings as JSON-able data, secrets as stars."""
    hidden = settings.model_dump(mode="json")
    # Passthrough options may be secrets too, and no type says so.
    options = hidden["kafka"]["client_options"]
    hidden["kafka"]["client_options"] = {
        name: "**********" if any(word in name for word in ("password", "secret", "key", "token")) else value
        for name, value in options.items()
    }
    return hidden


def environment_names(model: type[BaseModel] = Settings, prefix: str = PREFIX) -> Iterator[str]:
    """Yield the environment variable of every setting."""
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield from environment_names(section, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}"


def _misspelt(environment: Mapping[str, str]) -> Iterator[str]:
    known = set(environment_names())
    sections = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    # A mapping's entries can be given one by one below its name.
    mappings = (f"{PREFIX}KAFKA__CLIENT_OPTIONS__", f"{PREFIX}RECALL__HEADERS__")
    for name in sorted(environment):
        upper = name.upper()
        ours = upper.startswith(PREFIX) and not upper.startswith(NOT_SETTINGS)
        if ours and upper not in known | sections and not upper.startswith(mappings):
            close = difflib.get_close_matches(upper, known, n=1)
            yield f"  {name}" + (f": did you mean {close[0]}?" if close else "")


def _kafka_problems(settings: Settings) -> Iterator[str]:
    kafka = settings.kafka
    for option in sorted(kafka.client_options.keys() & PROTECTED_OPTIONS.keys()):
        own = PROTECTED_OPTIONS[option]
        yield f"kafka.client_options.{option}: " + (
            f"set {own} instead" if own else "the delivery rests on it; remove it"
        )
    if kafka.group_protocol == "consumer":
        for option in sorted(kafka.client_options.keys() & set(BROKER_SIDE_OPTIONS)):
            yield f"kafka.client_options.{option}: with group_protocol=consumer the broker decides it; remove it"
    if kafka.security_protocol.startswith("sasl") and not (
        kafka.sasl_mechanism and kafka.sasl_username and kafka.sasl_password
    ):
        yield "kafka.security_protocol uses SASL: set sasl_mechanism, sasl_username and sasl_password too"
    if kafka.sasl_mechanism and not kafka.security_protocol.startswith("sasl"):
        yield f"kafka.sasl_mechanism is set but security_protocol is {kafka.security_protocol}: set a sasl_* one"
    if kafka.revoke_timeout_s > kafka.max_poll_interval_s / 2:
        yield "kafka.revoke_timeout_s must be at most half of max_poll_interval_s, or a revoke costs the membership"
    if kafka.poll_batch > kafka.max_in_flight:
        yield "kafka.poll_batch must not exceed max_in_flight, or one poll overshoots it"
    if len({kafka.query_topic, kafka.answer_topic, kafka.dead_letter_topic}) != len(("query", "answer", "dead letter")):
        yield "kafka.query_topic, answer_topic and dead_letter_topic must be three topics, or the worker feeds itself"


def _stage_problems(settings: Settings) -> Iterator[str]:
    if (settings.answer.base_url is None) != (settings.answer.model is None):
        yield "answer.base_url and answer.model belong together: set both for an LLM, none for extractive answers"
    if settings.rerank.dtype in {"float16", "bfloat16"} and settings.rerank.device == "cpu":
        yield f"rerank.dtype={settings.rerank.dtype} is slower than float32 on a CPU: set auto or float32"
    if settings.rerank.top_n > settings.recall.top_k:
        yield "rerank.top_n can't exceed recall.top_k: only what was recalled can be kept"
    if settings.rerank.batch_tokens < settings.rerank.max_length:
        yield "rerank.batch_tokens must hold at least one pair of rerank.max_length tokens"
