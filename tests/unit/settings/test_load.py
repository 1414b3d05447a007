"""Settings: where they come from, what is refused, what is shown."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from worker.errors import FatalError
from worker.kafka.config import consumer_config, producer_config
from worker.models.offline_cross_encoder import CROSS_ENCODER_NAME
from worker.settings import CONFIG_FILE_VARIABLE, ENV_PREFIX, KafkaSettings, Settings
from worker.settings.kafka import for_documents
from worker.settings.load import load_settings, redacted
from worker.settings.rules import CLIENT_OPTIONS_REFUSED, check_settings

Write = Callable[[str], None]


@pytest.fixture(autouse=True)
def nothing_of_the_developers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither variables of theirs nor an .env of theirs may decide a test."""
    for name in os.environ:
        if name.upper().startswith(ENV_PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def dotenv(tmp_path: Path) -> Write:
    def write(text: str) -> None:
        (tmp_path / ".env").write_text(text, encoding="utf-8")

    return write


@pytest.fixture
def yaml_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    def write(text: str) -> None:
        (tmp_path / "worker.yaml").write_text(text, encoding="utf-8")
        monkeypatch.setenv(CONFIG_FILE_VARIABLE, str(tmp_path / "worker.yaml"))

    return write


def refusal() -> str:
    with pytest.raises(FatalError) as caught:
        load_settings()
    return str(caught.value)


def impossible(**sections: dict[str, Any]) -> str:
    with pytest.raises(FatalError) as caught:
        check_settings(Settings.model_validate(sections))
    return str(caught.value)


def test_the_defaults_are_possible() -> None:
    assert load_settings().kafka.group_id == "rerank-worker"


def test_environment_beats_dotenv_beats_yaml_beats_defaults(
    monkeypatch: pytest.MonkeyPatch, dotenv: Write, yaml_file: Write
) -> None:
    yaml_file("kafka: {query_topic: yaml, answer_topic: yaml-answers, group_id: yaml, partitions: 3}")
    dotenv("RERANK_WORKER_KAFKA__QUERY_TOPIC=dotenv\nRERANK_WORKER_KAFKA__GROUP_ID=dotenv\nOTHER_TOOLS_VARIABLE=1\n")
    monkeypatch.setenv("RERANK_WORKER_KAFKA__QUERY_TOPIC", "environment")
    kafka = load_settings().kafka
    assert (kafka.query_topic, kafka.group_id, kafka.partitions) == ("environment", "dotenv", 3)
    assert (kafka.answer_topic, kafka.dead_letter_topic) == ("yaml-answers", "rag.queries.dlq")


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_WORKER_ANSWER__BASE_URL", "")
    assert load_settings().answer.base_url is None


def test_entries_of_mappings_can_be_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_WORKER_KAFKA__CLIENT_OPTIONS__FETCH.MIN.BYTES", "2")
    monkeypatch.setenv("RERANK_WORKER_RECALL__HEADERS", '{"x-token": "t"}')
    settings = load_settings()
    assert settings.kafka.client_options == {"fetch.min.bytes": "2"}
    assert settings.recall.headers["x-token"].get_secret_value() == "t"


@pytest.mark.parametrize("name", ["RERANK_WORKER_KAFKA__GRUOP_ID", "RERANK_WORKER_KAFKA_GROUP_ID"])
def test_a_misspelt_variable_is_refused_with_what_was_meant(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")
    assert refusal().endswith(f"{name} in the environment is no setting; did you mean RERANK_WORKER_KAFKA__GROUP_ID?")


def test_a_misspelt_name_in_dotenv_is_refused(dotenv: Write) -> None:
    dotenv("RERANK_WORKER_MODLES=offline")
    assert "RERANK_WORKER_MODLES in .env is no setting; did you mean RERANK_WORKER_MODELS?" in refusal()


def test_a_config_file_named_in_dotenv_is_refused_since_nobody_reads_it_there(dotenv: Write) -> None:
    dotenv(f"{CONFIG_FILE_VARIABLE}=worker.yaml")
    assert "from the environment only" in refusal()


@pytest.mark.parametrize("text", ["kafak: {group_id: x}", "kafka: {gruop_id: x}"])
def test_a_misspelt_name_in_yaml_is_refused(yaml_file: Write, text: str) -> None:
    yaml_file(text)
    assert "is no setting; did you mean kafka" in refusal()


@pytest.mark.parametrize(
    "name",
    [
        "RERANK_WORKER_SERVICE_HOST",
        "RERANK_WORKER_SERVICE_PORT_METRICS",
        "RERANK_WORKER_PORT",
        "RERANK_WORKER_PORT_9464_TCP_ADDR",
        "RERANK_WORKER_METRICS_PORT_9464_TCP",
        "RERANK_WORKER_TESTS_REQUIRE_BROKER",
    ],
)
def test_variables_of_kubernetes_and_of_the_tests_are_left_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "tcp://10.0.0.1:9464")
    load_settings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kafka:\n  group_id: [", "line"),
        ("- kafka", "mapping of sections"),
        ("kafka: {partitions: none}", "kafka.partitions (RERANK_WORKER_KAFKA__PARTITIONS)"),
    ],
)
def test_a_config_file_that_is_wrong_says_where(yaml_file: Write, text: str, said: str) -> None:
    yaml_file(text)
    message = refusal()
    assert said in message
    assert "\n" not in message


