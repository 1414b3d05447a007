"""All settings together, and where they are read from.

In falling order of precedence: environment variables (``RERANK_WORKER_`` and ``__`` between levels, e.g.
``RERANK_WORKER_KAFKA__GROUP_ID``) and the files that they name for secrets, a ``.env`` file, the YAML file named by
``RERANK_WORKER_CONFIG``, the defaults.
"""

import os
import socket
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from worker.settings.answer import AnswerSettings
from worker.settings.fields import Seconds, UserPath
from worker.settings.index import IndexSettings
from worker.settings.kafka import KafkaSettings
from worker.settings.recall import RecallSettings
from worker.settings.rerank import RerankSettings
from worker.settings.secret_files import SecretFilesSource, without_files
from worker.settings.sources import StrictDotEnvSource, yaml_source
from worker.settings.telemetry import TelemetrySettings

ENV_PREFIX = "RERANK_WORKER_"
ENV_FILE = ".env"
CONFIG_FILE_VARIABLE = "RERANK_WORKER_CONFIG"
DEFAULT_CACHE_DIR = Path("~/.cache/rerank-worker")


class Settings(BaseSettings):
    """Everything the worker can be told."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        env_file=ENV_FILE,
        # `NAME=` in a compose file means "not set", not an empty name.
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    worker_id: str = Field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}")
    """Names this process in answers, logs and metrics."""
    models: Literal["auto", "hub", "offline"] = "auto"
    """Where models come from: `hub` (or its cache), `offline` (installed packages), `auto`: hub if it answers soon."""
    hub_timeout_s: Seconds = 3.0
    """How long `auto` waits for the hub before it takes the offline models."""
    cache_dir: UserPath = DEFAULT_CACHE_DIR
    """Built and exported models, the local broker's jars and the local stack's state."""
    kafka: KafkaSettings = KafkaSettings()
    recall: RecallSettings = RecallSettings()
    rerank: RerankSettings = RerankSettings()
    answer: AnswerSettings = AnswerSettings()
    index: IndexSettings = IndexSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as below
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as below
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings passes it by name
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Add the files of secrets beside the environment, and the YAML file below it."""
        config_file = os.environ.get(CONFIG_FILE_VARIABLE)
        yaml = (yaml_source(settings_cls, config_file, CONFIG_FILE_VARIABLE),) if config_file else ()
        environment = [
            SecretFilesSource(settings_cls),
            without_files(EnvSettingsSource(settings_cls)),
            without_files(StrictDotEnvSource(settings_cls)),
        ]
        return (init_settings, *environment, *yaml)
