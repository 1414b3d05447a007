"""Real Apache Kafka on this machine without Docker: its published jars, one KRaft node, one JVM."""

import base64
import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from worker.errors import FatalError
from worker.local.jars import fetched_jars, finished, tail
from worker.local.process import ServerProcess, free_port, on_free_port

# Both take seconds, and minutes where everything else on the machine starts too.
FORMAT_TIMEOUT_S = 180.0
START_TIMEOUT_S = 180.0

# Start-up over peak speed: a small heap, one cheap collector, no optimising compiler warm-up.
JVM_OPTIONS = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")


def resolve_jars(cache_dir: Path) -> Path:
    """Return the folder of Kafka's jars, about 45 MB the first time. Blocks; FatalError."""
    return fetched_jars("Kafka", _packaged("pom.xml"), cache_dir.expanduser() / "kafka")


@contextmanager
def java_kafka(
    cache_dir: Path, data_dir: Path, *, port: int | None = None, properties: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Run a broker on ``data_dir`` (kept, reused) and yield its bootstrap address; ``properties`` are added."""
    jars = resolve_jars(cache_dir)
    address, server = on_free_port(lambda port: start_broker(jars, data_dir, port, properties or {}), port)
    with server:
        yield address


def start_broker(
    jars: Path, data_dir: Path, port: int, properties: Mapping[str, str], *, cluster_id: str | None = None
) -> tuple[str, ServerProcess]:
    """Start a broker on ``data_dir`` and return its address and the server, which the caller ends. FatalError.

    Without ``cluster_id`` it is a cluster of its own; with it, and without the controller's role among ``properties``,
    it joins the cluster whose controller they name.
    """
    address, controller = f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}"
    data_dir.mkdir(parents=True, exist_ok=True)
    config = data_dir / "server.properties"
    settings = {
        "node.id": "1",
        "process.roles": "broker,controller",
        "listeners": f"PLAINTEXT://{address},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{address}",
        "controller.quorum.bootstrap.servers": controller,
        "log.dirs": str(data_dir / "logs"),
        **properties,
    }
    lines = [_packaged("server.properties"), *(f"{name}={value}" for name, value in settings.items())]
    config.write_text("\n".join(lines) + "\n")
    java = ["java", *JVM_OPTIONS, "-cp", f"{jars}/*"]
    if not (data_dir / "logs" / "meta.properties").exists():
        founds = "controller" in settings["process.roles"]
        _format(java, config, cluster_id or new_cluster_id(), "--standalone" if founds else "--no-initial-controllers")
    server = ServerProcess(
        "Kafka",
        [*java, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "kafka.Kafka", str(config)],
        log_path=data_dir / "kafka.log",
    )
    server.await_ready(lambda: answers(address), timeout_s=START_TIMEOUT_S)
    return address, server


def new_cluster_id() -> str:
    """Return a random id in the form Kafka wants: 16 bytes, base64url without padding."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def answers(bootstrap_servers: str, *, timeout_s: float = 1.0) -> bool:
    """Whether a broker answers a metadata request at this address."""
    # It is known at once when the broker has come, and not when the client looks again after a longer and longer pause.
    config: dict[str, Any] = {
        "bootstrap.servers": bootstrap_servers,
        "reconnect.backoff.max.ms": 100,
        "logger": _silent,
    }
    admin = AdminClient(config)
    try:
        return bool(admin.list_topics(timeout=timeout_s).brokers)
    except KafkaException:
        return False


# A broker that is not there yet is what is being asked about, not news.
_silent = logging.getLogger("worker.local.kafka.probe")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


def _packaged(name: str) -> str:
    """Read a file of ``deploy/kafka``: beside the packages in a checkout, inside ours in a wheel."""
    installed = resources.files("worker.local") / "kafka_broker" / name
    checkout = Path(__file__).parents[2] / "deploy" / "kafka" / name
    return installed.read_text() if installed.is_file() else checkout.read_text()


def _format(java: Sequence[str], config: Path, cluster_id: str, quorum: str) -> None:
    command = [*java, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "-c", str(config), quorum]
    formatted = finished(command, FORMAT_TIMEOUT_S)
    if formatted.returncode != 0:
        raise FatalError(f"Kafka's storage could not be formatted:\n{tail(formatted.stdout)}")