def test_a_key_that_is_there_twice_is_refused_with_both_lines(yaml_file: Write) -> None:
    yaml_file("kafka:\n  group_id: a\nrecall: {}\nkafka:\n  partitions: 3\n")
    assert refusal().endswith("line 4: kafka is there already, in line 1")
    yaml_file("kafka:\n  group_id: a\n  group_id: b\n")
    assert refusal().endswith("line 3: group_id is there already, in line 2")


@pytest.mark.parametrize(("written", "read"), [("010", "8"), ("1:30", "90"), ("1:30.5", "90.5")])
def test_a_number_that_yaml_reads_as_another_one_is_refused(yaml_file: Write, written: str, read: str) -> None:
    yaml_file(f"kafka:\n  commit_interval_s: {written}\n")
    assert refusal().endswith(f"line 2: {written} would be read as {read}: write that number, or quote the text")


@pytest.mark.parametrize(("written", "read"), [("10", 10), ("0.5", 0.5), ("1e1", 10), ("0x10", 16)])
def test_any_other_number_is_read_as_it_stands_there(yaml_file: Write, written: str, read: float) -> None:
    yaml_file(f"kafka:\n  commit_interval_s: {written}\n")
    assert load_settings().kafka.commit_interval_s == read


def test_a_section_whose_members_are_all_commented_out_sets_nothing(yaml_file: Write) -> None:
    yaml_file("kafka:\n  # partitions: 3\nrecall: {top_k: 7}\n")
    settings = load_settings()
    assert (settings.kafka.partitions, settings.recall.top_k) == (12, 7)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("kafka: {client_options: {client.id: }}", "kafka.client_options.client.id"),
        ("kafka: {group_id: }", "kafka.group_id"),
    ],
)
def test_a_setting_without_a_value_is_named_as_it_stands_there(yaml_file: Write, text: str, named: str) -> None:
    yaml_file(text)
    variable = f"{ENV_PREFIX}{named.replace('.', '__', 2 if 'client' in named else 1)}".upper()
    assert refusal() == f"wrong settings: {named} ({variable}): has no value: set one, or leave it out"


def test_an_option_of_a_type_that_none_has_is_one_line(yaml_file: Write) -> None:
    yaml_file("kafka: {client_options: {client.id: [a]}}")
    assert refusal().endswith("give text, a number, true or false")
    assert "\n" not in refusal()


