"""`examples/debezium-postgres`, as its script runs it: PostgreSQL, Kafka Connect and Debezium are real."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.integration.examples.asking import EXAMPLES, NO_NETWORK
from tests.live_index import indexed
from tests.patience import HANG_S
from worker.errors import FatalError
from worker.kafka.admin.dead_letters import Wanted, read
from worker.local.jars import missing_tools
from worker.local.process import await_condition
from worker.settings import Settings
from worker.settings.kafka import for_documents

pytestmark = pytest.mark.slow


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, cache_dir: Path) -> Iterator[ModuleType]:
    """The script, with everything it fetches at hand. Skips where this machine or its network lacks something."""
    monkeypatch.syspath_prepend(EXAMPLES / "debezium-postgres")
    run, postgres, connect = (importlib.import_module(name) for name in ("run", "postgres", "connect"))
    if lack := missing_tools() or postgres.lacking():
        pytest.skip(f"not on this machine: {lack}")
    try:
        connect.resolve_jars(cache_dir)
        if postgres.installed_programs() is None:
            postgres.resolve_jar(cache_dir)
    except FatalError as error:
        if NO_NETWORK.search(str(error)):
            pytest.skip(f"what the example fetches can't be fetched: {error}")
        raise
    yield run
    for name in ("run", "story", "postgres", "connect"):
        sys.modules.pop(name, None)


def test_answers_follow_the_rows_of_a_database(example: ModuleType, cache_dir: Path, tmp_path: Path) -> None:
    settings = Settings(models="offline", cache_dir=cache_dir)
    with example.running(settings, tmp_path) as place:
        told = {step.said: step.found for step in place.story().steps()}

        assert "within 30 days" in told["A row is inserted"]
        assert "within 60 days" in told["It is updated"]
        assert "within 60 days" in told["Its primary key changes"]
        assert "days" not in told["It is deleted"].partition("?")[2]
        assert "REPLICA IDENTITY FULL" in told["Beside a large column, which Debezium leaves out, a title changes"]

        [letter] = read(for_documents(place.settings.kafka), Wanted())
        assert (letter.info.error_class, letter.record.key) == ("unavailable_value", b'{"id":3}')

        rows = place.database.execute("SELECT id::text, title || ' ' || body FROM docs").fetchall()
        assert len(rows) == 2
        assert await_condition(lambda: indexed(place.settings.recall) == dict(rows), timeout_s=HANG_S)
