"""Which ports a server can have."""

import socket

import pytest

from worker.local.process import free_port, is_free


def test_a_free_port_is_free() -> None:
    assert is_free(free_port())


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 - as other programs do
def test_a_port_that_somebody_listens_on_is_not(host: str) -> None:
    with socket.create_server((host, 0)) as server:
        assert not is_free(server.getsockname()[1])
