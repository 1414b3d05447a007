"""`rerank-worker local`: the ports it asks for."""

import socket

import pytest

from worker.cli import local
from worker.errors import FatalError
from worker.local.process import free_port, is_free


def test_the_default_port_is_taken_if_it_is_free() -> None:
    port = free_port()
    assert local._port("Kafka", None, port) == port


def test_another_one_is_taken_and_told_if_it_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        found = local._port("Kafka", None, taken)
    assert found != taken
    assert is_free(found)
    assert f"port {taken} is taken: Kafka listens on {found}" in capsys.readouterr().err


def test_a_port_that_was_asked_for_and_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        with pytest.raises(FatalError, match=f"port {taken} is taken"):
            local._port("Kafka", taken, 9092)
