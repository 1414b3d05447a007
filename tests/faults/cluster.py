"""Three real brokers, each behind a proxy for the workers and reachable directly for those who watch."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.faults.proxy import Proxy
from worker.local.kafka import new_cluster_id, resolve_jars, start_broker
from worker.local.process import ServerProcess, free_port

BROKERS = 3
REPLICATED = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "controlled.shutdown.max.retries": "1",
    "broker.session.timeout.ms": "6000",
}
LISTENERS = "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT"


@dataclass
class Broker:
    """One broker: its ports stay the same over its restarts."""

    number: int
    data_dir: Path
    port: int = field(default_factory=free_port)
    behind_proxy: int = field(default_factory=free_port)
    proxy: Proxy = field(init=False)
    server: ServerProcess | None = None

    def __post_init__(self) -> None:
        self.proxy = Proxy(self.behind_proxy)


class Cluster:
    """Broker 1 is also the controller and is never stopped: its end would be the cluster's, not a fault in it."""

    def __init__(self, cache_dir: Path, data_dir: Path) -> None:
        self._jars = resolve_jars(cache_dir)
        self._id = new_cluster_id()
        self._controller = f"127.0.0.1:{free_port()}"
        self.brokers = [Broker(number, data_dir / f"broker-{number}") for number in range(1, BROKERS + 1)]

    @property
    def bootstrap_servers(self) -> str:
        """The brokers' own addresses."""
        return ",".join(f"127.0.0.1:{broker.port}" for broker in self.brokers)

    @property
    def proxied_bootstrap_servers(self) -> str:
        """The brokers through their proxies."""
        return ",".join(f"127.0.0.1:{broker.proxy.port}" for broker in self.brokers)

    def start(self, broker: Broker) -> None:
        """Start a broker and wait until it answers."""
        listeners = f"PLAINTEXT://127.0.0.1:{broker.port},PROXIED://127.0.0.1:{broker.behind_proxy}"
        is_controller = broker is self.brokers[0]
        properties = REPLICATED | {
            "node.id": str(broker.number),
            "process.roles": "broker,controller" if is_controller else "broker",
            "controller.quorum.bootstrap.servers": self._controller,
            "listener.security.protocol.map": LISTENERS,
            "listeners": f"{listeners},CONTROLLER://{self._controller}" if is_controller else listeners,
            "advertised.listeners": (f"PLAINTEXT://127.0.0.1:{broker.port},PROXIED://127.0.0.1:{broker.proxy.port}"),
        }
        _, broker.server = start_broker(self._jars, broker.data_dir, broker.port, properties, cluster_id=self._id)

    def stop(self, broker: Broker) -> None:
        """Shut a broker down: it hands its partitions over first."""
        if broker.server is not None:
            broker.server.stop()
            broker.server = None

    def kill(self, broker: Broker) -> None:
        """End a broker as a power cut does."""
        if broker.server is not None:
            # The guard would shut it down gently.
            for java in psutil.Process(broker.server.pid).children():
                java.kill()
            self.stop(broker)

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.push(self.__exit__)
            # Side by side: much of a start is waiting, and the others look for the controller until it is there.
            with ThreadPoolExecutor(BROKERS) as starting:
                for started in [starting.submit(self.start, broker) for broker in self.brokers]:
                    started.result()
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The controller last, which the others ask whether they may go; those side by side, as they came.
        controller, *others = self.brokers
        with ThreadPoolExecutor(BROKERS) as stopping:
            list(stopping.map(self.stop, others))
        self.stop(controller)
        for broker in self.brokers:
            broker.proxy.close()
