"""`rerank-worker`: the app, its exit codes, and how an error is told."""

import sys

if sys.argv[1:2] in (["run"], ["index"]):
    # Before everything else, for it takes seconds to import.
    from worker.app.stopping import exit_on_signals

    exit_on_signals()

import signal
from contextlib import nullcontext
from io import TextIOWrapper
from typing import Annotated

import typer
from rich.text import Text

from worker.app.stopping import interruptible
from worker.cli import (
    answers,
    collections,
    config,
    demo,
    dlq,
    evaluate,
    index,
    ingest,
    lexical,
    local,
    models,
    run,
    topics,
    tune,
)
from worker.cli.terminal import EXIT_ERROR, Command, err, out
from worker.errors import WorkerError
from worker.telemetry.logs import quiet_commands

app = typer.Typer(
    name="rerank-worker",
    help="Kafka worker: recall from Chroma, rerank with a cross-encoder in micro-batches, answer, publish.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

EXIT_INTERRUPTED = 130


def main() -> None:
    """Run a command: an error of ours is `error: …` on standard error and exit code 1, a misuse 2, Ctrl-C 130."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A terminal that can't show an arrow shows a question mark; it must not end the command.
            stream.reconfigure(errors="replace")
    # A worker has a handler of its own by now, and what a shell starts in the background may have to ignore Ctrl-C.
    by_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    try:
        with interruptible(signal.SIGINT, ending=lambda _: KeyboardInterrupt()) if by_default else nullcontext():
            app()
    except WorkerError as error:
        # Not as markup: messages may hold brackets.
        err.print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
        sys.exit(EXIT_ERROR)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _print_version(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit


@app.callback()
def _prepare(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand not in {"run", "index"}:
        quiet_commands()


def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    out.print(installed("rerank-worker"))


# `--help` lists them in this order: as one comes to need them.
for command in (
    run.run,
    demo.demo,
    ingest.ingest,
    answers.ask,
    answers.tail,
    index.index,
    topics.topics,
    models.models,
    config.config,
    tune.tune,
    evaluate.evaluate,
    version,
):
    app.command(cls=Command)(command)
app.add_typer(local.app, name="local")
app.add_typer(dlq.app, name="dlq")
app.add_typer(collections.app, name="collections")
app.add_typer(lexical.app, name="lexical")

if __name__ == "__main__":
    main()
