"""Whether anybody listens where the brokers should be: known at once, where the Kafka client would try for long."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from functools import partial

from worker.batching.executor import SingleThreadExecutor
from worker.errors import FatalError
from worker.settings import KafkaSettings

# Names and connections; a broker that is only busy is connected to by its operating system, however long it takes.
REACH_TIMEOUT_S = 4.0
DEFAULT_PORT = 9092


def require_reachable(kafka: KafkaSettings) -> None:
    """Return as soon as a connection to one of the bootstrap addresses opens, and close it again.

    Blocks for ``REACH_TIMEOUT_S`` at most. FatalError says what each address answered. It speaks no Kafka: whoever
    listens there may still be none.
    """
    failures: list[str] = []
    waiting: dict[Future[None], str] = {}
    for host, port in addresses(kafka.bootstrap_servers):
        # A thread each: the addresses of a name are looked up without a timeout of ours.
        thread = SingleThreadExecutor(f"reach {host}:{port}")
        waiting[thread.submit(partial(_connect, host, port))] = f"{host}:{port}"
        thread.close()
    deadline_s = time.monotonic() + REACH_TIMEOUT_S
    while waiting:
        done, _ = wait(waiting, deadline_s - time.monotonic(), return_when="FIRST_COMPLETED")
        for future in done:
            where = waiting.pop(future)
            error = future.exception()
            if error is None:
                return
            failures.append(f"{where}: {error.strerror if isinstance(error, OSError) else error}")
        if not done:
            failures += [f"{where}: no answer within {REACH_TIMEOUT_S:g} s" for where in waiting.values()]
            break
    raise FatalError(
        f"no Kafka broker can be reached ({'; '.join(failures) or 'no address is set'}): is it running, and is "
        "RERANK_WORKER_KAFKA__BOOTSTRAP_SERVERS right? `rerank-worker local up` starts one here"
    )


def addresses(bootstrap_servers: str) -> Iterator[tuple[str, int]]:
    """Yield host and port of each bootstrap address, as librdkafka reads them: `[proto://]host[:port]`, commas."""
    for text in filter(None, (each.strip() for each in bootstrap_servers.split(","))):
        address = text.rpartition("://")[2]
        host, separator, port = address.rpartition(":")
        if address.startswith("[") and address.endswith("]"):
            host, separator, port = address, "", ""
        if not separator:
            host, port = host or address, str(DEFAULT_PORT)
        yield host.removeprefix("[").removesuffix("]"), int(port) if port.isdecimal() else DEFAULT_PORT


def _connect(host: str, port: int) -> None:
    with socket.create_connection((host, port), timeout=REACH_TIMEOUT_S):
        pass
