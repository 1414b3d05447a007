"""`rerank-worker dlq`: look at dead letters, and send their events round again."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from worker.cli.broker import reachable_kafka
from worker.cli.terminal import Command, err, out, print_rows
from worker.errors import FatalError

if TYPE_CHECKING:
    from worker.kafka.admin.dead_letters import DeadLetter, Wanted

app = typer.Typer(help="Dead letters: list them, show one, send their events round again.", no_args_is_help=True)


class Kind(StrEnum):
    """Why an event was given up."""

    POISON = "poison"
    TRANSIENT = "transient"


TIMES = ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d", "%Y-%m-%dT%H:%M:%S%z"]
PLACE = re.compile(r"\d+-\d+")
COLUMNS = ("place", "dead-lettered (UTC)", "kind", "reason", "tries", "query id", "message")
Reason = Annotated[str | None, typer.Option(metavar="REASON", help="Only with this error.class, e.g. invalid_json.")]
KindOption = Annotated[Kind | None, typer.Option(help="Only of this kind.")]
Since = Annotated[
    datetime | None,
    typer.Option(formats=TIMES, metavar="TIME", help="Only dead-lettered then or later: 2026-01-31T12:00 (UTC)."),
]
Until = Annotated[
    datetime | None, typer.Option(formats=TIMES, metavar="TIME", help="Only dead-lettered before: 2026-01-31 (UTC).")
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, an object a line.")]


@app.command(name="list")
def list_letters(
    reason: Reason = None,
    kind: KindOption = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, metavar="COUNT", help="Most to show.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List dead letters, oldest first."""
    from worker.kafka.admin.dead_letters import oldest

    letters, count = oldest(reachable_kafka(), _wanted(reason, kind, since, until), limit)
    if as_json:
        _print_json(letters)
    elif letters:
        print_rows(COLUMNS, map(_row, letters))
    else:
        out.print("no dead letters")
    if count > len(letters):
        err.print(f"{count - len(letters)} more of {count}: --limit {count} shows all", highlight=False)


@app.command(cls=Command)
def show(
    place: Annotated[str, typer.Argument(metavar="PLACE", help="PARTITION-OFFSET, as `dlq list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Show one dead letter: its headers, its key and its value as they came."""
    from worker.kafka.admin.dead_letters import Wanted, read

    letter = next(read(reachable_kafka(), Wanted(place=_checked(place))), None)
    if letter is None:
        raise FatalError(f"there is no dead letter at {place}; `rerank-worker dlq list` shows where they are")
    record = letter.record
    if as_json:
        whole = {
            "headers": [[name, None if value is None else _text(value)] for name, value in record.headers],
            "value": None if record.value is None else _text(record.value),
        }
        print(json.dumps(_summary(letter) | whole))  # noqa: T201 - for other programs
        return
    lines = [("place", letter.place), ("dead-lettered", letter.at.isoformat())]
    lines += [(name, _text(value)) for name, value in record.headers]
    for name, text in [*lines, ("key", _text(record.key)), ("value", _text(record.value))]:
        out.print(Text.assemble((f"{name}: ", "bold"), text), soft_wrap=True)


@app.command()
def replay(
    reason: Reason = None,
    kind: KindOption = None,
    since: Since = None,
    until: Until = None,
    place: Annotated[
        str | None, typer.Option(metavar="PLACE", help="Only the one at PARTITION-OFFSET, as `dlq list` shows it.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="COUNT", help="Most to send.")] = None,
    max_attempts: Annotated[
        int | None, typer.Option(min=1, metavar="COUNT", help="Leave out what was tried this often.")
    ] = None,
    again: Annotated[bool, typer.Option("--all", help="Also what an earlier replay has sent.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be sent, send nothing.")] = False,
) -> None:
    """Send events of dead letters to the query topic again, each once; key, value and headers stay."""
    from worker.kafka.admin.replay import by_reason, plan
    from worker.kafka.admin.replay import replay as send

    kafka = reachable_kafka()
    wanted = _wanted(reason, kind, since, until, None if place is None else _checked(place))
    chosen = plan(kafka, wanted, again=again, max_attempts=max_attempts, limit=limit)
    for why, count in chosen.left_out.items():
        err.print(f"{count} left out: {why}", highlight=False, soft_wrap=True)
    count = len(chosen.letters)
    if dry_run:
        if count:
            print_rows(COLUMNS, map(_row, chosen.letters))
        out.print(f"{count} events would be sent", highlight=False)
        return
    if count and not yes:
        typer.confirm(
            f"Send {count} events to {kafka.query_topic} ({by_reason(chosen.letters)})?", abort=True, err=True
        )
    out.print(f"{send(kafka, chosen)} events sent", highlight=False)


def _checked(place: str) -> str:
    if not PLACE.fullmatch(place):
        raise typer.BadParameter(f"{place!r} is no place: give PARTITION-OFFSET as `dlq list` shows it, e.g. 0-15")
    return place


def _wanted(
    reason: str | None, kind: Kind | None, since: datetime | None, until: datetime | None, place: str | None = None
) -> "Wanted":
    from worker.kafka.admin.dead_letters import Wanted

    return Wanted(reason, None if kind is None else kind.value, _utc(since), _utc(until), place)


def _utc(time: datetime | None) -> datetime | None:
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time


def _row(letter: "DeadLetter") -> Sequence[str]:
    info = letter.info
    at = f"{letter.at:%Y-%m-%d %H:%M:%S}"
    query_id = letter.query_id or "-"
    return letter.place, at, info.error_kind, info.error_class, str(info.attempts), query_id, info.error_message


def _print_json(letters: Sequence["DeadLetter"]) -> None:
    for letter in letters:
        print(json.dumps(_summary(letter)))  # noqa: T201 - lines for other programs


def _summary(letter: "DeadLetter") -> dict[str, object]:
    from schemas import wire

    return {
        "place": letter.place,
        "dead_lettered": letter.at.isoformat(),
        "query_id": letter.query_id,
        "key": None if letter.record.key is None else _text(letter.record.key),
        "correlation_id": wire.header(letter.record.headers, wire.CORRELATION_ID),
        **letter.info.model_dump(mode="json"),
    }


def _text(value: bytes | None) -> str:
    # Bytes that are no UTF-8 are shown, not hidden: they are often the reason.
    return "null" if value is None else value.decode(errors="backslashreplace")
