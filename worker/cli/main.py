"""`rerank-worker`: the commands, thin. What takes seconds to import is imported by the command that needs it."""

import asyncio
import json
import sys
import uuid
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.cli import dlq, tune
from worker.errors import WorkerError
from worker.telemetry.logs import quiet_commands

app = typer.Typer(
    name="rerank-worker",
    help="Kafka worker: recall from Chroma, rerank with a cross-encoder in micro-batches, answer, publish.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
local = typer.Typer(help="Kafka, Chroma and an LLM on this machine, in the background.", no_args_is_help=True)
app.add_typer(local, name="local")
app.add_typer(dlq.app, name="dlq")
app.command()(tune.tune)

out = Console()
err = Console(stderr=True)

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130


def main() -> None:
    """Run a command: an error of ours is `error: …` on standard error and exit code 1, a misuse 2, Ctrl-C 130."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A terminal that can't show an arrow shows a question mark; it must not end the command.
            stream.reconfigure(errors="replace")
    try:
        app()
    except WorkerError as error:
        # Not as markup: messages may hold brackets.
        err.print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
        sys.exit(EXIT_ERROR)
    except KeyboardInterrupt:
        # While this module was still loading; from inside a command typer gives the same code.
        sys.exit(EXIT_INTERRUPTED)


@app.callback()
def _prepare(context: typer.Context) -> None:
    if context.invoked_subcommand != "run":
        quiet_commands()


@app.command()
def run() -> None:
    """Consume query events until SIGTERM, then drain. Settings: see `config` and docs/reference/settings.md."""
    from worker.settings.load import load_settings

    settings = load_settings()
    # After the settings, so that a wrong one is told at once and not when torch is loaded.
    from worker.app.run import run_worker

    raise typer.Exit(asyncio.run(run_worker(settings)))


@app.command()
def demo() -> None:
    """Start the whole stack, ask real questions through Kafka, show what reranking does, clean up."""
    from worker.demo.demo import run_demo
    from worker.settings.load import load_settings

    run_demo(load_settings(), out)


@app.command()
def ingest(
    paths: Annotated[list[Path] | None, typer.Argument(help="JSONL, CSV, Markdown or text files, or folders.")] = None,
    sample: Annotated[str | None, typer.Option(help="Index a sample instead: demo or wikipedia.")] = None,
    collection: Annotated[str | None, typer.Option(help="Collection to fill; the configured one if not given.")] = None,
    skip_invalid: Annotated[
        bool, typer.Option(help="Count records that are no documents instead of stopping.")
    ] = False,
) -> None:
    """Bring a collection up to date with documents; what is unchanged is skipped, so it can be run again any time."""
    from worker.settings.load import load_settings

    if bool(paths) == bool(sample):
        raise typer.BadParameter("give paths or --sample, one of the two")
    settings = load_settings()
    from worker.documents.files.command import ingest_with_progress

    ingest_with_progress(
        settings, out, paths=paths or [], sample=sample, collection=collection, skip_rejected=skip_invalid
    )


@app.command()
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
    from worker.settings.load import load_settings

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
    with QueryClient(load_settings().kafka) as client, err.status("waiting for the answer"):
        answer = client.ask(event, timeout_s=timeout, traceparent=traceparent)
    if as_json:
        out.print_json(answer.model_dump_json())
    else:
        print_answer(out, answer)


@app.command()
def tail(
    from_beginning: Annotated[bool, typer.Option(help="Begin with the oldest answer kept.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print answer events as they come, until Ctrl-C."""
    from worker.cli.render import print_answer
    from worker.client import QueryClient
    from worker.settings.load import load_settings

    with QueryClient(load_settings().kafka) as client:
        for answer in client.tail(from_beginning=from_beginning):
            if as_json:
                print(answer.model_dump_json(), flush=True)  # noqa: T201 - lines for other programs
            else:
                print_answer(out, answer)


@app.command()
def topics(create: Annotated[bool, typer.Option(help="Create those that are missing.")] = False) -> None:
    """Show the worker's topics, and create them if asked."""
    from worker.kafka.admin.topics import describe, ensure
    from worker.settings.load import load_settings

    kafka = load_settings().kafka
    table = Table("topic", "partitions", "replicas")
    for topic in ensure(kafka, create=True) if create else describe(kafka):
        table.add_row(topic.name, str(topic.partitions or "missing"), str(topic.replicas or "-"))
    out.print(table)


@app.command()
def models(
    path: Annotated[str | None, typer.Option(help="Print the folder of embedding, cross-encoder or llm alone.")] = None,
) -> None:
    """Show each model and where it comes from; fetches or builds what is not there yet."""
    from worker.models.resolve import ROLES, resolve
    from worker.settings.load import load_settings

    settings = load_settings()
    if path is not None:
        wanted = next((role for role in ROLES if role == path), None)
        if wanted is None:
            raise typer.BadParameter(f"--path takes one of {', '.join(ROLES)}")
        print(resolve(wanted, settings).path)  # noqa: T201 - a path for a shell, never wrapped
        return
    for role in ROLES:
        if role == "cross-encoder" and settings.rerank.remote_url is not None:
            # Another server has it: nothing is loaded here, and its name need not be one that a hub knows.
            out.print(Text.assemble(f"{role:<15}", (settings.rerank.model, "bold"), "  (remote)"))
            continue
        try:
            model = resolve(role, settings)
        except WorkerError as error:
            told, place = Text("missing", "red"), str(error)
        else:
            told, place = Text.assemble((model.name, "bold"), f"  ({model.source})"), str(model.path)
        out.print(Text.assemble(f"{role:<15}", told))
        out.print(Text(f"{'':<15}{place}", "dim"), soft_wrap=True)


@local.command()
def up() -> None:
    """Start the stack, or find it running, and print how a worker uses it."""
    from worker.local.broker import LocalBroker
    from worker.local.stack import up as start
    from worker.settings.load import load_settings

    with err.status("starting Kafka, Chroma and the LLM"):
        state = start(load_settings())
    err.print(f"broker: {LocalBroker(state.kafka, state.kafka_kind).description}", highlight=False)
    for name, value in state.environment().items():
        print(f"export {name}={value}")  # noqa: T201 - for `eval "$(rerank-worker local up)"`


@local.command()
def down() -> None:
    """Stop the stack; its data stays."""
    from worker.local.stack import down as stop
    from worker.settings.load import load_settings

    out.print("stopped" if stop(load_settings()) else "nothing was running")


@local.command()
def status() -> None:
    """Tell whether the stack runs, and where."""
    from worker.local.stack import status as look
    from worker.settings.load import load_settings

    state = look(load_settings())
    if state is None:
        out.print("not running")
        raise typer.Exit(EXIT_ERROR)
    out.print_json(data=state.environment() | {"data": state.data_dir, "kafka": state.kafka_kind})


@app.command()
def config(
    show: Annotated[bool, typer.Option(help="The effective settings, secrets hidden.")] = False,
    schema: Annotated[bool, typer.Option(help="The settings' JSON Schema.")] = False,
) -> None:
    """Show the settings in force, or everything that can be set."""
    from worker.settings import Settings
    from worker.settings.load import load_settings, redacted

    if show == schema:
        raise typer.BadParameter("give --show or --schema")
    out.print_json(data=redacted(load_settings()) if show else Settings.model_json_schema())


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    out.print(installed("rerank-worker"))


def _json_option(name: str, text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{name} is not JSON: {error}") from error


if __name__ == "__main__":
    main()
