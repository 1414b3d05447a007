"""Every setting, once: its name, unit, default and why. Everybody imports the settings from here.

A section is a file; `root.py` puts them together. Reading them, with errors in the user's words, is `load.py`; which
combinations are refused, `rules.py`.
"""

from worker.settings.answer import AnswerSettings
from worker.settings.index import IndexSettings
from worker.settings.kafka import KafkaSettings
from worker.settings.recall import RecallSettings
from worker.settings.rerank import RerankSettings
from worker.settings.root import CONFIG_FILE_VARIABLE, DEFAULT_CACHE_DIR, ENV_FILE, ENV_PREFIX, Settings
from worker.settings.telemetry import TelemetrySettings

__all__ = [
    "CONFIG_FILE_VARIABLE",
    "DEFAULT_CACHE_DIR",
    "ENV_FILE",
    "ENV_PREFIX",
    "AnswerSettings",
    "IndexSettings",
    "KafkaSettings",
    "RecallSettings",
    "RerankSettings",
    "Settings",
    "TelemetrySettings",
]
