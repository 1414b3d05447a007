"""An engine that answers is not yet a broker: it has the images, or gets them, or something else runs Kafka."""

import re
from pathlib import Path

import pytest

from tests.fakes.engine import fake_engine
from worker.errors import FatalError
from worker.local import broker
from worker.local.broker import BOOTSTRAP_VARIABLE, choose_kind
from worker.local.docker_kafka import IMAGE, docker_kafka, engine_missing

config = pytest.importorskip("testcontainers.core.config").testcontainers_config
RYUK = config.ryuk_image


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Whose engine is where the test says, and Ryuk in use."""
    monkeypatch.delenv(BOOTSTRAP_VARIABLE, raising=False)
    monkeypatch.setattr(config, "ryuk_disabled", False)
    return monkeypatch


def test_an_engine_that_has_the_images_is_enough(machine: pytest.MonkeyPatch) -> None:
    with fake_engine(IMAGE, RYUK) as engine:
        machine.setenv("DOCKER_HOST", engine.address)
        assert engine_missing() is None
        assert engine.fetched == []


def test_an_engine_that_gets_no_image_is_none_and_its_own_words_say_why(machine: pytest.MonkeyPatch) -> None:
    with fake_engine(RYUK) as engine:
        machine.setenv("DOCKER_HOST", engine.address)
        missing = engine_missing()
    assert missing is not None
    assert re.search(rf"no image {IMAGE} and gets none \(.*no such host", missing)
    assert len(engine.fetched) == 1


def test_without_ryuk_its_image_is_not_needed(machine: pytest.MonkeyPatch) -> None:
    with fake_engine(IMAGE) as engine:
        machine.setenv("DOCKER_HOST", engine.address)
        assert engine_missing() is not None
        machine.setattr(config, "ryuk_disabled", True)
        assert engine_missing() is None


def test_where_the_engine_gets_no_image_java_runs_kafka(machine: pytest.MonkeyPatch) -> None:
    with fake_engine() as engine:
        machine.setenv("DOCKER_HOST", engine.address)
        machine.setattr(broker, "missing_tools", lambda: None)
        assert choose_kind(allow_mock=False) == "java"
        machine.setattr(broker, "missing_tools", lambda: "Java 17 or newer and Maven")
        with pytest.raises(FatalError, match=r"no such host.*install Java 17"):
            choose_kind(allow_mock=False)


def test_no_engine_at_all_is_told_as_before(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    assert re.match("no Docker engine answers", engine_missing() or "")


def test_an_engine_that_refuses_to_run_it_is_told_in_its_words(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with fake_engine(IMAGE, RYUK) as engine:
        machine.setenv("DOCKER_HOST", engine.address)
        with pytest.raises(FatalError, match="no containers today"), docker_kafka(tmp_path):
            pass
