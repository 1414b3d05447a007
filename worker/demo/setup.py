"""How the demo configures its worker: the user's settings, moved to names and ports of the demo's own."""

from collections.abc import Mapping
from typing import Any

from worker.local.process import free_port
from worker.models.resolve import ResolvedModel
from worker.settings import ENV_PREFIX, Settings

NAME = "rerank-worker-demo"

# A few sentences: the LLM has one core.
MAX_ANSWER_TOKENS = 64


def own_variables(cross_encoder: ResolvedModel, *, name: str = NAME) -> dict[str, str]:
    """Return a worker's settings as environment variables; a running stack or another demo is left alone.

    ``name`` begins its topics, and is its group's.
    """
    variables = {
        "KAFKA__QUERY_TOPIC": f"{name}.queries",
        "KAFKA__ANSWER_TOPIC": f"{name}.answers",
        "KAFKA__DEAD_LETTER_TOPIC": f"{name}.queries.dlq",
        "KAFKA__GROUP_ID": name,
        "RECALL__COLLECTION": NAME,
        "ANSWER__MAX_TOKENS": str(MAX_ANSWER_TOKENS),
        "TELEMETRY__HOST": "127.0.0.1",
        "TELEMETRY__PORT": str(free_port()),
        "TELEMETRY__LOG_FORMAT": "console",
    }
    if cross_encoder.min_score is not None:
        variables["RERANK__MIN_SCORE"] = str(cross_encoder.min_score)
    return {f"{ENV_PREFIX}{name}": value for name, value in variables.items()}


def settings_with(variables: Mapping[str, str]) -> Settings:
    """Return the settings of a process that is started with these environment variables besides the present ones."""
    sections: dict[str, Any] = {}
    for variable, value in variables.items():
        section, name = variable.removeprefix(ENV_PREFIX).lower().split("__")
        sections.setdefault(section, {})[name] = value
    return Settings(**sections)
