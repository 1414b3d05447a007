"""What the image is: compiled, in layers, anybody's, and honest about its health."""

import json
import re
from collections.abc import Iterator

import pytest

from tests.containers.engine import HARDENED, KILLED, docker, inspect, log_of, run, stopped
from tests.patience import HANG_S
from worker.local.process import await_condition

NOWHERE = "--env=RERANK_WORKER_KAFKA__BOOTSTRAP_SERVERS=127.0.0.1:1"
OFFLINE = "--env=RERANK_WORKER_MODELS=offline"

UNCOMPILED = """
from importlib.util import cache_from_source
from pathlib import Path
import json, site
sources = list(Path(site.getsitepackages()[0]).rglob("*.py"))
print(json.dumps([len(sources), [str(each) for each in sources if not Path(cache_from_source(each)).exists()]]))
"""


@pytest.fixture
def containers() -> Iterator[list[str]]:
    """Names of containers that are removed when the test is done."""
    names: list[str] = []
    yield names
    for name in names:
        docker("rm", "--force", "--volumes", name, check=False)


def started(containers: list[str], image: str, *options: str, command: str = "run") -> str:
    containers.append(docker("run", "--detach", *options, image, command))
    return containers[-1]


def test_everything_is_compiled_and_nothing_is_stale(image: str) -> None:
    sources, uncompiled = json.loads(docker("run", "--rm", "--entrypoint=python", image, "-c", UNCOMPILED))
    assert [path for path in uncompiled if "/site-packages/worker/" in path or "/schemas/" in path] == []
    # Templates and other Pythons' syntax, which nobody imports.
    assert len(uncompiled) < sources / 1_000, uncompiled
    imported = run("docker", "run", "--rm", "--entrypoint=python", image, "-v", "-c", "import worker.app.run").stderr
    assert imported.count("# code object from ") > 1_000
    assert "bytecode is stale" not in imported


def test_a_changed_line_of_code_is_a_small_layer(image: str) -> None:
    history = docker("history", "--human=false", "--no-trunc", "--format={{.Size}}\t{{.CreatedBy}}", image)
    layers = {command: int(size) for size, command in (line.split("\t", 1) for line in history.splitlines())}
    [project] = [size for command, size in layers.items() if re.search(r"/project\b.*/venv\b", command)]
    [dependencies] = [size for command, size in layers.items() if re.search(r"COPY /venv /venv", command)]
    print(f"layers: the project {project / 1e6:.1f} MB, its dependencies {dependencies / 1e9:.2f} GB")
    assert project < 30e6 < dependencies


def test_it_says_what_it_is(image: str) -> None:
    described = inspect(image)["Config"]
    labels = described["Labels"]
    assert labels["org.opencontainers.image.title"] == "rerank-worker"
    version = docker("run", "--rm", image, "version")
    assert labels["org.opencontainers.image.version"] == version
    assert described["User"] == "10001"


def test_anybody_may_run_it_without_a_root_that_can_be_written(image: str) -> None:
    options = ("--rm", "--user=1000680000:0", *HARDENED, "--volume=/home/worker/.cache", OFFLINE)
    told = docker("run", *options, image, "models")
    for role in ("embedding", "cross-encoder"):
        assert re.search(rf"^{role} +(?!missing)\S", told, re.MULTILINE), told


def test_its_health_is_asked_at_the_port_that_is_set(image: str, containers: list[str]) -> None:
    waiting = "--env=RERANK_WORKER_KAFKA__STARTUP_TIMEOUT_S=3600"
    port = "--env=RERANK_WORKER_TELEMETRY__PORT=9555"
    name = started(containers, image, NOWHERE, waiting, port, *HARDENED, OFFLINE)

    def health() -> str:
        return str(inspect(name)["State"]["Health"]["Status"])

    assert await_condition(lambda: health() != "starting", timeout_s=HANG_S)
    assert health() == "healthy", inspect(name)["State"]["Health"]["Log"]
    assert stopped(name) != KILLED


def test_a_broker_that_is_away_is_told_of_and_does_not_fill_the_log(image: str, containers: list[str]) -> None:
    name = started(containers, image, NOWHERE, "--env=RERANK_WORKER_KAFKA__STARTUP_TIMEOUT_S=25", OFFLINE)
    assert docker("wait", name) == "1"
    lines = log_of(name).splitlines()
    print(f"lines of a start without a broker: {len(lines)}")
    assert "no Kafka broker answered at 127.0.0.1:1" in lines[-1]
    assert len(lines) < 25
