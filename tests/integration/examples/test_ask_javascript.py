"""`examples/ask-javascript` with kafkajs, as its README says."""

import hashlib
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from tests.integration.examples.asking import EXAMPLES, check, fetch, require
from tests.integration.examples.conftest import Service
from tests.patience import HANG_S

pytestmark = pytest.mark.slow

EXAMPLE = EXAMPLES / "ask-javascript"


@pytest.fixture(scope="module")
def libraries(cache_dir: Path) -> Path:
    """What npm installs for the example, once per machine and version."""
    require("node", "npm")
    wanted = (EXAMPLE / "package.json").read_bytes()
    folder = cache_dir / "examples" / f"ask-javascript-{hashlib.sha256(wanted).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock", timeout=HANG_S):
        if not (folder / "complete").exists():
            (folder / "package.json").write_bytes(wanted)
            fetch(["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"], folder)
            (folder / "complete").touch()
    return folder / "node_modules"


def test_it_prints_the_answer_or_the_failure(libraries: Path, tmp_path: Path, service: Service) -> None:
    shutil.copy(EXAMPLE / "ask.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(libraries)
    check(["node", "ask.mjs"], tmp_path, service)
