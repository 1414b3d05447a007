"""The reference page says what the code says."""

from pathlib import Path

import pytest

from worker.settings import reference as settings_docs
from worker.settings.load import environment_names
from worker.settings.reference import describe_settings, page

REPOSITORY = Path(__file__).parents[3]


def test_the_committed_page_is_generated_from_the_settings() -> None:
    assert (REPOSITORY / settings_docs.PAGE).read_text(encoding="utf-8") == page(), "run: make docs"


def test_every_setting_is_described() -> None:
    rows = [row for rows in describe_settings().values() for row in rows]
    sections = {f"RERANK_WORKER_{name}".upper() for name in describe_settings() if name}
    assert {row.variable for row in rows} == set(environment_names()) - sections
    assert all(row.meaning and row.type and row.default for row in rows)


def test_every_row_of_a_table_has_its_columns() -> None:
    for line in page().splitlines():
        if line.startswith("| `RERANK_WORKER"):
            assert line.count("|") == 6, line


@pytest.mark.parametrize(
    ("path", "kind", "default"),
    [
        ("kafka.group_protocol", "`classic`, `consumer`", "`classic`"),
        ("kafka.sasl_password", "secret", "none"),
        ("kafka.max_in_flight_pairs", "integer ≥ 1", "`16384`"),
        ("recall.port", "integer ≥ 1, ≤ 65,535", "`8000`"),
        ("rerank.min_score", "number", "none"),
        ("recall.headers", "mapping", "`{}`"),
        ("cache_dir", "path", "`~/.cache/rerank-worker`"),
        ("worker_id", "text", "made at start"),
    ],
)
def test_types_bounds_and_defaults_are_readable(path: str, kind: str, default: str) -> None:
    row = next(row for rows in describe_settings().values() for row in rows if row.path == path)
    assert (row.type, row.default) == (kind, default)
