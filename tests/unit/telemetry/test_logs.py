"""What is logged and what is not, in a process of each level: logging is configured once for the whole of it."""

import subprocess
import sys

import pytest

from tests.patience import HANG_S

NAMES = ["httpx", "httpx2", "httpcore", "httpcore2", "openai", "botocore"]
LOGGING = f"""
import logging
import sys
import structlog
from worker.settings import TelemetrySettings
from worker.telemetry import logs
logs.configure(TelemetrySettings(log_level=sys.argv[1], log_format="json"))
structlog.get_logger().debug("answered")
structlog.get_logger().info("consuming")
for name in {NAMES}:
    logging.getLogger(name).info("a request of %s.", name)
logging.getLogger("somebody.else").info("news")
"""


@pytest.fixture(scope="module")
def logged() -> dict[str, str]:
    """What is logged at each level."""
    ended = {
        level: subprocess.run(
            [sys.executable, "-c", LOGGING, level], capture_output=True, text=True, timeout=HANG_S, check=True
        )
        for level in ("debug", "info")
    }
    return {level: each.stderr for level, each in ended.items()}


@pytest.mark.parametrize("name", NAMES)
def test_clients_that_announce_every_request_are_quiet_and_others_are_heard(logged: dict[str, str], name: str) -> None:
    assert f"a request of {name}." not in logged["info"]
    assert "news" in logged["info"]


@pytest.mark.parametrize(("level", "told"), [("debug", True), ("info", False)])
def test_what_every_query_says_is_told_at_debug_alone(logged: dict[str, str], level: str, told: bool) -> None:
    assert ("answered" in logged[level]) is told
    assert "consuming" in logged[level]


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
