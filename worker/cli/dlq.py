"""`rerank-worker dlq`: look at dead letters, and send their events round again."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from worker.cli.terminal import out
from worker.errors import FatalError

if TYPE_CHECKING:
    from worker.kafka.admin.dead_letters import DeadLetter, Wanted

app = typer.Typer(help="Dead letters: list them, show one, send their events round again.", no_args_is_help=True)


class Kind(StrEnum):
    """Why an event was given up."""

    POISON = "poison"
    TRANSIENT = "transient"


TIMES = ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d", "%Y-%m-%dT%H:%M:%S%z"]
Reason = Annotated[str | None, typer.Option(help="Only with this error.class, e.g. invalid_json.")]
KindOption = Annotated[Kind | None, typer.Option(help="Only of this kind.")]
Since = Annotated[datetime | None, typer.Option(formats=TIMES, help="Only dead-lettered then or later (UTC).")]
Until = Annotated[datetime | None, typer.Option(formats=TIMES, help="Only dead-lettered before (UTC).")]


@app.command(name="list")
def list_letters(
    reason: Reason = None,
    kind: KindOption = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="Most to show.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List dead letters, oldest first within a partition."""
    table = Table("place", "dead-lettered", "kind", "reason", "tries", "message")
    shown = 0
    for letter in islice(_read(_wanted(reason, kind, since, until)), limit):
        shown += 1
        if as_json:
            print(json.dumps(_summary(letter)))  # noqa: T201 - lines for other programs
        else:
            info = letter.info
            table.add_row(
                letter.place,
                f"{letter.at:%Y-%m-%d %H:%M:%S}",
                info.error_kind,
                info.error_class,
                str(info.attempts),
                Text(info.error_message),
            )
    if not as_json:
        out.print(table if shown else "no dead letters")


@app.command()
def show(place: Annotated[str, typer.Argument(help="PARTITION-OFFSET, as `dlq list` shows it.")]) -> None:
    """Show one dead letter: its headers, its key and its value as they came."""
    from worker.kafka.admin.dead_letters import Wanted

    letter = next(_read(Wanted(place=place)), None)
    if letter is None:
        raise FatalError(f"there is no dead letter at {place}; `rerank-worker dlq list` shows where they are")
    out.print_json(data=_summary(letter))
    for name, value in letter.record.headers:
        out.print(Text.assemble((f"{name}: ", "bold"), _text(value)), soft_wrap=True)
    out.print(Text.assemble(("key: ", "bold"), _text(letter.record.key)), soft_wrap=True)
    out.print(Text.assemble(("value: ", "bold"), _text(letter.record.value)), soft_wrap=True)


@app.command()
def replay(
    reason: Reason = None,
    kind: KindOption = None,
    since: Since = None,
    until: Until = None,
    place: Annotated[str | None, typer.Option(help="Only the one at PARTITION-OFFSET.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Most to send.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Say what would be sent, send nothing.")] = False,
) -> None:
    """Send events of dead letters to the topic they came from; key, value and headers stay, attempts are counted on."""
    from worker.kafka.admin import dead_letters
    from worker.settings.load import load_settings

    letters = islice(_read(_wanted(reason, kind, since, until, place)), limit)
    if dry_run:
        out.print(f"{sum(1 for _ in letters)} events would be sent")
        return
    out.print(f"{dead_letters.replay(load_settings().kafka, letters)} events sent")


def _wanted(
    reason: str | None, kind: Kind | None, since: datetime | None, until: datetime | None, place: str | None = None
) -> "Wanted":
    from worker.kafka.admin.dead_letters import Wanted

    return Wanted(reason, None if kind is None else kind.value, _utc(since), _utc(until), place)


def _read(wanted: "Wanted") -> Iterator["DeadLetter"]:
    from worker.kafka.admin import dead_letters
    from worker.settings.load import load_settings

    return dead_letters.read(load_settings().kafka, wanted)


def _utc(time: datetime | None) -> datetime | None:
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time


def _summary(letter: "DeadLetter") -> dict[str, object]:
    return {"place": letter.place, "dead_lettered": letter.at.isoformat(), **letter.info.model_dump(mode="json")}


def _text(value: bytes | None) -> str:
    # Bytes that are no UTF-8 are shown, not hidden: they are often the reason.
    return "null" if value is None else value.decode(errors="backslashreplace")
