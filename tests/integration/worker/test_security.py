"""TLS, passwords, certificates, tokens and ACLs on a real broker: the worker works with what it needs, and says in one
line what it lacks."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from confluent_kafka import Producer
from confluent_kafka.admin import AclOperation
from pydantic import SecretStr

from schemas import wire
from schemas.events import AnswerStatus, QueryEvent
from schemas.replies import REPLY_REFUSED
from tests.fakes.llm import fake_llm
from tests.forked_command import run_command
from tests.integration.worker.secure_broker import (
    CLIENT_SECRET,
    KEY_PASSWORD,
    PASSWORD,
    SecureBroker,
    client_certificate,
    secure_broker,
)
from tests.patience import HANG_S
from tests.topics import held
from tests.worker_process import HTTP, WorkerProcess
from worker.client import QueryClient
from worker.errors import FatalError
from worker.kafka.admin.topics import ensure
from worker.local.jars import missing_tools
from worker.local.process import await_condition
from worker.settings import KafkaSettings, RecallSettings
from worker.settings.kafka import CLIENT_OPTIONS_BY_NAME

pytestmark = pytest.mark.slow

API_KEY = "sk-of-an-llm-that-costs-money"
TOKEN = "token-of-a-vector-store"  # noqa: S105
WRONG = "wrong-and-secret"
QUESTION = "What permissions does Debezium need on MySQL?"
NO_CERTIFICATE = dict.fromkeys(("ssl_certificate_location", "ssl_key_location", "ssl_key_password"))

# A token is renewed at 80 % of its life, and asked for again 10 s after that failed: it has ended meanwhile.
SHORT_LIFE_S = 15.0


@pytest.fixture(scope="module")
def kafka(cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    if (lacking := missing_tools()) and not os.environ.get("RERANK_WORKER_TESTS_REQUIRE_BROKER"):
        pytest.skip(f"a broker with TLS runs from Kafka's jars: install {lacking}")
    with secure_broker(cache_dir, tmp_path_factory.mktemp("security")) as running:
        yield running


def environment(kafka: KafkaSettings, folder: Path | None = None) -> dict[str, str]:
    """How a worker is told to go this way in; ``folder``: where its secrets lie in files."""
    variables = {"KAFKA__SECURITY_PROTOCOL": kafka.security_protocol, "KAFKA__STARTUP_TIMEOUT_S": "120"}
    for name in CLIENT_OPTIONS_BY_NAME:
        value, variable = getattr(kafka, name), f"KAFKA__{name.upper()}"
        if isinstance(value, SecretStr) and folder is not None:
            (folder / name).write_text(f"{value.get_secret_value()}\n")
            variables[f"{variable}_FILE"] = str(folder / name)
        elif value is not None:
            variables[variable] = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    return variables


def end_of(worker: WorkerProcess) -> str:
    """Why it ended: the reason of the one line that says so."""
    assert await_condition(lambda: worker.ended, timeout_s=HANG_S), worker.log_path.read_text()
    assert worker.process.returncode == 1
    log = worker.log_path.read_text()
    assert "Traceback" not in log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    [reason] = [line["reason"] for line in lines if line["event"] == "the worker ends"]
    assert "\n" not in reason
    return str(reason)


def refusal(kafka: KafkaSettings) -> str:
    """Why nobody gets in, as every command and a worker's start say it."""
    with pytest.raises(FatalError) as caught:
        ensure(kafka, create=False)
    reason = str(caught.value)
    assert "\n" not in reason
    assert WRONG not in reason
    return reason