@pytest.mark.parametrize("name", [".env", "worker.yaml"])
def test_a_file_that_is_no_utf_8_is_told(tmp_path: Path, yaml_file: Write, name: str) -> None:
    if name == "worker.yaml":
        yaml_file("")
    (tmp_path / name).write_bytes(b"# caf\xe9\nRERANK_WORKER_WORKER_ID=x\n")
    assert f"{name} is not UTF-8" in refusal()


@pytest.mark.parametrize("name", [".env", "worker.yaml"])
def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path, yaml_file: Write, name: str) -> None:
    if name == "worker.yaml":
        yaml_file("")
    text = "RERANK_WORKER_MODELS=offline\n" if name == ".env" else "models: offline\n"
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    assert load_settings().models == "offline"


@pytest.mark.parametrize("secret", ["pa$$w${ord}#1", "${HOME}", "$HOME", "a$b"])
def test_a_secret_in_dotenv_is_what_stands_there(dotenv: Write, secret: str) -> None:
    dotenv(f"RERANK_WORKER_KAFKA__SASL_PASSWORD={secret}\nRERANK_WORKER_ANSWER__API_KEY='{secret}'\n")
    settings = Settings()
    assert settings.kafka.sasl_password is not None
    assert settings.kafka.sasl_password.get_secret_value() == secret
    assert settings.answer.api_key is not None
    assert settings.answer.api_key.get_secret_value() == secret


def test_an_empty_variable_in_dotenv_is_not_set(dotenv: Write) -> None:
    dotenv("RERANK_WORKER_ANSWER__BASE_URL=\nRERANK_WORKER_ANSWER__MODEL\n")
    assert load_settings().answer.base_url is None


def test_an_empty_config_file_sets_nothing(yaml_file: Write) -> None:
    yaml_file("# nothing yet\n")
    assert load_settings().kafka.partitions == 12


def test_a_config_file_that_is_missing_is_not_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONFIG_FILE_VARIABLE, "nowhere.yaml")
    assert "nowhere.yaml can't be read" in refusal()


def test_every_wrong_value_is_named_at_once_and_none_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_WORKER_KAFKA__PARTITIONS", "hunter2")
    monkeypatch.setenv("RERANK_WORKER_RERANK__TOP_N", "0")
    message = refusal()
    assert "kafka.partitions" in message
    assert "rerank.top_n" in message
    assert "hunter2" not in message


def test_a_section_that_is_no_json_object_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_WORKER_KAFKA", "localhost:9092")
    assert "JSON object" in refusal()


