"""Which broker a machine gets, for every kind of machine."""

import pytest

from worker.errors import FatalError
from worker.local import broker
from worker.local.broker import BOOTSTRAP_VARIABLE, choose_kind


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with neither Docker nor Java nor a broker named."""
    monkeypatch.delenv(BOOTSTRAP_VARIABLE, raising=False)
    monkeypatch.setattr(broker, "engine_missing", lambda: "no Docker engine answers")
    monkeypatch.setattr(broker, "missing_tools", lambda: "Java 17 or newer and Maven")
    return monkeypatch


def test_a_broker_that_is_named_comes_first(machine: pytest.MonkeyPatch) -> None:
    machine.setenv(BOOTSTRAP_VARIABLE, "kafka:9092")
    machine.setattr(broker, "engine_missing", lambda: None)
    assert choose_kind(allow_mock=False) == "external"


def test_docker_comes_before_java(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(broker, "engine_missing", lambda: None)
    machine.setattr(broker, "missing_tools", lambda: None)
    assert choose_kind(allow_mock=False) == "docker"


def test_java_comes_before_the_mock(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(broker, "missing_tools", lambda: None)
    assert choose_kind(allow_mock=True) == "java"


def test_the_mock_is_taken_only_where_it_is_allowed(machine: pytest.MonkeyPatch) -> None:
    assert choose_kind(allow_mock=True) == "mock"
    with pytest.raises(FatalError, match=r"no Docker engine answers.*install Java 17 or newer and Maven"):
        choose_kind(allow_mock=False)
