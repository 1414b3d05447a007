"""What the README, and the pages it hands its details to, name exists."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from schemas.events import AnswerEvent, QueryEvent
from worker.cli.main import app
from worker.settings import Settings
from worker.settings.load import environment_names
from worker.settings.secret_files import file_variables

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "docs" / "performance.md",
    ROOT / "docs" / "limits.md",
    *sorted((ROOT / "docs" / "guides").glob("*.md")),
]
NAMED = README + "".join(page.read_text(encoding="utf-8") for page in PAGES)
LONGEST_README = 150


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_the_two_commands_stand_alone_and_make_knows_them() -> None:
    commands = [block.strip() for block in blocks("sh") if block.startswith("make ")]
    assert commands == ["make demo", "make test"]
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{command.split()[1]}:", makefile, flags=re.MULTILINE) for command in commands)


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= LONGEST_README, "details belong in docs/"


def test_continuous_integration_runs_the_test_command() -> None:
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("command", sorted(set(re.findall(r"rerank-worker ((?:local )?[a-z]+)\b", NAMED))))
def test_every_command_it_names_exists(command: str) -> None:
    assert CliRunner().invoke(app, [*command.split(), "--help"]).exit_code == 0


@pytest.mark.parametrize("name", sorted(set(re.findall(r"RERANK_WORKER_[A-Z_]+[A-Z]", NAMED))))
def test_every_setting_it_names_exists(name: str) -> None:
    assert name in {*environment_names(), *file_variables(Settings), "RERANK_WORKER_CONFIG"}


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_every_link_leads_somewhere(target: str) -> None:
    assert (ROOT / target).exists()


def test_the_query_event_is_one() -> None:
    assert QueryEvent.model_validate_json(blocks("json")[0]).top_n == 1


def test_the_shortened_answer_event_has_no_field_that_answers_lack() -> None:
    answer = json.loads(blocks("json")[1])
    whole = json.loads((ROOT / "schemas" / "examples" / "answer-event.ok.json").read_text())
    assert answer.keys() <= AnswerEvent.model_fields.keys()
    AnswerEvent.model_validate(whole | answer | {"contexts": [whole["contexts"][0] | answer["contexts"][0]]})
