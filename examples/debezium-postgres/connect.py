"""Kafka Connect with Debezium's connector, in one process of its own, from their published jars."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
from postgres import Database

from worker.errors import FatalError
from worker.local.jars import fetched_jars
from worker.local.kafka import JVM_OPTIONS
from worker.local.process import ServerProcess, on_free_port

FOLDER = Path(__file__).parent
# A start takes some 15 s, and minutes where everything else on the machine starts too.
START_TIMEOUT_S = 300.0
MAIN_CLASS = "org.apache.kafka.connect.cli.ConnectStandalone"
LOGGING = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.log.io.debezium=info")


@contextmanager
def running_connector(cache_dir: Path, folder: Path, kafka: str, database: Database) -> Iterator[None]:
    """Run Connect and the connector of ``connector.properties``; both read when this yields. Blocks; FatalError.

    ``kafka``: the bootstrap servers. ``folder`` holds settings, the password among them, offsets and the log.
    """
    runtime, connector = resolve_jars(cache_dir)
    plugins = folder / "plugins"
    plugins.mkdir(parents=True, mode=0o700)
    # A folder of its own, so that its libraries are not Connect's.
    (plugins / "debezium").symlink_to(connector)
    worker = {
        "bootstrap.servers": kafka,
        "plugin.path": str(plugins),
        "offset.storage.file.filename": str(folder / "offsets"),
    }
    connection = {
        "database.hostname": database.host,
        "database.port": str(database.port),
        "database.user": database.user,
        "database.password": database.password,
        "database.dbname": database.name,
    }
    connector_file = _written(folder, "connector.properties", connection)

    def start(port: int) -> ServerProcess:
        worker_file = _written(folder, "worker.properties", worker | {"listeners": f"http://127.0.0.1:{port}"})
        command = [
            "java",
            *JVM_OPTIONS,
            *LOGGING,
            "-cp",
            f"{runtime}/*",
            MAIN_CLASS,
            str(worker_file),
            str(connector_file),
        ]
        server = ServerProcess("Kafka Connect", command, log_path=folder / "connect.log")
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5.0) as client:
                server.await_ready(lambda: _runs(client), timeout_s=START_TIMEOUT_S)
        except BaseException:
            # Connect goes on without a connector that has failed.
            server.stop()
            raise
        return server

    with on_free_port(start):
        yield


def resolve_jars(cache_dir: Path) -> tuple[Path, Path]:
    """Return the folders of Connect's jars and of the connector's, fetched once per machine. Blocks; FatalError."""
    root = cache_dir.expanduser() / "connect"
    runtime, connector = ((FOLDER / name / "pom.xml").read_text() for name in ("connect", "connector"))
    return fetched_jars("Kafka Connect", runtime, root), fetched_jars("Debezium", connector, root)


def _written(folder: Path, name: str, more: Mapping[str, str]) -> Path:
    path = folder / name
    path.write_text("\n".join([(FOLDER / name).read_text(), *(f"{key}={value}" for key, value in more.items())]) + "\n")
    return path


def _runs(client: httpx.Client) -> bool:
    """Whether every connector and its task run. FatalError if one has failed, with what it says."""
    try:
        answered = client.get("/connectors", params={"expand": "status"})
    except httpx.TransportError:
        return False
    if not answered.is_success:
        return False
    statuses = [connector["status"] for connector in answered.json().values()]
    parts = [part for status in statuses for part in (status["connector"], *status["tasks"])]
    for part in parts:
        if part["state"] == "FAILED":
            raise FatalError(f"Debezium's connector failed: {part['trace']}")
    return (
        bool(statuses)
        and all(status["tasks"] for status in statuses)
        and all(part["state"] == "RUNNING" for part in parts)
    )
