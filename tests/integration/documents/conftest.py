"""A real Chroma server for the tests of this folder."""

from collections.abc import Iterator

import pytest

from worker.local.chroma import local_chroma


@pytest.fixture(scope="session")
def chroma_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with local_chroma(tmp_path_factory.mktemp("chroma")) as server:
        yield server.port