@pytest.mark.parametrize(
    ("sections", "named", "advice"),
    [
        ({"answer": {"base_url": "http://localhost/v1"}}, "answer.base_url", "answer.model"),
        ({"answer": {"base_url": "localhost/v1", "model": "m"}}, "answer.base_url", "http://"),
        ({"answer": {"model": "m"}}, "answer.model", "set the endpoint"),
        ({"answer": {"extra_body": {"stream": True}}}, "answer.extra_body has stream", "leave it out"),
        ({"answer": {"extra_body": {"max_tokens": 9}}}, "answer.extra_body has max_tokens", "answer.max_tokens_field"),
        ({"answer": {"user_prompt": "{question}"}}, "answer.user_prompt has no {passages}", "would not be shown it"),
        ({"answer": {"user_prompt": "{passages}"}}, "answer.user_prompt has no {question}", "would not be shown it"),
        ({"answer": {"user_prompt": "{question} {passages} {context}"}}, "{context}", "placeholders are {question}"),
        ({"answer": {"user_prompt": "{question} {passages} {}"}}, "{}", "placeholders are {question}"),
        ({"answer": {"user_prompt": "{question.__class__} {question} {passages}"}}, "__class__", "placeholders are"),
        ({"answer": {"user_prompt": "{question[0]} {question} {passages}"}}, "{question[0]}", "placeholders are"),
        ({"answer": {"user_prompt": "{question!r} {passages}"}}, "{question!r}", "placeholders are"),
        ({"answer": {"user_prompt": "{question:>9} {passages}"}}, "{question:>9}", "placeholders are"),
        ({"answer": {"user_prompt": "{question} {passages} {"}}, "answer.user_prompt can't be read", "written twice"),
        ({"kafka": {"answer_topic": "rag.queries"}}, "answer_topic", "would read its own"),
        ({"kafka": {"contexts_topic": "rag.answers"}}, "contexts_topic", "would read its own"),
        ({"kafka": {"contexts_topic": "no topic"}}, "kafka.contexts_topic", "characters"),
        ({"kafka": {"documents_topic": "rag.answers"}}, "documents_topic", "would read its own"),
        ({"kafka": {"documents_group_id": "rerank-worker"}}, "kafka.documents_group_id", "the same topic"),
        ({"index": {"events": "debezium"}}, "index.events is debezium", "index.text"),
        ({"index": {"id": "{id}"}}, "index.id", "index.events documents"),
        ({"index": {"metadata": "lang,_hash"}}, "index.metadata has _hash", "underscore"),
        ({"index": {"collection": "{tenant}"}}, "index.collection is set", "index.collections"),
        ({"index": {"title": "{title}", "metadata": "title"}}, "index.metadata has title", "set one of them"),
        ({"kafka": {"query_topic": "what is this?"}}, "kafka.query_topic", "characters"),
        ({"kafka": {"reply_topics": ["*"]}}, "kafka.reply_topics has '*'", "name how they begin"),
        ({"kafka": {"reply_topics": ["a*b"]}}, "kafka.reply_topics has 'a*b'", "at the end"),
        ({"kafka": {"reply_topics": ["no topic"]}}, "kafka.reply_topics has 'no topic'", "names of topics"),
        ({"kafka": {"reply_topics": ["rag.queries"]}}, "kafka.reply_topics has 'rag.queries'", "this worker's own"),
        ({"kafka": {"contexts_topic": "c", "reply_topics": ["c"]}}, "kafka.reply_topics has 'c'", "this worker's own"),
        ({"kafka": {"reply_topics": "a,rag.queries.dlq"}}, "has 'rag.queries.dlq'", "this worker's own"),
        ({"kafka": {"bootstrap_servers": " "}}, "kafka.bootstrap_servers", "host:port"),
        ({"kafka": {"replication_factor": 0}}, "kafka.replication_factor", "-1"),
        ({"kafka": {"revoke_timeout_s": 61}}, "kafka.revoke_timeout_s", "at most 60"),
        ({"kafka": {"session_timeout_s": 301}}, "kafka.session_timeout_s", "at most"),
        ({"kafka": {"poll_timeout_s": 400}}, "kafka.poll_timeout_s", "kafka.max_poll_interval_s"),
        ({"kafka": {"poll_timeout_s": 30}}, "kafka.poll_timeout_s", "set at most 10"),
        ({"kafka": {"poll_batch": 300}}, "kafka.poll_batch", "kafka.max_in_flight"),
        ({"kafka": {"max_in_flight_pairs": 19}}, "kafka.max_in_flight_pairs", "(20)"),
        ({"recall": {"mode": "embedded", "headers": {"x-token": "t"}}}, "recall.headers", "recall.mode server"),
        ({"recall": {"mode": "embedded", "api_key": "k"}}, "recall.api_key", "recall.mode server"),
        ({"recall": {"mode": "embedded", "tenant": "acme"}}, "recall.tenant", "recall.mode server"),
        ({"recall": {"ssl_ca_location": "ca.pem"}}, "recall.ssl_ca_location", "needs recall.ssl"),
        ({"recall": {"ssl": True, "ssl_ca_location": "ca.pem"}}, "recall.ssl_ca_location", "ca.pem can't be read"),
        ({"recall": {"api_key": "k", "headers": {"X-Chroma-Token": "k"}}}, "recall.api_key", "one of them"),
        ({"recall": {"device": "cpu", "dtype": "float16"}}, "recall.dtype", "float32"),
        ({"recall": {"host": "http://chroma.example:8000"}}, "recall.host", "recall.ssl"),
        ({"recall": {"host": ""}}, "recall.host", "alone"),
        ({"telemetry": {"hang_timeout_s": 10}}, "telemetry.hang_timeout_s", "recall.timeout_s (10)"),
        ({"telemetry": {"otlp_endpoint": "collector:4317"}}, "telemetry.otlp_endpoint", "http://collector:4317"),
        ({"telemetry": {"trace_ratio": 0.1}}, "telemetry.trace_ratio", "set the endpoint"),
        ({"recall": {"mode": "embedded", "path": __file__}}, "recall.path", "folder"),
        ({"rerank": {"device": "cpu", "dtype": "float16"}}, "rerank.dtype", "float32"),
        ({"rerank": {"dtype": "int8"}}, "rerank.dtype", "rerank.backend openvino or onnx"),
        ({"rerank": {"backend": "onnx", "device": "cuda:1"}}, "rerank.device is cuda:1", "auto or cpu"),
        ({"rerank": {"backend": "onnx", "dtype": "bfloat16"}}, "rerank.dtype is bfloat16", "float32 or int8"),
        ({"rerank": {"backend": "openvino", "device": "cpu", "dtype": "float16"}}, "backend openvino", "or int8"),
        ({"rerank": {"top_n": 21}}, "rerank.top_n", "recall.top_k (20)"),
        ({"rerank": {"remote_api_key": "k"}}, "rerank.remote_api_key", "set the endpoint"),
        ({"rerank": {"remote_dialect": "tei"}}, "rerank.remote_dialect", "set the endpoint"),
        ({"rerank": {"remote_extra_body": {"a": 1}}}, "rerank.remote_extra_body", "set the endpoint"),
        (
            {"rerank": {"remote_url": "http://tei/rerank", "model": "m", "remote_extra_body": {"texts": []}}},
            "rerank.remote_extra_body has texts",
            "leave it out",
        ),
        ({"rerank": {"model": "rerank-worker/offline-late-interaction"}}, "no longer there", CROSS_ENCODER_NAME),
        ({"rerank": {"model": "rerank-worker/offline-cross-encoder-v2"}}, "no longer there", CROSS_ENCODER_NAME),
        ({"rerank": {"remote_url": "api.cohere.com", "model": "m"}}, "rerank.remote_url", "https://"),
        ({"rerank": {"remote_url": "https://api.cohere.com/v2/rerank"}}, "rerank.model", "as the endpoint knows it"),
        ({"rerank": {"batch_tokens": 100}}, "rerank.batch_tokens", "(512)"),
        ({"rerank": {"batch_tokens": 600, "batch_pairs": 601}}, "rerank.batch_pairs", "(600)"),
        ({"rerank": {"max_windows": 4}}, "rerank.max_windows", "set max or mean"),
        (
            {"rerank": {"remote_url": "https://api.cohere.com/v2/rerank", "model": "m", "long_documents": "max"}},
            "rerank.long_documents",
            "leave it out",
        ),
    ],
)
def test_an_impossible_combination_is_refused_with_what_to_do(
    sections: dict[str, dict[str, Any]], named: str, advice: str
) -> None:
    message = impossible(**sections)
    assert named in message
    assert advice in message
    assert "\n" not in message, "one problem is one line"


