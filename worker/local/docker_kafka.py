"""Apache Kafka in a container, through testcontainers, where a Docker engine answers and has or gets its images."""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from worker.errors import FatalError
from worker.local.kafka import START_TIMEOUT_S, answers
from worker.local.process import TAIL_LINES, await_condition, free_port

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

# What comes with testcontainers, which only some installations have, is imported where it is used.

IMAGE = "apache/kafka:4.2.0"
ENGINE_TIMEOUT_S = 2
# An engine that is silent for so long gets no image; one that tells of progress may take its time.
PULL_SILENCE_S = 60
# A broker that closes its log writes a marker; one that is killed looks through its log at the next start.
STOP_TIMEOUT_S = 10
DATA_FOLDER = "/var/lib/kafka/data"
DATA_LABEL = "rerank-worker.data-folder"


def engine_missing() -> str | None:
    """Return why Kafka can't be run in a container here, or None.

    Blocks for ``ENGINE_TIMEOUT_S`` where no engine is, and where one is for as long as it fetches the images.
    """
    try:
        import docker  # noqa: PLC0415 - as above
        from testcontainers.core.config import testcontainers_config as testcontainers  # noqa: PLC0415 - as above
    except ImportError:
        return "testcontainers is not installed (`pip install 'rerank-worker[dev]'`)"
    try:
        docker.from_env(timeout=ENGINE_TIMEOUT_S).ping()
    except docker.errors.DockerException as error:
        return f"no Docker engine answers ({type(error).__name__})"
    # Ryuk removes the container of an owner that was killed.
    images = [IMAGE, *([] if testcontainers.ryuk_disabled else [testcontainers.ryuk_image])]
    with closing(docker.from_env(timeout=PULL_SILENCE_S)) as engine:
        for image in images:
            name = testcontainers.hub_image_name_prefix + image
            try:
                _get_image(engine, name)
            except (docker.errors.DockerException, OSError) as error:
                return f"the Docker engine has no image {name} and gets none ({_told(error)})"
    return None


@contextmanager
def docker_kafka(data_dir: Path, *, port: int | None = None) -> Iterator[str]:
    """Run a one-node KRaft broker in a container and yield its bootstrap address. FatalError says what went wrong.

    What it holds is kept for ``data_dir``, in a volume of the engine's: a folder of this machine need not be one that
    the image's user may write. The volume goes, at the next start, when the folder is gone.
    """
    from docker.errors import DockerException  # noqa: PLC0415 - as above
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - as above

    # A broker tells its clients where it is reached: the port on this side must be known before it starts.
    port = port or free_port()
    address = f"127.0.0.1:{port}"
    environment = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{address}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_LOG_DIRS": DATA_FOLDER,
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR": "1",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    }
    with ExitStack() as running:
        try:
            kafka = DockerContainer(IMAGE, env=environment).with_bind_ports(port, port)
            kafka.with_volume_mapping(_volume(kafka.get_docker_client().client, data_dir), DATA_FOLDER, "rw")
            container = running.enter_context(kafka).get_wrapped_container()
            running.callback(container.stop, timeout=STOP_TIMEOUT_S)
            await_condition(lambda: answers(address) or _ended(container), timeout_s=START_TIMEOUT_S)
            if not answers(address):
                raise FatalError(f"Kafka in a container ({IMAGE}) does not answer:\n{_last_lines(container)}")
        except (DockerException, OSError) as error:
            raise FatalError(f"Kafka can't be run in a container ({IMAGE}): {_told(error)}") from error
        yield address


def _get_image(engine: "DockerClient", name: str) -> None:
    from docker.errors import ImageNotFound  # noqa: PLC0415 - as above

    try:
        engine.images.get(name)
    except ImageNotFound:
        engine.images.pull(name)


def _volume(engine: "DockerClient", data_dir: Path) -> str:
    from docker.errors import APIError  # noqa: PLC0415 - as above

    data_dir.mkdir(parents=True, exist_ok=True)
    for volume in engine.volumes.list(filters={"label": DATA_LABEL}):
        if not Path(volume.attrs["Labels"][DATA_LABEL]).exists():
            # In use, or just removed by somebody else: no concern of this start.
            with suppress(APIError):
                volume.remove()
    folder = str(data_dir.resolve())
    name = f"rerank-worker-kafka-{hashlib.sha256(folder.encode()).hexdigest()[:12]}"
    engine.volumes.create(name, labels={DATA_LABEL: folder})
    return name


def _ended(container: "Container") -> bool:
    container.reload()
    return bool(container.status == "exited")


def _last_lines(container: "Container") -> str:
    lines = container.logs(tail=TAIL_LINES).decode(errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines)


def _told(error: Exception) -> str:
    # An engine's refusal comes with its address and status; what it says is the explanation.
    return str(getattr(error, "explanation", None) or error)
