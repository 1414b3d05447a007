"""The whole embedded stack: broker, vector store and LLM, as a context."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from worker.kafka.admin.topics import ensure, worker_topics
from worker.local.broker import Kind, LocalBroker, local_broker
from worker.local.chroma import local_chroma
from worker.local.llm import LocalLlm, local_llm
from worker.models import packages as offline_models
from worker.settings import KafkaSettings, Settings


@dataclass(frozen=True, slots=True)
class StackState:
    """Where the parts of a running stack are."""

    pid: int
    kafka: str
    kafka_kind: Kind
    chroma_host: str
    chroma_port: int
    llm_base_url: str | None
    llm_model: str | None
    data_dir: str

    def environment(self) -> dict[str, str]:
        """Return the settings, as environment variables, of a worker that uses this stack."""
        settings = {
            "RERANK_WORKER_KAFKA__BOOTSTRAP_SERVERS": self.kafka,
            "RERANK_WORKER_RECALL__MODE": "server",
            "RERANK_WORKER_RECALL__HOST": self.chroma_host,
            "RERANK_WORKER_RECALL__PORT": str(self.chroma_port),
        }
        if self.kafka_kind == "mock":
            # The mock settles a classic group in 10 to 15 s, a KIP-848 one at once.
            settings["RERANK_WORKER_KAFKA__GROUP_PROTOCOL"] = "consumer"
        if self.llm_base_url is not None and self.llm_model is not None:
            settings["RERANK_WORKER_ANSWER__BASE_URL"] = self.llm_base_url
            settings["RERANK_WORKER_ANSWER__MODEL"] = self.llm_model
        return settings


@dataclass(frozen=True, slots=True)
class StackChoice:
    """What of the stack is started, and on which ports; None takes a free one."""

    kafka_port: int | None = None
    chroma_port: int | None = None
    llm_port: int | None = None
    llm: bool = True


@contextmanager
def running_stack(
    settings: Settings, data_dir: Path, choice: StackChoice, *, others: Sequence[KafkaSettings] = ()
) -> Iterator[StackState]:
    """Run every server on ``data_dir``, create the worker's topics, yield where things are. Blocks; FatalError.

    ``others``: settings of more workers, whose topics are created too.
    """
    # Each takes seconds, most of them spent waiting: they start side by side and end one after the other.
    with ExitStack() as servers:
        with ThreadPoolExecutor(thread_name_prefix="starting") as starting:
            broker_started = starting.submit(_start_broker, servers, settings, data_dir, choice.kafka_port, others)
            chroma_started = starting.submit(
                servers.enter_context, local_chroma(data_dir / "chroma", port=choice.chroma_port)
            )
            llm_started = starting.submit(_start_llm, servers, data_dir, choice.llm_port) if choice.llm else None
            # Waited for in here, so that Ctrl-C ends no server before the start of all is over.
            broker, chroma = broker_started.result(), chroma_started.result()
            endpoint = None if llm_started is None else llm_started.result()
        yield StackState(
            pid=os.getpid(),
            kafka=broker.bootstrap_servers,
            kafka_kind=broker.kind,
            chroma_host=chroma.host,
            chroma_port=chroma.port,
            llm_base_url=None if endpoint is None else endpoint.base_url,
            llm_model=None if endpoint is None else endpoint.model,
            data_dir=str(data_dir),
        )


def _start_broker(
    servers: ExitStack, settings: Settings, data_dir: Path, port: int | None, others: Sequence[KafkaSettings]
) -> LocalBroker:
    kafkas = [settings.kafka, *others]
    topics = [topic for kafka in kafkas for topic in worker_topics(kafka)]
    broker = servers.enter_context(local_broker(settings.cache_dir, data_dir / "kafka", mock_topics=topics, port=port))
    if broker.kind != "mock":
        for kafka in kafkas:
            ensure(kafka.model_copy(update={"bootstrap_servers": broker.bootstrap_servers}), create=True)
    return broker


def _start_llm(servers: ExitStack, data_dir: Path, port: int | None) -> LocalLlm:
    return servers.enter_context(
        local_llm(offline_models.llm_file(), offline_models.LLM_NAME, data_dir / "llm", port=port),
    )