@pytest.mark.parametrize("option", sorted(CLIENT_OPTIONS_REFUSED))
def test_what_the_delivery_guarantee_rests_on_cannot_be_passed_through(option: str) -> None:
    assert f"kafka.client_options has {option}: " in impossible(kafka={"client_options": {option: "x"}})


@pytest.mark.parametrize("build", [consumer_config, producer_config])
def test_an_option_that_would_be_overridden_is_refused_rather_than_ignored(
    build: Callable[[KafkaSettings], dict[str, Any]],
) -> None:
    names = build(KafkaSettings()).keys() - {"logger"}
    passed = build(KafkaSettings(client_options=dict.fromkeys(names, "from the user")))
    assert {name for name in names if passed[name] != "from the user"} <= CLIENT_OPTIONS_REFUSED.keys()


def test_a_mechanism_without_credentials_comes_through_client_options() -> None:
    check_settings(
        Settings.model_validate(
            {"kafka": {"security_protocol": "sasl_ssl", "client_options": {"sasl.mechanisms": "OAUTHBEARER"}}}
        )
    )


def test_every_impossible_combination_is_named_at_once() -> None:
    message = impossible(
        answer={"model": "m"}, rerank={"top_n": 50}, kafka={"client_options": {"acks": 0, "retries": 0}}
    )
    assert len(message.splitlines()) == 5, "a title and four problems"


