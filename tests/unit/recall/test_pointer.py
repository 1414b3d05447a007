"""What is told of which collection a name reads."""

from structlog.testing import capture_logs

from worker.recall.pointer import Readings


def test_a_change_of_what_is_read_is_told_once_whoever_sees_it() -> None:
    told: list[tuple[str, str]] = []
    readings = Readings(lambda name, reads: told.append((name, reads)))
    with capture_logs() as logs:
        for reads in ("documents", "documents", "documents-2", "documents-2", "documents"):
            readings.note("documents", reads)
    assert told == [("documents", "documents"), ("documents", "documents-2"), ("documents", "documents")]
    assert [(each["log_level"], each["reads"]) for each in logs] == [("info", "documents-2"), ("info", "documents")]


def test_what_can_not_be_read_is_warned_of_once_with_the_reason() -> None:
    readings = Readings()
    with capture_logs() as logs:
        for _ in range(3):
            readings.note("documents", "documents-2", why_not=ValueError("another model"))
    [warning] = logs
    assert warning["log_level"] == "warning"
    assert (warning["reads"], warning["reason"]) == ("documents-2", "another model")
