"""What a fault can happen to, whatever the workers do: brokers and their network, the vector store, two workers."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from tests.faults.cluster import Cluster
from tests.faults.supervisor import Supervisor
from tests.faults.traffic import METADATA_AGE, METADATA_AGE_MS
from tests.patience import HANG_S
from worker.local.chroma import local_chroma
from worker.local.process import free_port
from worker.settings import KafkaSettings, RecallSettings

PARTITIONS = 4
MAX_IN_FLIGHT = 64
POLL_BATCH = 32
SESSION_TIMEOUT_S = 6.0
# A pass takes milliseconds; a worker that stood still through most of this in one is taken for hanging, rightly.
HANG_TIMEOUT_S = 20.0
WORKERS = ("a", "b")


def worker_settings(name: str, kafka: KafkaSettings) -> dict[str, str]:
    """Return what workers of either kind are told besides where things are: to notice soon, and to hold little."""
    return {
        "WORKER_ID": name,
        "KAFKA__GROUP_PROTOCOL": kafka.group_protocol,
        "KAFKA__MAX_IN_FLIGHT": str(MAX_IN_FLIGHT),
        "KAFKA__POLL_BATCH": str(POLL_BATCH),
        "KAFKA__PUBLISH_RETRY_MAX_S": "2",
        "KAFKA__DELIVERY_TIMEOUT_S": "10",
        "KAFKA__STARTUP_TIMEOUT_S": "60",
        "KAFKA__CLOSE_TIMEOUT_S": "5",
        "KAFKA__CLIENT_OPTIONS": json.dumps({METADATA_AGE: METADATA_AGE_MS, "statistics.interval.ms": 1_000}),
        "RECALL__TIMEOUT_S": "5",
        "TELEMETRY__HANG_TIMEOUT_S": f"{HANG_TIMEOUT_S:g}",
    }


class Chroma:
    """The vector store; its data outlives it."""

    def __init__(self, data_dir: Path) -> None:
        self.recall = RecallSettings(host="127.0.0.1", port=free_port(), collection="faults")
        self.lexical = data_dir / "lexical"
        """Where the index keeps the words beside it."""
        self._data_dir = data_dir
        self._running = ExitStack()

    def start(self) -> None:
        self._running.enter_context(local_chroma(self._data_dir, port=self.recall.port))

    def stop(self) -> None:
        self._running.close()

    def kill(self) -> None:
        """End it as a power cut does; then ``start`` it again."""
        self._server.kill()
        self.stop()

    def freeze(self) -> None:
        """Let it stand still: connections stay open, and nothing is answered."""
        self._server.suspend()

    def thaw(self) -> None:
        """Let it go on as if nothing had been."""
        self._server.resume()

    @property
    def _server(self) -> psutil.Process:
        # Of this process's children, the guard that has the server's arguments; the server is the guard's only child.
        own = [child for child in psutil.Process().children() if str(self.recall.port) in child.cmdline()]
        [server] = own[0].children()
        return server


@contextmanager
def running_chroma(data_dir: Path) -> Iterator[Chroma]:
    """Start a vector store whose data are below a folder, and end it, however often it was ended and started."""
    chroma = Chroma(data_dir / "chroma")
    try:
        chroma.start()
        yield chroma
    finally:
        chroma.stop()


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A running one."""

    kafka: KafkaSettings
    """The topics and the group, by the brokers' own addresses; what is consumed is its query topic."""
    cluster: Cluster
    chroma: Chroma
    supervisor: Supervisor
    admin: AdminClient
    disruptions: "Counter[str]" = field(default_factory=Counter)
    """How often each fault was that may make partitions change hands with work unfinished or uncommitted."""

    def configure_topic(self, topic: str, name: str, value: str) -> None:
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        self.admin.incremental_alter_configs([resource], request_timeout=HANG_S)[resource].result(HANG_S)