def test_what_is_shown_hides_every_secret() -> None:
    settings = Settings.model_validate(
        {
            "kafka": {
                "sasl_password": "hunter2",
                "sasl_oauthbearer_client_secret": "hunter2",
                "sasl_oauthbearer_token_endpoint_url": "https://user:hunter2@issuer.example/token",
                "ssl_key_password": "hunter2",
                "client_options": {
                    "ssl.key.password": "hunter2",
                    "ssl.key.pem": "hunter2",
                    "sasl.oauthbearer.assertion.private.key.passphrase": "hunter2",
                    "fetch.min.bytes": 1,
                },
            },
            "recall": {"headers": {"authorization": "Bearer hunter2"}, "api_key": "hunter2"},
            "answer": {"api_key": "hunter2", "base_url": "https://user:hunter2@llm.example:8443/v1"},
            "rerank": {"remote_api_key": "hunter2", "remote_url": "https://user:hunter2@rerank.example/v2/rerank"},
        }
    )
    shown = redacted(settings)
    assert "hunter2" not in str(shown)
    assert shown["kafka"]["client_options"]["fetch.min.bytes"] == 1
    assert shown["answer"]["base_url"] == "https://**********@llm.example:8443/v1"


def test_what_differs_from_the_defaults_can_be_shown_alone() -> None:
    settings = Settings.model_validate(
        {
            "worker_id": "w-1",
            "kafka": {"group_id": "mine", "client_options": {"ssl.key.pem": "hunter2"}},
            "recall": {"port": 8000},
            "answer": {"base_url": "https://user:hunter2@llm.example/v1", "api_key": "hunter2"},
        }
    )
    assert redacted(settings, changed=True) == {
        "worker_id": "w-1",
        "kafka": {"group_id": "mine", "client_options": {"ssl.key.pem": "**********"}},
        "answer": {"base_url": "https://**********@llm.example/v1", "api_key": "**********"},
    }


def test_a_home_folder_is_meant_and_shown_wherever_a_path_is_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, yaml_file: Write
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ca.pem").touch()
    yaml_file(
        "kafka: {security_protocol: ssl, ssl_ca_location: ~/ca.pem}\n"
        "recall: {mode: embedded, path: ~/chroma}\n"
        "answer: {base_url: 'http://llm.example/v1', model: m, store_path: ~/answers.db}\n"
    )
    settings = load_settings()
    assert settings.kafka.ssl_ca_location == tmp_path / "ca.pem"
    assert settings.recall.path == tmp_path / "chroma"
    assert settings.answer.store_path == tmp_path / "answers.db"
    assert redacted(settings)["cache_dir"] == str(tmp_path / ".cache" / "rerank-worker")
    assert "cache_dir" not in redacted(settings, changed=True)