@pytest.mark.parametrize(
    ("way", "guarantee"),
    [
        ("secure", "at_least_once"),
        ("mutual", "exactly_once"),
        ("tokens", "at_least_once"),
    ],
)
def test_the_worker_needs_what_the_docs_say_and_tells_no_secret(
    kafka: SecureBroker, collection: RecallSettings, start_worker: Callable, tmp_path: Path, way: str, guarantee: str
) -> None:
    own: KafkaSettings = getattr(kafka, way)
    secrets = environment(own, None if way == "secure" else tmp_path) | {
        "RECALL__HEADERS": json.dumps({"X-Chroma-Token": TOKEN}),
        "ANSWER__API_KEY": API_KEY,
        "ANSWER__MODEL": "fake-llm",
        "WORKER_ID": "one",
        "KAFKA__DELIVERY_GUARANTEE": guarantee,
        "TELEMETRY__LOG_LEVEL": "debug",
        "KAFKA__CLIENT_OPTIONS": json.dumps({"debug": "security,conf,protocol"}),
    }
    event = QueryEvent(id=f"asked-{way}-{guarantee}", text=QUESTION)
    with fake_llm() as llm, QueryClient(kafka.plain) as client:
        worker = start_worker(own, collection, **secrets, ANSWER__BASE_URL=llm.base_url).await_ready()
        assert client.ask(event, timeout_s=HANG_S).status is AnswerStatus.OK
        # An endpoint that refuses the key may repeat it; a busy one ends in a warning and a degradation.
        llm.fall_ill("broken")
        degraded = client.ask(event.model_copy(update={"id": f"degraded-{way}-{guarantee}"}), timeout_s=HANG_S)
        assert degraded.status is AnswerStatus.DEGRADED
        contexts = "rerank_worker_time_to_contexts_seconds_count"
        assert await_condition(lambda: worker.metric(contexts) == 2, timeout_s=HANG_S), worker.describe()
        told = [HTTP.get(f"{worker.telemetry}/{page}").text for page in ("metrics", "ready", "progress")]
        variables = {f"RERANK_WORKER_{name}": value for name, value in secrets.items()}
        shown = run_command("config", "--show", environment={**os.environ, **variables})
        assert worker.stop() == 0
    told += [shown.stdout, shown.stderr, degraded.model_dump_json(), worker.log_path.read_text()]
    assert own.security_protocol.upper() in told[-1].upper()
    hidden = [PASSWORD, KEY_PASSWORD, CLIENT_SECRET, kafka.issuer.authorization, *kafka.issuer.given, API_KEY, TOKEN]
    found = [(secret, text[:200]) for secret in hidden for text in told if secret in text]
    assert found == []


@pytest.mark.parametrize(
    ("way", "changes", "reason"),
    [
        pytest.param("mutual", NO_CERTIFICATE, "alert bad certificate", id="no-certificate"),
        pytest.param("mutual", {"ssl_key_password": SecretStr(WRONG)}, "ssl.key.location", id="password-of-the-key"),
        pytest.param("tokens", {"sasl_oauthbearer_client_secret": SecretStr(WRONG)}, "invalid_client", id="secret"),
        pytest.param("tokens", {"https_ca_location": None}, "certificate", id="authority-of-the-issuer"),
    ],
)
def test_who_is_not_known_is_told_so_in_one_line(
    kafka: SecureBroker, way: str, changes: dict[str, Any], reason: str
) -> None:
    assert reason in refusal(getattr(kafka, way).model_copy(update=changes))


def test_a_certificate_of_another_authority_is_one_line(kafka: SecureBroker, tmp_path: Path) -> None:
    stranger = client_certificate(trustme.CA(), tmp_path, "stranger")
    assert "alert bad certificate" in refusal(kafka.mutual.model_copy(update=stranger))


def test_a_token_that_is_for_others_is_one_line(kafka: SecureBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka.issuer, "audience", "another-cluster")
    assert "invalid_token" in refusal(kafka.tokens)


def test_a_provider_that_gives_no_tokens_for_a_while_ends_nothing(
    kafka: SecureBroker, collection: RecallSettings, start_worker: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka.issuer, "life_s", SHORT_LIFE_S)
    guarantee = {"WORKER_ID": "one", "KAFKA__DELIVERY_GUARANTEE": "exactly_once"}
    worker = start_worker(kafka.tokens, collection, **environment(kafka.tokens), **guarantee).await_ready()
    monkeypatch.setattr(kafka.issuer, "away", True)

    def is_told(what: str) -> bool:
        assert not worker.ended, worker.log_path.read_text()
        return what in worker.log_path.read_text()

    assert await_condition(lambda: is_told("temporarily_unavailable"), timeout_s=HANG_S)
    assert await_condition(lambda: is_told("SASL authentication error"), timeout_s=HANG_S)
    monkeypatch.setattr(kafka.issuer, "away", False)
    with QueryClient(kafka.plain) as client:
        event = QueryEvent(id="asked-when-it-was-back", text=QUESTION, generate=False)
        assert client.ask(event, timeout_s=HANG_S).status is AnswerStatus.OK
    assert worker.stop() == 0


def test_a_wrong_password_is_one_line(kafka: SecureBroker, collection: RecallSettings, start_worker: Callable) -> None:
    wrong = kafka.secure.model_copy(update={"sasl_password": SecretStr(WRONG)})
    worker = start_worker(wrong, collection, **environment(wrong))
    assert "Authentication failed" in end_of(worker)
    assert WRONG not in worker.log_path.read_text()


def test_an_expired_certificate_is_one_line(
    kafka: SecureBroker, collection: RecallSettings, start_worker: Callable
) -> None:
    reason = end_of(start_worker(kafka.expired, collection, **environment(kafka.expired)))
    assert "certificate verify failed" in reason
    assert "expired" in reason


