"""What a user types, where no server is needed."""

import json
import re
import subprocess
import sys
from importlib import metadata

import pytest
from typer.testing import CliRunner

from tests.patience import HANG_S
from worker.cli.main import app
from worker.errors import FatalError

runner = CliRunner()

# What a machine that runs tests may have to say of itself: see tests/conftest.py.
KEPT_SETTINGS = {"cache_dir", "models"}


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "worker.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )


def test_help_names_every_command() -> None:
    text = runner.invoke(app, ["--help"]).stdout
    for command in ("run", "ingest", "ask", "tail", "index", "topics", "models", "local", "config", "demo", "version"):
        assert command in text


def test_help_begins_with_what_one_comes_to_need_first() -> None:
    text = runner.invoke(app, ["--help"]).stdout
    commands = [line.split()[1] for line in text.splitlines() if line.startswith("│ ") and line[2].islower()]
    assert commands[:5] == ["run", "demo", "ingest", "ask", "tail"]


@pytest.mark.parametrize(
    ("command", "usage"),
    [("ask", "[OPTIONS] QUESTION"), ("dlq show", "[OPTIONS] PLACE"), ("ingest", "[OPTIONS] [PATHS]...")],
)
def test_usage_names_arguments_as_people_write_them(command: str, usage: str) -> None:
    shown = runner.invoke(app, [*command.split(), "--help"]).stdout
    assert re.search(rf"{command} {re.escape(usage)} *$", shown, re.MULTILINE)


def test_help_loads_no_heavy_library() -> None:
    script = (
        "import sys; from worker.cli.main import app; app(['--help'], standalone_mode=False); "
        "print([m for m in ('torch', 'chromadb', 'transformers', 'confluent_kafka') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=HANG_S, check=True)
    assert loaded.stdout.splitlines()[-1] == "[]"


def test_an_error_of_ours_is_one_line_and_exit_code_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_WORKER_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:9")
    ended = run("topics")
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: no Kafka broker can be reached (127.0.0.1:9: Connection refused)")
    assert "Traceback" not in ended.stderr


def test_a_wrong_setting_is_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_WORKER_KAFKA__PARTITIONS", "many")
    ended = run("run")
    assert ended.returncode == 1
    assert "kafka.partitions" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["ask", "why?", "--where", "{"],
        ["ask", "   "],
        ["ask", "why?", "--where", "5"],
        ["ask", "why?", "--top-k", "0"],
        ["ask", "why?", "--timeout", "0"],
        ["ingest"],
        ["ingest", "file.jsonl", "--sample", "demo"],
        ["ingest", "--sample", "nope"],
        ["config"],
        ["config", "--show", "--changed"],
        ["models", "--path", "nothing"],
    ],
)
def test_a_misuse_is_exit_code_two(arguments: list[str]) -> None:
    assert runner.invoke(app, arguments).exit_code == 2


def test_config_shows_what_is_in_force_and_hides_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_WORKER_ANSWER__API_KEY", "sk-very-secret")
    monkeypatch.setenv("RERANK_WORKER_RERANK__TOP_N", "5")
    shown = runner.invoke(app, ["config", "--show"]).stdout
    assert json.loads(shown)["rerank"]["top_n"] == 5
    assert "very-secret" not in shown


def test_config_shows_what_was_changed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_WORKER_WORKER_ID", "w-1")
    monkeypatch.setenv("RERANK_WORKER_RERANK__TOP_N", "5")
    shown = json.loads(runner.invoke(app, ["config", "--changed"]).stdout)
    assert {name: section for name, section in shown.items() if name not in KEPT_SETTINGS} == {
        "worker_id": "w-1",
        "rerank": {"top_n": 5},
    }


def test_config_gives_the_settings_schema() -> None:
    schema = json.loads(runner.invoke(app, ["config", "--schema"]).stdout)
    assert {"kafka", "recall", "rerank", "answer", "telemetry"} <= schema["properties"].keys()


@pytest.mark.parametrize("asked", ["version", "--version"])
def test_version_is_that_of_the_distribution(asked: str) -> None:
    assert runner.invoke(app, [asked]).stdout.strip() == metadata.version("rerank-worker")


@pytest.mark.parametrize("command", [[], ["ask"], ["dlq", "list"]])
def test_h_is_help_everywhere(command: list[str]) -> None:
    short, long = (runner.invoke(app, [*command, option]) for option in ("-h", "--help"))
    assert short.exit_code == 0
    assert short.stdout == long.stdout != ""


@pytest.mark.parametrize(
    "arguments",
    [["ask", "why?"], ["tail"], ["topics"], ["dlq", "list"], ["dlq", "show", "0-1"], ["dlq", "replay", "--yes"]],
)
def test_without_a_broker_a_command_says_so_whatever_time_a_worker_would_give_it(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("RERANK_WORKER_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:9")
    monkeypatch.setenv("RERANK_WORKER_KAFKA__STARTUP_TIMEOUT_S", str(HANG_S * 2))
    ended = runner.invoke(app, arguments)
    assert isinstance(ended.exception, FatalError)
    assert "RERANK_WORKER_KAFKA__BOOTSTRAP_SERVERS" in str(ended.exception)


def test_a_path_that_is_not_there_is_told_before_anything_is_loaded() -> None:
    script = (
        "import sys; from worker.cli.main import main; sys.argv[1:] = ['ingest', 'not-there']\n"
        "try: main()\n"
        "finally: print([m for m in ('torch', 'chromadb', 'transformers') if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=HANG_S, check=False)
    assert ended.returncode == 1
    assert "not-there does not exist" in ended.stderr
    assert ended.stdout == "[]\n"
