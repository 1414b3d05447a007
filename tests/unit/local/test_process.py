"""Which ports a server can have, and gets."""

import socket

import pytest

from worker.errors import FatalError
from worker.local.process import free_port, is_free, on_free_port


def test_a_free_port_is_free() -> None:
    assert is_free(free_port())


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 - as other programs do
def test_a_port_that_somebody_listens_on_is_not(host: str) -> None:
    with socket.create_server((host, 0)) as server:
        assert not is_free(server.getsockname()[1])


def taken(port: int) -> int:
    raise FatalError(f"Address already in use: {port}")


def test_a_port_that_is_taken_meanwhile_is_another_ones_turn() -> None:
    tried: list[int] = []

    def start(port: int) -> int:
        tried.append(port)
        return taken(port) if len(tried) == 1 else port

    assert on_free_port(start) == tried[1]
    assert len(tried) == 2


def test_ports_that_are_always_taken_end_the_tries() -> None:
    with pytest.raises(FatalError, match="already in use"):
        on_free_port(taken)


def test_a_port_that_was_asked_for_is_the_only_one() -> None:
    with pytest.raises(FatalError, match=r": 1$"):
        on_free_port(taken, 1)
