"""What holds for every test: the developer's settings stay outside, and no property test is a race."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from worker.settings import ENV_PREFIX

# Where things are kept and may come from, which a machine may have to say; everything else would change results.
KEPT = (f"{ENV_PREFIX}TESTS_", f"{ENV_PREFIX}CACHE_DIR", f"{ENV_PREFIX}MODELS")

for name in list(os.environ):
    if name.upper().startswith(ENV_PREFIX) and not name.upper().startswith(KEPT):
        del os.environ[name]

# A shell that runs the tests in the background makes them ignore Ctrl-C, and every process they start inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Hypothesis' deadline of 200 ms per example is a timed assert: a busy machine fails it.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


NOTHING_BUT_SLOW = re.compile(r"^pytestmark = (?:\[\s+)?pytest\.mark\.slow\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A file of slow tests alone is not even imported where those are left out: that takes seconds, in each lane."""
    if config.option.markexpr != "not slow" or collection_path.suffix != ".py":
        return None
    return True if NOTHING_BUT_SLOW.search(collection_path.read_text(encoding="utf-8")) else None


@pytest.fixture(autouse=True)
def default_logging() -> Iterator[None]:
    """A command run in this process quiets the logs; the next test may want to read them.

    As structlog has them by default, but for an error's stack: with every local variable it takes most of a second.
    """
    *others, _ = structlog.get_config()["processors"]
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*others, plain])
    yield
    structlog.reset_defaults()
