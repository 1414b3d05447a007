"""`docker compose up`, as a first-time user types it: asked, scaled, stopped, watched, and started again."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka.admin import AdminClient

from tests.containers.engine import HARDENED, KILLED, PROJECT, Stack, docker, inspect, is_ready, log_of, stopped
from tests.patience import HANG_S
from worker.local.process import await_condition
from worker.settings import KafkaSettings

QUESTION = "What is committed after a crash?"
PARTITIONS = KafkaSettings().partitions
MOMENTS = 12

# A worker of its own beside the stack's: another group, the same models.
BESIDE = (
    f"--network={PROJECT}_default",
    "--env=RERANK_WORKER_KAFKA__BOOTSTRAP_SERVERS=kafka:29092",
    "--env=RERANK_WORKER_RECALL__HOST=chroma",
    "--env=RERANK_WORKER_MODELS=offline",
    "--env=RERANK_WORKER_KAFKA__GROUP_ID=beside",
    # What the stack's own workers have answered is not asked of it again.
    "--env=RERANK_WORKER_KAFKA__AUTO_OFFSET_RESET=latest",
)


@pytest.fixture
def beside(stack: Stack, image: str) -> Iterator[Callable[..., str]]:
    """Starts a worker in the stack's network and returns its container."""
    containers: list[str] = []

    def start(*options: str, cache: str = f"{PROJECT}_models") -> str:
        mounted = f"--volume={cache}:/home/worker/.cache"
        containers.append(docker("run", "--detach", *BESIDE, *HARDENED, mounted, *options, image))
        return containers[-1]

    yield start
    for container in containers:
        docker("rm", "--force", "--volumes", container, check=False)


def await_ready(container: str) -> None:
    def settled() -> bool:
        return is_ready(container) or inspect(container)["State"]["Status"] == "exited"

    assert await_condition(settled, timeout_s=HANG_S)
    assert is_ready(container), log_of(container)


def test_the_first_question_is_answered_from_the_documents(stack: Stack) -> None:
    said = stack.compose("exec", "--no-TTY", "worker", "rerank-worker", "ask", QUESTION)
    assert "what-happens-when" in said or "production" in said or "architecture" in said, said


def test_a_client_outside_is_answered(stack: Stack) -> None:
    answer = stack.ask(QUESTION)
    assert answer["status"] == "ok"
    assert answer["contexts"]


def test_two_workers_share_the_partitions_and_both_are_watched(stack: Stack) -> None:
    stack.compose("up", "--detach", "--wait", "--no-recreate", "--scale=worker=2", "worker")
    stack.compose("--profile=observability", "up", "--detach", "--wait", "--no-deps", "prometheus")

    def shared() -> bool:
        owned = stack.measured("rerank_worker_assigned_partitions")
        return sum(owned) == PARTITIONS and len([each for each in owned if each > 0]) == 2

    assert await_condition(shared, timeout_s=HANG_S), stack.measured("rerank_worker_assigned_partitions")
    assert stack.measured('up{job="rerank-worker"}') == [1.0, 1.0]
    first, _second = stack.workers()
    assert stopped(first) == 0, "with nothing in flight a drain is quick"
    assert stack.ask(QUESTION)["status"] == "ok"


def test_kafka_keeps_topics_and_offsets_when_its_container_is_made_anew(stack: Stack) -> None:
    [worker] = stack.workers()
    lines = len(log_of(worker).splitlines())
    stack.compose("up", "--detach", "--wait", "--force-recreate", "--no-deps", "kafka")
    kafka = KafkaSettings()
    admin = AdminClient({"bootstrap.servers": f"localhost:{stack.kafka_port}"})
    assert {kafka.query_topic, kafka.answer_topic} <= admin.list_topics(timeout=HANG_S).topics.keys()
    assert stack.ask(QUESTION)["status"] == "ok"
    told = log_of(worker).splitlines()[lines:]
    print(f"lines the worker logged of it: {len(told)}")
    assert len(told) < 60, "\n".join(told)


def test_any_user_without_a_writable_root_works(stack: Stack, beside: Callable[..., str]) -> None:
    cache = f"{PROJECT}_fresh"
    try:
        worker = beside("--user=1000680000:0", cache=cache)
        await_ready(worker)
        assert stopped(worker) == 0
        docker("rm", worker)
    finally:
        docker("volume", "rm", cache, check=False)


def test_a_worker_that_starts_obeys_at_every_moment(beside: Callable[..., str]) -> None:
    began_s = time.monotonic()
    worker = beside()
    await_ready(worker)
    start_s = time.monotonic() - began_s
    assert stopped(worker) == 0
    codes = []
    for number in range(MOMENTS):
        worker = beside()
        # No waiting for anything: the moments are spread over a start's time.
        threading.Event().wait(number / MOMENTS * start_s)
        codes.append(stopped(worker))
        assert codes[-1] != KILLED, log_of(worker)
    print(f"a start of {start_s:.1f} s, stopped at {MOMENTS} moments: exit codes {codes}")
    # 143: by SIGTERM, before Python has run its first line.
    assert set(codes) <= {0, 143}
