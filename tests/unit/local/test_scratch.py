"""What a run leaves behind, and when."""

import pytest

from worker.errors import FatalError
from worker.local.scratch import scratch_folder


def test_nothing_is_left_of_a_run_that_went_well() -> None:
    with scratch_folder("test") as folder:
        (folder / "log").write_text("said")
    assert not folder.exists()


def test_nothing_is_left_of_a_run_that_was_ended() -> None:
    with pytest.raises(SystemExit), scratch_folder("test") as folder:
        raise SystemExit(130)
    assert not folder.exists()


def test_the_logs_of_a_failure_are_kept_and_named() -> None:
    with pytest.raises(FatalError, match="no broker") as caught, scratch_folder("test") as folder:
        raise FatalError("no broker")
    assert str(folder) in str(caught.value)
    folder.rmdir()
