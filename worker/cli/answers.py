"""`rerank-worker ask` and `rerank-worker tail`: answers on a terminal, to one question or as they come."""

import json
import uuid
from typing import Annotated, Any

import typer

from worker.cli.broker import reachable_kafka
from worker.cli.terminal import err, out


def ask(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    collection: Annotated[str | None, typer.Option(help="Collection to search.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Candidates to recall.")] = None,
    top_n: Annotated[int | None, typer.Option(help="Contexts to keep.")] = None,
    min_score: Annotated[float | None, typer.Option(help="Drop contexts that score lower.")] = None,
    where: Annotated[str | None, typer.Option(help="Chroma metadata filter, as JSON.")] = None,
    generate: Annotated[bool, typer.Option(help="Generate an answer, or stop at the contexts.")] = True,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the answer.")] = 60.0,
    traceparent: Annotated[str | None, typer.Option(help="W3C trace context to send along.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer event as JSON.")] = False,
) -> None:
    """Produce one query event, wait for its answer event and print how it came about."""
    from pydantic import ValidationError

    from schemas.events import QueryEvent
    from worker.cli.render import print_answer
    from worker.client import QueryClient

    fields: dict[str, Any] = {
        "collection": collection,
        "top_k": top_k,
        "top_n": top_n,
        "min_score": min_score,
        "where": _json_option("--where", where),
    }
    try:
        event = QueryEvent(
            id=str(uuid.uuid4()), text=question, generate=generate, include_candidates=not as_json, **fields
        )
    except ValidationError as error:
        raise typer.BadParameter("; ".join(f"{p['loc'][0]}: {p['msg']}" for p in error.errors())) from error
    with QueryClient(reachable_kafka()) as client, err.status("waiting for the answer"):
        answer = client.ask(event, timeout_s=timeout, traceparent=traceparent)
    if as_json:
        out.print_json(answer.model_dump_json())
    else:
        print_answer(out, answer)


def tail(
    from_beginning: Annotated[bool, typer.Option(help="Begin with the oldest answer kept.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print answer events as they come, until Ctrl-C."""
    from worker.cli.render import print_answer
    from worker.client import QueryClient

    kafka = reachable_kafka()
    with QueryClient(kafka) as client:
        err.print(f"listening to {kafka.answer_topic}; Ctrl-C ends", highlight=False)
        for answer in client.tail(from_beginning=from_beginning):
            if as_json:
                print(answer.model_dump_json(), flush=True)  # noqa: T201 - lines for other programs
            else:
                print_answer(out, answer)


def _json_option(name: str, text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{name} is not JSON: {error}") from error
