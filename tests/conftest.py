"""What holds for every test: the developer's settings stay outside, and no property test is a race."""

import os
import signal
from collections.abc import Iterator

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


@pytest.fixture(autouse=True)
def default_logging() -> Iterator[None]:
    """A command run in this process quiets the logs; the next test may want to read them."""
    yield
    structlog.reset_defaults()
