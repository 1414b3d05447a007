"""A Chroma server behind TLS, as a proxy before it has it: known by its authority, or not asked anything."""

import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.faults.proxy import Proxy
from tests.patience import HANG_S
from worker.errors import TransientError
from worker.local.chroma import LocalChroma
from worker.recall.chroma_connection import ChromaConnection
from worker.settings import RecallSettings

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(chroma_server: LocalChroma, tmp_path: Path) -> Iterator[RecallSettings]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    proxy = Proxy(chroma_server.port, tls)
    yield RecallSettings(host="127.0.0.1", port=proxy.port, ssl=True, ssl_ca_location=tmp_path / "ca.pem", attempts=1)
    proxy.close()


def heartbeat(settings: RecallSettings) -> int:
    connection = ChromaConnection(settings)
    try:
        return connection.run(lambda client: client.heartbeat(), deadline=time.monotonic() + HANG_S)
    finally:
        connection.close()


def test_a_server_is_known_by_its_own_authority(settings: RecallSettings) -> None:
    assert heartbeat(settings) > 0


def test_a_server_of_an_unknown_authority_is_asked_nothing(settings: RecallSettings) -> None:
    with pytest.raises(TransientError, match="certificate verify failed"):
        heartbeat(settings.model_copy(update={"ssl_ca_location": None}))
