"""Nobody there is known within seconds, whoever is there takes as long as they like."""

import socket
from collections.abc import Iterator

import pytest

from worker.errors import FatalError
from worker.kafka.admin import reach
from worker.kafka.admin.reach import addresses, require_reachable
from worker.local.process import free_port
from worker.settings import KafkaSettings


@pytest.fixture
def listening() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def at(bootstrap_servers: str) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=bootstrap_servers)


def test_a_port_that_nobody_listens_on_is_told_with_its_address() -> None:
    nobody = f"127.0.0.1:{free_port()}"
    with pytest.raises(FatalError, match=rf"{nobody}: Connection refused.*BOOTSTRAP_SERVERS"):
        require_reachable(at(nobody))


def test_a_name_that_nobody_knows_is_told() -> None:
    with pytest.raises(FatalError, match=r"nowhere\.invalid:9092"):
        require_reachable(at("nowhere.invalid"))


def test_one_of_several_is_enough(listening: str) -> None:
    require_reachable(at(f"127.0.0.1:{free_port()}, {listening}"))


def test_an_address_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "REACH_TIMEOUT_S", 0.05)
    monkeypatch.setattr(reach, "_connect", lambda _host, _port: reach.time.sleep(0.5))
    with pytest.raises(FatalError, match=r"127\.0\.0\.1:9: no answer within"):
        require_reachable(at("127.0.0.1:9"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a:1,b:2", [("a", 1), ("b", 2)]),
        ("a", [("a", 9092)]),
        ("SASL_SSL://a:1", [("a", 1)]),
        ("[::1]:1, [::1]", [("::1", 1), ("::1", 9092)]),
        (" , ", []),
    ],
)
def test_addresses_are_read_as_the_client_reads_them(text: str, found: list[tuple[str, int]]) -> None:
    assert list(addresses(text)) == found
