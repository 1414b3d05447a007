"""What is logged and what is not."""

import subprocess
import sys

import pytest

from tests.patience import HANG_S

LOGGING = """
import logging
from worker.settings import TelemetrySettings
from worker.telemetry import logs
logs.configure(TelemetrySettings(log_level="info", log_format="json"))
logging.getLogger("{name}").info("every request")
logging.getLogger("somebody.else").info("news")
"""


@pytest.mark.parametrize("name", ["httpx", "httpx2", "httpcore", "httpcore2", "openai", "botocore"])
def test_clients_that_announce_every_request_are_quiet_and_others_are_heard(name: str) -> None:
    script = LOGGING.format(name=name)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=HANG_S, check=True)
    assert "every request" not in ended.stderr
    assert "news" in ended.stderr


@pytest.mark.parametrize(("level", "told"), [("debug", True), ("info", False)])
def test_what_every_query_says_is_told_at_debug_alone(level: str, told: bool) -> None:
    script = f"""
import structlog
from worker.settings import TelemetrySettings
from worker.telemetry import logs
logs.configure(TelemetrySettings(log_level="{level}", log_format="json"))
structlog.get_logger().debug("answered")
structlog.get_logger().info("consuming")
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=HANG_S, check=True)
    assert ("answered" in ended.stderr) is told
    assert "consuming" in ended.stderr


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_shows_where_it_broke_and_none_of_the_secrets_there(log_format: str) -> None:
    script = f"""
import structlog
from worker.settings import TelemetrySettings
from worker.telemetry import logs
logs.configure(TelemetrySettings(log_format="{log_format}"))

def make_a_client(config):
    raise RuntimeError("it broke")

try:
    make_a_client({{"sasl.password": "hunter" + "2"}})
except RuntimeError:
    structlog.get_logger().exception("internal error")
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=HANG_S, check=True)
    assert "make_a_client" in ended.stderr
    assert "it broke" in ended.stderr
    assert "hunter2" not in ended.stderr
