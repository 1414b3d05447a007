"""`examples/ask-javascript` with kafkajs, as its README says."""

import hashlib
import shutil
from pathlib import Path

import pytest

from tests.integration.examples.asking import EXAMPLES, check, fetch, prepared, require
from tests.integration.examples.conftest import Service

pytestmark = pytest.mark.slow

EXAMPLE = EXAMPLES / "ask-javascript"


@pytest.fixture(scope="module")
def libraries(cache_dir: Path) -> Path:
    """What npm installs for the example, once per machine and version."""
    require("node", "npm")
    wanted = (EXAMPLE / "package.json").read_bytes()

    def install(folder: Path) -> None:
        (folder / "package.json").write_bytes(wanted)
        fetch(["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"], folder)

    name = f"ask-javascript-{hashlib.sha256(wanted).hexdigest()[:12]}"
    return prepared(cache_dir / "examples" / name, install) / "node_modules"


def test_it_prints_the_answer_or_the_failure(libraries: Path, tmp_path: Path, service: Service) -> None:
    shutil.copy(EXAMPLE / "ask.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(libraries)
    check(["node", "ask.mjs"], tmp_path, service)