def test_where_no_home_can_be_found_the_settings_can_be_read_all_the_same(
    monkeypatch: pytest.MonkeyPatch, yaml_file: Write
) -> None:
    yaml_file("recall: {path: ~nobody-of-this-name/chroma}")
    assert load_settings().recall.path == Path("~nobody-of-this-name/chroma")


def test_reply_topics_are_a_list_in_a_file_and_separated_by_commas_in_a_variable(
    monkeypatch: pytest.MonkeyPatch, yaml_file: Write
) -> None:
    yaml_file("kafka: {reply_topics: [ann, replies.*]}")
    assert load_settings().kafka.reply_topics == ("ann", "replies.*")
    monkeypatch.setenv("RERANK_WORKER_KAFKA__REPLY_TOPICS", "bob, answers.*,")
    assert load_settings().kafka.reply_topics == ("bob", "answers.*")


def test_an_answers_request_is_set_by_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_WORKER_ANSWER__TEMPERATURE", "none")
    monkeypatch.setenv("RERANK_WORKER_ANSWER__MAX_TOKENS_FIELD", "max_completion_tokens")
    monkeypatch.setenv("RERANK_WORKER_ANSWER__EXTRA_BODY", '{"reasoning_effort": "low"}')
    monkeypatch.setenv("RERANK_WORKER_ANSWER__HEADERS__X-TEAM", "search")
    monkeypatch.setenv("RERANK_WORKER_ANSWER__USER_PROMPT", "{{}} {question}: {passages}")
    answer = load_settings().answer
    assert (answer.temperature, answer.max_tokens_field) == ("none", "max_completion_tokens")
    assert answer.extra_body == {"reasoning_effort": "low"}
    assert {name.lower(): value.get_secret_value() for name, value in answer.headers.items()} == {"x-team": "search"}
    assert answer.user_prompt == "{{}} {question}: {passages}"
    monkeypatch.setenv("RERANK_WORKER_ANSWER__TEMPERATURE", "0.5")
    assert load_settings().answer.temperature == 0.5


def test_what_makes_a_document_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{ENV_PREFIX}INDEX__EVENTS", "debezium")
    monkeypatch.setenv(f"{ENV_PREFIX}INDEX__TEXT", r"{title}\n{body of it}")
    monkeypatch.setenv(f"{ENV_PREFIX}INDEX__METADATA", "lang, year")
    index = load_settings().index
    assert (index.text, index.metadata) == ("{title}\n{body of it}", ("lang", "year"))


@pytest.mark.parametrize(
    "template", ["{}", "{0.real}", "{a.b}", "{a[0]}", "{a!r}", "{a:>9}", "{a", "a}", "{a{b}}", "no column"]
)
def test_a_template_of_more_than_columns_is_refused(monkeypatch: pytest.MonkeyPatch, template: str) -> None:
    monkeypatch.setenv(f"{ENV_PREFIX}INDEX__TEXT", template)
    assert "index.text (RERANK_WORKER_INDEX__TEXT)" in refusal()


def test_the_index_reads_documents_where_queries_would_be_and_answers_nothing() -> None:
    kafka = KafkaSettings(delivery_guarantee="exactly_once", ordering="key", reply_topics=("replies",), partitions=3)
    documents = for_documents(kafka)
    assert (documents.query_topic, documents.dead_letter_topic) == ("rag.documents", "rag.documents.dlq")
    assert (documents.group_id, documents.reply_topics, documents.partitions) == ("rerank-worker-index", (), 3)
    assert (documents.delivery_guarantee, documents.ordering) == ("at_least_once", "none")


def test_another_collection_is_filled_from_the_beginning_by_a_group_of_its_own() -> None:
    documents = for_documents(KafkaSettings(auto_offset_reset="latest"), into="second")
    assert (documents.group_id, documents.auto_offset_reset) == ("rerank-worker-index-second", "earliest")
    assert for_documents(KafkaSettings(auto_offset_reset="latest")).auto_offset_reset == "latest"
