"""The chart's schema takes every setting that is no secret, and names every one that may come out of one."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from worker.settings import Settings, chart
from worker.settings.load import environment_names

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def in_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)


def refused(settings: dict[str, Any]) -> list[str]:
    return [error.message for error in Draft7Validator(chart.settings_schema()).iter_errors(settings)]


def test_the_committed_schema_holds_what_the_settings_say(in_repository: None) -> None:
    assert chart.SCHEMA.read_text(encoding="utf-8") == chart.chart_schema(), "run: make docs"


def test_the_schema_is_one(in_repository: None) -> None:
    Draft7Validator.check_schema(json.loads(chart.SCHEMA.read_text(encoding="utf-8")))


def test_check_fails_on_a_schema_that_is_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / chart.SCHEMA
    copy.parent.mkdir(parents=True)
    copy.write_text('{"properties": {}, "definitions": {"secretSettings": {}}}', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert chart.main(["--check"]) == 1
    assert chart.main([]) == 0
    assert chart.main(["--check"]) == 0


def test_the_defaults_pass() -> None:
    settings = Settings().model_dump(mode="json")
    kept = chart.settings_schema()["properties"]
    assert refused({name: value for name, value in settings.items() if name in kept and name not in SECTIONS}) == []
    for name in SECTIONS:
        members = kept[name]["properties"]
        assert refused({name: {each: value for each, value in settings[name].items() if each in members}}) == []


SECTIONS = ("kafka", "recall", "rerank", "answer", "telemetry")


@pytest.mark.parametrize(
    "settings",
    [
        {"kafka": {"bootstrap_server": "kafka:9092"}},
        {"kafka": {"max_in_flight": 0}},
        {"kafka": {"sasl_password": "secret"}},
        {"kafka": {"client_options": {"ssl.key.password": "secret"}}},
        {"kafka": {"group_instance_id": "one-for-all"}},
        {"recall": {"api_key": "secret"}},
        {"recall": {"headers": {"x-token": "secret"}}},
        {"answer": {"api_key": "secret"}},
        {"answer": {"headers": {"authorization": "secret"}}},
        {"rerank": {"remote_api_key": "secret"}},
        {"telemetry": {"port": 0}},
        {"worker_id": "one-for-all"},
        {"cache_dir": "/elsewhere"},
        {"kafka": None},
    ],
    ids=json.dumps,
)
def test_a_misspelt_setting_a_wrong_one_and_a_secret_are_refused(settings: dict[str, Any]) -> None:
    assert refused(settings)


def test_every_setting_goes_into_the_one_place_or_into_the_other() -> None:
    schema = chart.settings_schema()["properties"]
    plain = {name for name in schema if name not in SECTIONS}
    plain |= {f"{name}.{member}" for name in SECTIONS for member in schema[name]["properties"]}
    secret = set(chart.secret_names()["anyOf"][0]["enum"])
    variables = {f"RERANK_WORKER_{path.replace('.', '__')}".upper() for path in plain | secret | chart.PER_POD}
    assert variables == set(environment_names()) - {f"RERANK_WORKER_{name}".upper() for name in SECTIONS}
    assert not (plain | secret) & chart.PER_POD


@pytest.mark.parametrize(
    "name", ["kafka.sasl_password", "kafka.client_options.ssl.key.password", "recall.headers.x-token"]
)
def test_secrets_may_come_out_of_secrets(name: str) -> None:
    assert list(Draft7Validator(chart.secret_names()).iter_errors(name)) == []


@pytest.mark.parametrize("name", ["kafka.sasl_pasword", "worker_id", "recall.headers."])
def test_no_other_name_may(name: str) -> None:
    assert list(Draft7Validator(chart.secret_names()).iter_errors(name))
