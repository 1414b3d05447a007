"""The reference page of the commands says what can be typed."""

import re
from pathlib import Path

import pytest
from rich.text import Text
from typer.testing import CliRunner

from worker.cli import reference as docs
from worker.cli.main import app

REPOSITORY = Path(__file__).parents[3]
COMMANDS = re.findall(r"^## `rerank-worker (.+)`$", docs.page(), re.MULTILINE)


def section(command: str) -> str:
    return docs.page().partition(f"## `rerank-worker {command}`\n")[2].partition("\n## ")[0]


def test_the_committed_page_is_generated_from_the_commands() -> None:
    assert (REPOSITORY / docs.PAGE).read_text(encoding="utf-8") == docs.page(), "run: make docs"


def test_the_members_of_groups_are_commands_too() -> None:
    assert {"run", "ask", "version", "local up", "dlq replay"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_that_help_names_is_described(command: str) -> None:
    shown = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert shown.exit_code == 0
    named = set(re.findall(r"^│ [* ]*(--[a-z-]+)", Text.from_ansi(shown.stdout).plain, re.MULTILINE)) - {"--help"}
    assert set(re.findall(r"^\| `(--[a-z-]+)", section(command), re.MULTILINE)) == named


@pytest.mark.parametrize("command", COMMANDS)
def test_no_usage_has_the_braces_that_typer_puts_around_what_must_be_given(command: str) -> None:
    assert re.search(rf"^rerank-worker {command} [^{{}}]+$", section(command), re.MULTILINE)


def test_defaults_bounds_and_choices_are_shown() -> None:
    assert "| `--timeout <float range>` | Seconds to wait for the answer. [default: 60.0; x>=0.1] |" in section("ask")
    assert r"| `--kind <poison\|transient>` | Only of this kind. |" in section("dlq list")


def test_every_command_of_the_summary_leads_to_its_heading() -> None:
    anchors = {f"rerank-worker-{command.replace(' ', '-')}" for command in COMMANDS}
    assert set(re.findall(r"\(#([\w-]+)\)", docs.page())) == anchors
