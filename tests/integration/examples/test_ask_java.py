"""`examples/ask-java` with Kafka's own client, as its README says."""

import os
import shutil
from pathlib import Path

import pytest

from tests.integration.examples.asking import EXAMPLES, check, fetch, require
from tests.integration.examples.conftest import Service

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example compiled, in a folder of its own; Maven keeps the libraries in its own cache."""
    require("java", "javac", "mvn")
    folder = tmp_path_factory.mktemp("ask-java") / "example"
    shutil.copytree(EXAMPLES / "ask-java", folder, ignore=shutil.ignore_patterns("target"))
    fetch(["mvn", "-q", "-B", "compile"], folder)
    return folder


def test_it_prints_the_answer_or_the_failure(built: Path, service: Service) -> None:
    check(["java", "-cp", os.pathsep.join(["target/classes", "target/lib/*"]), "Ask"], built, service)
