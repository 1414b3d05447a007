"""The command that writes the JSON Schemas."""

import json
from pathlib import Path

import pytest

from schemas import export


def test_what_is_written_is_not_stale(tmp_path: Path) -> None:
    export.write(tmp_path / "json")
    assert export.stale(tmp_path / "json") == []


def test_missing_and_edited_files_are_stale(tmp_path: Path) -> None:
    export.write(tmp_path)
    (tmp_path / "query-event.schema.json").unlink()
    (tmp_path / "answer-event.schema.json").write_text("{}")
    assert export.stale(tmp_path) == ["query-event.schema.json", "answer-event.schema.json"]


def test_check_fails_and_says_how_to_mend_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export, "stale", lambda: ["query-event.schema.json"])
    assert export.main(["--check"]) == 1
    assert "query-event.schema.json; run: python -m schemas.export" in capsys.readouterr().err


def test_no_schema_names_a_host() -> None:
    for schema in export.schemas().values():
        assert schema["$id"].startswith("urn:rerank-worker:")
        assert json.dumps(schema).count("//") == 1, "the draft's own address alone"
