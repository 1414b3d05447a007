"""`rerank-worker ask` and `rerank-worker tail`: answers on a terminal, to one question or as they come."""

import json
import re
import uuid
from typing import Annotated, Any

import typer

from worker.cli.broker import reachable_kafka
from worker.cli.terminal import WithoutControl, err, out

# W3C Trace Context: version, trace id, parent id and flags; neither id is all zeros.
TRACEPARENT = re.compile("(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def ask(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to ask, in quotes.")],
    more_words: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    collection: Annotated[str | None, typer.Option(help="Collection to search.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Candidates to recall.")] = None,
    top_n: Annotated[int | None, typer.Option(help="Contexts to keep.")] = None,
    min_score: Annotated[float | None, typer.Option(help="Drop contexts that score lower.")] = None,
    where: Annotated[str | None, typer.Option(help="Chroma metadata filter, as JSON.")] = None,
    generate: Annotated[bool, typer.Option(help="Generate an answer, or stop at the contexts.")] = True,
    include_candidates: Annotated[
        bool, typer.Option("--include-candidates", help="With --json: every candidate, not the contexts alone.")
    ] = False,
    deadline_ms: Annotated[
        int | None, typer.Option(metavar="MS", help="Milliseconds from now when it is too late: answered `expired`.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the answer.")] = 60.0,
    reply_topic: Annotated[
        str | None, typer.Option(help="Have the reply sent there; the worker must allow it (kafka.reply_topics).")
    ] = None,
    key: Annotated[str | None, typer.Option(help="The record's key; the query's id if not given.")] = None,
    header: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A header to send along; give it once for each.")
    ] = None,
    traceparent: Annotated[
        str | None, typer.Option(metavar="CONTEXT", help="W3C trace context to send along: 00-…-…-01.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer event as JSON.")] = False,
) -> None:
    """Produce one query event, wait for its answer event and print how it came about."""
    if more_words:
        # The shell has taken blanks, and perhaps quotes and question marks, for its own.
        raise typer.BadParameter(f'quote the question: rerank-worker ask "{" ".join((question, *more_words))}"')
    from pydantic import ValidationError
    from rich.live import Live

    from schemas import wire
    from schemas.contexts import ContextsEvent
    from schemas.events import QueryEvent
    from worker.cli.render import print_answer, waiting
    from worker.client import QueryClient

    fields: dict[str, Any] = {
        "collection": collection,
        "top_k": top_k,
        "top_n": top_n,
        "min_score": min_score,
        "where": _json_option("--where", where),
        "generate": generate,
        # On a terminal what was dropped is half of what there is to see.
        "include_candidates": include_candidates or not as_json,
        "deadline_ms": deadline_ms,
    }
    try:
        event = QueryEvent(id=str(uuid.uuid4()), text=question, **fields)
    except ValidationError as error:
        raise typer.BadParameter(wire.summary(error)) from error
    headers = [*map(_header, header or ()), *_trace(traceparent)]
    shown = Live(WithoutControl(waiting()), console=err, transient=True, refresh_per_second=12.5)

    def show(contexts: ContextsEvent) -> None:
        shown.update(WithoutControl(waiting(contexts)), refresh=True)

    # Nobody sees them on what is no terminal, and who asks from there needs no right to read their topic.
    on_contexts = show if err.is_terminal else None
    with QueryClient(reachable_kafka(), reply_topic=reply_topic, on_contexts=on_contexts) as client, shown:
        answer = client.ask(event, timeout_s=timeout, key=key, headers=headers)
    if as_json:
        out.print_json(answer.model_dump_json())
    else:
        print_answer(out, answer)


def tail(
    from_beginning: Annotated[bool, typer.Option(help="Begin with the oldest answer kept.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print answer events as they come, until Ctrl-C."""
    from worker.cli.render import print_answer, stamp
    from worker.client import QueryClient

    kafka = reachable_kafka()
    with QueryClient(kafka) as client:
        err.print(f"listening to {kafka.answer_topic}; Ctrl-C ends", highlight=False)
        for answer in client.tail(from_beginning=from_beginning):
            if as_json:
                print(answer.model_dump_json(), flush=True)  # noqa: T201 - lines for other programs
            else:
                out.print(stamp(answer))
                print_answer(out, answer)


def _header(text: str) -> tuple[str, bytes]:
    from schemas import wire

    name, equals, value = text.partition("=")
    if not name or not equals:
        raise typer.BadParameter(f"--header takes NAME=VALUE, not {text!r}")
    if name in {wire.CORRELATION_ID, wire.REPLY_TOPIC}:
        raise typer.BadParameter(f"the header {name} is set by `ask`, which waits for what comes back")
    return name, value.encode()


def _trace(context: str | None) -> list[tuple[str, bytes]]:
    from schemas import wire

    if context is None:
        return []
    if not TRACEPARENT.fullmatch(context):
        raise typer.BadParameter(f"--traceparent {context!r} is none: give 00-<32 hex digits>-<16>-<2>, in lower case")
    return [(wire.TRACEPARENT, context.encode())]


def _json_option(name: str, text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{name} is not JSON: {error}") from error
