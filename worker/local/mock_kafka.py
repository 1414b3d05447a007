"""librdkafka's own mock cluster in a process of its own: for a demo where neither Docker nor Java exists.

In memory only, at most 5 MB per partition, no transactions: good enough to see the worker work, never to prove it.
``python -m worker.local.mock_kafka PARTITIONS TOPIC …`` prints its bootstrap address and serves until it is ended.
"""

import ctypes
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import confluent_kafka

from worker.errors import FatalError
from worker.local.process import ServerProcess

START_TIMEOUT_S = 180.0
READY = "bootstrap="
PRODUCER = 0  # rd_kafka_type_t


@contextmanager
def mock_kafka(log_dir: Path, topics: Sequence[str], *, partitions: int) -> Iterator[str]:
    """Run the mock cluster with these topics and yield its bootstrap address."""
    log_path = log_dir / "mock-kafka.log"
    log_path.unlink(missing_ok=True)
    command = [sys.executable, "-m", "worker.local.mock_kafka", str(partitions), *topics]
    with ServerProcess("The mock Kafka", command, log_path=log_path) as server:
        server.await_ready(lambda: _address(log_path) is not None, timeout_s=START_TIMEOUT_S)
        address = _address(log_path)
        if address is None:
            raise FatalError(f"the mock Kafka's address is gone from {log_path}")
        yield address


def _address(log_path: Path) -> str | None:
    # A line is complete once its end is written.
    for line in log_path.read_text().splitlines(keepends=True) if log_path.exists() else []:
        if line.startswith(READY) and line.endswith("\n"):
            return line.removeprefix(READY).strip()
    return None


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    stopping = (signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, stopping)
    partitions, topics = int(sys.argv[1]), sys.argv[2:]
    cluster = MockCluster(topics, partitions=partitions)
    print(READY + cluster.bootstrap_servers, flush=True)  # noqa: T201 - read by the owner
    signal.sigwait(stopping)


class MockCluster:
    """One mock broker in this process. Freed by nobody on purpose: it lives as long as the process."""

    def __init__(self, topics: Sequence[str], *, partitions: int) -> None:
        """Raise FatalError if the client's library has none."""
        self._lib = lib = load_librdkafka()
        error = ctypes.create_string_buffer(512)
        client = lib.rd_kafka_new(PRODUCER, None, error, len(error))
        self._cluster = lib.rd_kafka_mock_cluster_new(client, 1) if client else None
        if not self._cluster:
            raise FatalError(f"librdkafka has no mock cluster: {error.value.decode()}")
        for topic in topics:
            if lib.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1) != 0:
                raise FatalError(f"the mock cluster did not create topic {topic}")
        lib.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)

    @property
    def bootstrap_servers(self) -> str:
        """Where clients reach it."""
        address: bytes = self._lib.rd_kafka_mock_cluster_bootstraps(self._cluster)
        return address.decode()

    def fail_next(self, api_key: int, error: int) -> None:
        """Answer the next request of a kind (Kafka's protocol numbers them) with this error code."""
        self._lib.rd_kafka_mock_push_request_errors_array(self._cluster, api_key, 1, ctypes.byref(ctypes.c_int(error)))


def load_librdkafka() -> ctypes.CDLL:
    """Load the library that the wheel carries, with the few signatures used here (rdkafka_mock.h)."""
    folder = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"
    found = sorted(folder.glob("librdkafka-*.so*"))
    if not found:
        raise FatalError(f"no librdkafka in {folder}")
    lib = ctypes.CDLL(str(found[0]))
    lib.rd_kafka_new.restype = ctypes.c_void_p
    lib.rd_kafka_new.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    lib.rd_kafka_mock_cluster_new.restype = ctypes.c_void_p
    lib.rd_kafka_mock_cluster_new.argtypes = [ctypes.c_void_p, ctypes.c_int]
    lib.rd_kafka_mock_topic_create.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]
    lib.rd_kafka_mock_group_initial_rebalance_delay_ms.restype = None
    lib.rd_kafka_mock_group_initial_rebalance_delay_ms.argtypes = [ctypes.c_void_p, ctypes.c_int32]
    lib.rd_kafka_mock_push_request_errors_array.restype = None
    lib.rd_kafka_mock_push_request_errors_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_int16,
        ctypes.c_size_t,
        ctypes.POINTER(ctypes.c_int),
    ]
    lib.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    lib.rd_kafka_mock_cluster_bootstraps.argtypes = [ctypes.c_void_p]
    return lib


if __name__ == "__main__":
    try:
        main()
    except FatalError as error:
        sys.exit(str(error))
