"""Files that are generated: written, compared, laid out."""

from pathlib import Path

import pytest

from schemas import generated


def test_what_is_missing_or_old_is_stale_until_it_is_written(tmp_path: Path) -> None:
    files = {tmp_path / "new" / "a.md": "a\n", tmp_path / "b.md": "b\n"}
    (tmp_path / "b.md").write_text("edited by hand", encoding="utf-8")
    assert generated.stale(files) == list(files)
    generated.write(files)
    assert generated.stale(files) == []


def test_check_writes_nothing_and_names_the_command_that_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {tmp_path / "a.md": "a\n"}
    assert generated.write_or_check("some.module", files, ["--check"]) == 1
    assert capsys.readouterr().err == f"out of date: {tmp_path / 'a.md'}; run: python -m some.module\n"
    assert list(tmp_path.iterdir()) == []
    assert generated.write_or_check("some.module", files, []) == 0
    assert generated.write_or_check("some.module", files, ["--check"]) == 0


def test_a_cell_stays_one_cell() -> None:
    assert generated.table(["a", "b"], [("x|y", "two\nlines")]) == "| a | b |\n| --- | --- |\n| x\\|y | two lines |\n"
