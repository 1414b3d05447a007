"""The embedded stack: real servers that start, answer, and are gone when their owner is gone."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.patience import HANG_S
from worker.errors import FatalError
from worker.local.background import down, status, supervisor_pid, up
from worker.local.broker import LocalBroker
from worker.local.docker_kafka import docker_kafka, engine_missing
from worker.local.jars import MANIFEST
from worker.local.kafka import answers, resolve_jars
from worker.local.llm import local_llm
from worker.local.mock_kafka import mock_kafka
from worker.local.process import ServerProcess, await_condition, free_port
from worker.local.stack import StackChoice, StackState
from worker.models import packages as offline_models
from worker.settings import Settings

pytestmark = pytest.mark.slow


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def a_server(port: int, log_path: Path) -> ServerProcess:
    return ServerProcess(
        "Test", [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"], log_path=log_path
    )


OWNER = """
import signal, sys
from pathlib import Path
from worker.local.process import ServerProcess
server = ServerProcess("Test", [sys.executable, "-m", "http.server", sys.argv[1]], log_path=Path(sys.argv[2]))
signal.pause()
"""


def test_a_server_ends_with_its_owner_even_when_that_is_killed(tmp_path: Path) -> None:
    port = free_port()
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(port), str(tmp_path / "log")])
    assert await_condition(lambda: listens(port), timeout_s=HANG_S)
    owner.send_signal(signal.SIGKILL)
    owner.wait(HANG_S)
    assert await_condition(lambda: not listens(port), timeout_s=HANG_S)


def test_a_server_that_dies_at_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    port = free_port()
    with a_server(port, tmp_path / "first.log") as first:
        first.await_ready(lambda: listens(port), timeout_s=HANG_S)
        second = a_server(port, tmp_path / "second.log")
        with pytest.raises(FatalError, match="Address already in use"):
            second.await_ready(lambda: False, timeout_s=HANG_S)
        second.stop()


def test_a_server_that_never_gets_ready_is_given_up(tmp_path: Path) -> None:
    with a_server(free_port(), tmp_path / "log") as server, pytest.raises(FatalError, match="not ready after"):
        server.await_ready(lambda: False, timeout_s=0.2)


def test_the_broker_is_real_enough_for_transactions(broker: LocalBroker) -> None:
    topic = f"transactions-{os.getpid()}"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(timeout=HANG_S)
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "transactional.id": topic})
    producer.init_transactions(HANG_S)
    for value, end in ((b"aborted", producer.abort_transaction), (b"committed", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(topic, value=value)
        producer.flush(HANG_S)
        end(HANG_S)
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": topic, "isolation.level": "read_committed"}
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    message = consumer.poll(HANG_S)
    consumer.close()
    assert message is not None
    assert message.value() == b"committed"


def test_damaged_jars_are_noticed_and_fetched_again(cache_dir: Path, tmp_path: Path) -> None:
    whole = resolve_jars(cache_dir)
    jars = tmp_path / "kafka" / whole.name
    shutil.copytree(whole, jars)
    assert resolve_jars(tmp_path) == jars
    before = sorted(jar.name for jar in jars.iterdir())
    jar = next(jars.glob("kafka-clients-*.jar"))
    jar.write_bytes(b"damaged")
    assert resolve_jars(tmp_path) == jars
    assert jar.stat().st_size > 1_000_000
    assert sorted(each.name for each in jars.iterdir()) == before
    assert MANIFEST in before


def test_jars_that_are_there_need_no_maven(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_jars(cache_dir)
    monkeypatch.setenv("PATH", "")
    assert resolve_jars(cache_dir).is_dir()


def test_no_answer_is_not_a_broker() -> None:
    assert not answers("127.0.0.1:9", timeout_s=0.2)


def test_the_mock_has_the_topics_and_partitions_asked_for(tmp_path: Path) -> None:
    with mock_kafka(tmp_path, ["one", "two"], partitions=3) as address:
        topics = AdminClient({"bootstrap.servers": address}).list_topics(timeout=HANG_S).topics
    assert {name: len(topics[name].partitions) for name in ("one", "two")} == {"one": 3, "two": 3}


def test_a_broker_in_a_container_keeps_what_it_holds_for_its_folder(tmp_path: Path) -> None:
    missing = engine_missing()
    if missing is not None:
        pytest.skip(missing)
    port = free_port()
    with docker_kafka(tmp_path, port=port) as address:
        assert address == f"127.0.0.1:{port}"
        admin = AdminClient({"bootstrap.servers": address})
        admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result(timeout=HANG_S)
    with docker_kafka(tmp_path) as address:
        assert "kept" in AdminClient({"bootstrap.servers": address}).list_topics(timeout=HANG_S).topics


def test_the_background_stack_comes_up_once_and_goes_down_whole(tmp_path: Path, cache_dir: Path) -> None:
    resolve_jars(cache_dir)
    (tmp_path / "kafka").symlink_to(cache_dir / "kafka")
    settings = Settings(cache_dir=tmp_path)
    assert status(settings) is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RERANK_WORKER_CACHE_DIR", str(tmp_path))
        ports = StackChoice(kafka_port=free_port(), chroma_port=free_port(), llm_port=free_port())
        state = up(settings, ports)
        try:
            assert state.kafka.endswith(f":{ports.kafka_port}") or state.kafka_kind in {"external", "mock"}
            assert state.chroma_port == ports.chroma_port
            assert f":{ports.llm_port}/" in str(state.llm_base_url)
            assert up(settings).pid == state.pid
            assert answers(state.kafka, timeout_s=HANG_S)
            assert listens(state.chroma_port)
            assert state.llm_base_url is not None
        finally:
            assert down(settings)
    assert status(settings) is None
    assert not down(settings)
    assert await_condition(lambda: not listens(state.chroma_port), timeout_s=HANG_S)


LOCAL = [sys.executable, "-m", "worker.cli.main", "local"]


def test_what_is_interrupted_while_it_starts_leaves_nothing_behind(tmp_path: Path, cache_dir: Path) -> None:
    resolve_jars(cache_dir)
    (tmp_path / "kafka").symlink_to(cache_dir / "kafka")
    environment = {**os.environ, "RERANK_WORKER_CACHE_DIR": str(tmp_path)}
    settings = Settings(cache_dir=tmp_path)
    starting = subprocess.Popen([*LOCAL, "up", "--without-llm"], env=environment, stdout=subprocess.DEVNULL)
    try:
        # Its servers are being started: the moment at which they were left behind.
        assert await_condition((tmp_path / "local/chroma/chroma.log").exists, timeout_s=HANG_S)
        pid = supervisor_pid(settings)
        assert pid is not None
        told = subprocess.run(
            [*LOCAL, "status"], env=environment, capture_output=True, text=True, timeout=HANG_S, check=False
        )
        assert told.stdout.strip() == "starting" or status(settings) is not None
        starting.send_signal(signal.SIGINT)
        # 0 if it was up before it was interrupted: then it stays.
        if starting.wait(HANG_S) != 0:
            assert supervisor_pid(settings) is None
            assert not Path(f"/proc/{pid}").exists()
            assert not down(settings)
    finally:
        starting.kill()
        down(settings)


def test_what_starts_can_be_taken_down(tmp_path: Path, cache_dir: Path) -> None:
    resolve_jars(cache_dir)
    (tmp_path / "kafka").symlink_to(cache_dir / "kafka")
    environment = {**os.environ, "RERANK_WORKER_CACHE_DIR": str(tmp_path)}
    settings = Settings(cache_dir=tmp_path)
    starting = subprocess.Popen(
        [*LOCAL, "up", "--without-llm"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        assert await_condition(lambda: supervisor_pid(settings) is not None, timeout_s=HANG_S)
        assert down(settings)
        assert starting.wait(HANG_S) == 1
        assert supervisor_pid(settings) is None
    finally:
        starting.kill()
        down(settings)


def test_a_stale_state_file_is_no_stack(tmp_path: Path) -> None:
    folder = tmp_path / "local"
    folder.mkdir()
    (folder / "state.json").write_text("{}")
    assert status(Settings(cache_dir=tmp_path)) is None
    somebody_else = StackState(os.getpid(), "", "java", "", 1, None, None, "")
    (folder / "state.json").write_text(json.dumps(asdict(somebody_else)))
    assert status(Settings(cache_dir=tmp_path)) is None


async def test_the_real_local_llm_answers_from_a_passage(tmp_path: Path) -> None:
    from worker.answer.llm import LlmAnswerer  # noqa: PLC0415 - the only test here that needs it
    from worker.domain import Candidate, Context, Query  # noqa: PLC0415
    from worker.settings import AnswerSettings  # noqa: PLC0415

    text = "Debezium's MySQL connector needs a user with the REPLICATION SLAVE privilege."
    with local_llm(offline_models.llm_file(), offline_models.LLM_NAME, tmp_path) as endpoint:
        llm = LlmAnswerer(AnswerSettings(max_tokens=60), model=endpoint.model, base_url=endpoint.base_url)
        answer = await llm.answer(
            Query("q", "What privilege does Debezium's MySQL user need?", "docs", top_k=1, top_n=1),
            [Context(Candidate("d1", text, 1, 0.1), 1, 1.0, 1.0)],
        )
        await llm.close()
    assert "REPLICATION" in answer.text.upper()
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 20
    assert answer.model == offline_models.LLM_NAME
