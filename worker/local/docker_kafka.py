"""Apache Kafka in a container, through testcontainers, where a Docker engine answers."""

from collections.abc import Iterator
from contextlib import contextmanager

from worker.errors import FatalError
from worker.local.kafka import START_TIMEOUT_S, answers
from worker.local.process import await_condition, free_port

IMAGE = "apache/kafka:4.2.0"
ENGINE_TIMEOUT_S = 2


def engine_missing() -> str | None:
    """Return why containers can't be run here, or None. Blocks for ``ENGINE_TIMEOUT_S`` at most."""
    try:
        import docker  # noqa: PLC0415 - comes with testcontainers, which only some installations have
        import testcontainers.core.container  # noqa: F401, PLC0415
    except ImportError:
        return "testcontainers is not installed (`pip install 'rerank-worker[dev]'`)"
    try:
        docker.from_env(timeout=ENGINE_TIMEOUT_S).ping()
    except docker.errors.DockerException as error:
        return f"no Docker engine answers ({type(error).__name__})"
    return None


@contextmanager
def docker_kafka(port: int | None = None) -> Iterator[str]:
    """Run a one-node KRaft broker in a container and yield its bootstrap address."""
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
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR": "1",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    }
    container = DockerContainer(IMAGE).with_bind_ports(port, port)
    for name, value in environment.items():
        container = container.with_env(name, value)
    with container:
        if not await_condition(lambda: answers(address), timeout_s=START_TIMEOUT_S):
            raise FatalError(f"Kafka in a container ({IMAGE}) did not answer within {START_TIMEOUT_S:g} s")
        yield address
