"""What a terminal gets of other people's texts."""

import io

import pytest
from rich.color import ColorSystem
from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.cli import terminal

HOSTILE = "a\x1b[2J\x9b31mb\x07\rc\x7f"


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Console:
    """The commands' own, as on a terminal."""
    monkeypatch.setattr(terminal.out, "_force_terminal", True)
    monkeypatch.setattr(terminal.out, "_color_system", ColorSystem.STANDARD)
    monkeypatch.setattr(terminal.out, "no_color", False)
    monkeypatch.setattr(terminal.out, "_file", io.StringIO())
    return terminal.out


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_control_characters_of_other_peoples_texts_do_not_reach_the_terminal(console: Console) -> None:
    console.print(Text(HOSTILE))
    assert printed(console) == "a[2J31mbc\n"


def test_nor_do_they_out_of_tables_and_json(console: Console) -> None:
    terminal.print_rows(["query"], [[HOSTILE]])
    console.print_json(data={"query": HOSTILE})
    console.print(Table(title=HOSTILE))
    assert "[2J" in printed(console)
    assert not any(forbidden in printed(console) for forbidden in ("\x1b[2J", "\x9b", "\x07", "\r", "\x7f"))


def test_line_ends_and_the_commands_own_colours_stay(console: Console) -> None:
    console.print(Text("one\ntwo", "red"))
    assert printed(console) == "\x1b[31mone\x1b[0m\n\x1b[31mtwo\x1b[0m\n"
