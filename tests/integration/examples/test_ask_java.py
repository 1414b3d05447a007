"""`examples/ask-java` with Kafka's own client, as its README says."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from tests.integration.examples.asking import EXAMPLES, check, fetch, prepared, require
from tests.integration.examples.conftest import Service

pytestmark = pytest.mark.slow

EXAMPLE = EXAMPLES / "ask-java"


@pytest.fixture(scope="module")
def built(cache_dir: Path) -> Path:
    """The example compiled, with its libraries, once per machine and version."""
    require("java", "javac", "mvn")
    sources = sorted(path for path in EXAMPLE.rglob("*") if path.is_file() and "target" not in path.parts)
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()

    def build(folder: Path) -> None:
        shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("target"), dirs_exist_ok=True)
        fetch(["mvn", "-q", "-B", "compile"], folder)

    return prepared(cache_dir / "examples" / f"ask-java-{wanted[:12]}", build)


def test_it_prints_the_answer_or_the_failure(built: Path, service: Service) -> None:
    check(["java", "-cp", os.pathsep.join(["target/classes", "target/lib/*"]), "Ask"], built, service)
