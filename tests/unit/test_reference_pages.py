"""The generated reference pages are written and checked alike, whatever they are about."""

from pathlib import Path
from types import ModuleType

import pytest

from schemas import reference as events
from worker.cli import reference as commands
from worker.settings import reference as settings
from worker.telemetry import reference as metrics


@pytest.mark.parametrize(
    "docs", [events, commands, settings, metrics], ids=["events", "commands", "settings", "metrics"]
)
def test_check_fails_on_a_page_that_is_missing_or_old(
    docs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert docs.main(["--check"]) == 1
    assert docs.main([]) == 0
    assert docs.main(["--check"]) == 0
    docs.PAGE.write_text("edited by hand", encoding="utf-8")
    assert docs.main(["--check"]) == 1
