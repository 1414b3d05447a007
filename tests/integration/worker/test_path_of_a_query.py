"""One query through a real worker: which files its way from the poll to the commit leads through.

docs/architecture.md lists them for readers; here the list is held against what really runs.
"""

import json
import re
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from schemas.events import QueryEvent
from tests.patience import HANG_S
from tests.traced_worker import trace
from tests.worker_process import WorkerProcess
from worker.client import QueryClient
from worker.local.process import await_condition
from worker.settings import KafkaSettings, RecallSettings

pytestmark = pytest.mark.slow

ARCHITECTURE = Path(__file__).parents[3] / "docs" / "architecture.md"
MOST_FILES = 34
ENOUGH = 8

# What watches the path (metrics, health, the builder's hooks into them, whether the topic is still the same), and the
# types that travel it.
WATCHING = ("telemetry/", "app/", "domain.py", "kafka/consume/log_watch.py")


def listed() -> tuple[list[str], list[str]]:
    """The files in docs/architecture.md that are enough, and the others on the path."""
    text = ARCHITECTURE.read_text(encoding="utf-8")
    path = text.partition("<!-- path:begin -->")[2].partition("<!-- path:end -->")[0]
    _, enough, others = re.split(r"^The (?:eight|other).*:$", path, flags=re.MULTILINE)
    return tuple(re.findall(r"^- \[.*?\]\(\.\./worker/([\w/]+\.py)\)", part, re.MULTILINE) for part in (enough, others))


def test_a_query_passes_through_the_files_that_the_architecture_lists_and_no_others(
    kafka_settings: Callable[..., KafkaSettings],
    collection: RecallSettings,
    start_worker: Callable[..., WorkerProcess],
    tmp_path: Path,
) -> None:
    kafka, told = kafka_settings(partitions=1), tmp_path / "files"
    worker = start_worker(
        kafka,
        collection,
        before=partial(trace, told),
        # What the client tells of itself from time to time is not on the path of a query.
        KAFKA__CLIENT_OPTIONS=json.dumps({"statistics.interval.ms": 3_600_000}),
    )
    worker.await_ready()
    with QueryClient(kafka) as client:
        # The first one opens the collection and warms the caches, which later ones find done.
        ask(client, "first")
        await_committed(worker, 1)
        worker.process.send_signal(signal.SIGUSR1)
        ask(client, "second")
        await_committed(worker, 2)
        worker.process.send_signal(signal.SIGUSR2)
    assert await_condition(told.exists, timeout_s=HANG_S), worker.describe()
    assert worker.stop() == 0

    passed = {file for file in told.read_text().splitlines() if not file.startswith(WATCHING)}
    print(f"one query passes through {len(passed)} files of worker/: {', '.join(sorted(passed))}")
    enough, others = listed()
    assert sorted(passed) == sorted(enough + others)
    assert len(passed) <= MOST_FILES
    assert len(enough) == ENOUGH


def ask(client: QueryClient, name: str) -> None:
    event = QueryEvent(id=name, text=f"What permissions does Debezium need on MySQL? ({name})")
    assert client.ask(event, timeout_s=HANG_S).contexts


def await_committed(worker: WorkerProcess, count: int) -> None:
    assert await_condition(lambda: f'"committed_offset": {count}' in worker.describe(), timeout_s=HANG_S), (
        worker.describe()
    )