def test_a_broker_whose_authority_is_unknown_is_one_line(
    kafka: SecureBroker, collection: RecallSettings, start_worker: Callable
) -> None:
    unknown = kafka.secure.model_copy(update={"ssl_ca_location": None})
    assert "certificate verify failed" in end_of(start_worker(unknown, collection, **environment(unknown)))


@pytest.mark.parametrize(
    ("topic", "allowed", "reason"),
    [
        ("hidden", [], "does not show topic hidden: grant Describe"),
        ("unreadable", [AclOperation.DESCRIBE], "TOPIC_AUTHORIZATION_FAILED"),
    ],
)
def test_a_topic_that_may_not_be_seen_or_read_is_one_line(
    kafka: SecureBroker,
    collection: RecallSettings,
    start_worker: Callable,
    topic: str,
    allowed: list[AclOperation],
    reason: str,
) -> None:
    kafka.add_topic(topic, *allowed)
    blind = kafka.secure.model_copy(update={"query_topic": topic})
    assert reason in end_of(start_worker(blind, collection, **environment(blind)))


def test_a_group_that_may_not_be_joined_is_one_line(
    kafka: SecureBroker, collection: RecallSettings, start_worker: Callable
) -> None:
    stranger = kafka.secure.model_copy(update={"group_id": "strangers"})
    assert "GROUP_AUTHORIZATION_FAILED" in end_of(start_worker(stranger, collection, **environment(stranger)))


def test_a_topic_that_may_not_be_written_is_one_line(
    kafka: SecureBroker, collection: RecallSettings, start_worker: Callable
) -> None:
    kafka.add_topic("unwritable", AclOperation.DESCRIBE)
    kafka.add_topic("asked", AclOperation.DESCRIBE, AclOperation.READ)
    changes = {"query_topic": "asked", "answer_topic": "unwritable"}
    mute = kafka.secure.model_copy(update=changes)
    worker = start_worker(mute, collection, **environment(mute)).await_ready()
    producer = Producer({"bootstrap.servers": kafka.plain.bootstrap_servers})
    producer.produce("asked", wire.encode_query(QueryEvent(id="unheard", text=QUESTION, generate=False)))
    assert producer.flush(HANG_S) == 0
    assert "TOPIC_AUTHORIZATION_FAILED" in end_of(worker)


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
def test_a_reply_topic_that_may_not_be_written_is_that_querys_harm_alone(
    kafka: SecureBroker, collection: RecallSettings, start_worker: Callable, guarantee: str
) -> None:
    topic = f"replies-{guarantee}"
    kafka.add_topic(topic, AclOperation.WRITE, AclOperation.DESCRIBE)
    settings = environment(kafka.secure) | {
        "WORKER_ID": "one",
        "KAFKA__DELIVERY_GUARANTEE": guarantee,
        "KAFKA__REPLY_TOPICS": topic,
    }
    worker = start_worker(kafka.secure, collection, **settings).await_ready()
    event = QueryEvent(id="granted", text=QUESTION, generate=False)
    with QueryClient(kafka.plain, reply_topic=topic) as client:
        assert client.ask(event, timeout_s=HANG_S).query_id == "granted"

    # The worker remembers that it may write there, so it learns otherwise by the broker's refusal of a record.
    kafka.deny(topic, AclOperation.WRITE)
    producer = Producer({"bootstrap.servers": kafka.plain.bootstrap_servers})
    for name in ("refused", "refused-again"):
        value = wire.encode_query(event.model_copy(update={"id": f"{name}-{guarantee}"}))
        producer.produce("queries", value, headers=[("reply-topic", topic.encode())])
        assert producer.flush(HANG_S) == 0
    if guarantee == "exactly_once":
        # librdkafka can't go on after a transaction that was refused a topic. The next process asks first.
        assert "TOPIC_AUTHORIZATION_FAILED" in end_of(worker)
        worker = start_worker(kafka.secure, collection, **settings).await_ready()
    expected = dict.fromkeys((f"refused-{guarantee}", f"refused-again-{guarantee}"), "not_writable")
    assert await_condition(lambda: expected.items() <= refusals(kafka.plain).items(), timeout_s=HANG_S)
    assert worker.stop() == 0


def refusals(kafka: KafkaSettings) -> dict[str, str | None]:
    """Of each answer on the answer topic, why it is not on the topic its query named."""
    return {
        wire.decode_answer(message.value()).query_id: wire.header(message.headers() or [], REPLY_REFUSED)
        for message in held(kafka, kafka.answer_topic)
    }
