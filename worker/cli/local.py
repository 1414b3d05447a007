"""`rerank-worker local`: the embedded stack of `worker/local/`, in the background."""

from typing import Annotated

import typer

from worker.cli.terminal import EXIT_ERROR, err, out
from worker.errors import FatalError

app = typer.Typer(help="Kafka, Chroma and an LLM on this machine, in the background.", no_args_is_help=True)


# A worker's own defaults, so that it finds the stack without being told; an LLM has none.
KAFKA_PORT, CHROMA_PORT, LLM_PORT = 9092, 8000, 8080


@app.command()
def up(
    kafka_port: Annotated[
        int | None, typer.Option(min=1, max=65_535, metavar="PORT", help=f"Kafka's; {KAFKA_PORT} if that is free.")
    ] = None,
    chroma_port: Annotated[
        int | None, typer.Option(min=1, max=65_535, metavar="PORT", help=f"Chroma's; {CHROMA_PORT} if that is free.")
    ] = None,
    without_llm: Annotated[bool, typer.Option("--without-llm", help="Start no LLM: answers are quotations.")] = False,
) -> None:
    """Start the stack, or find it running, and print how a worker uses it."""
    from worker.local.background import supervisor_pid
    from worker.local.background import up as start
    from worker.local.broker import LocalBroker
    from worker.local.stack import StackChoice
    from worker.settings.load import load_settings

    settings = load_settings()
    choice = None
    if supervisor_pid(settings) is None:
        choice = StackChoice(
            kafka_port=_port("Kafka", kafka_port, KAFKA_PORT),
            chroma_port=_port("Chroma", chroma_port, CHROMA_PORT),
            llm_port=None if without_llm else _port("the LLM", None, LLM_PORT),
            llm=not without_llm,
        )
    elif kafka_port or chroma_port or without_llm:
        err.print("the stack is there already, as it was started; `rerank-worker local down` ends it")
    with err.status("starting Kafka, Chroma and the LLM"):
        state = start(settings, choice)
    err.print(f"broker: {LocalBroker(state.kafka, state.kafka_kind).description}", highlight=False)
    for name, value in state.environment().items():
        print(f"export {name}={value}")  # noqa: T201 - for `eval "$(rerank-worker local up)"`


def _port(server: str, wanted: int | None, default: int) -> int:
    from worker.local.process import free_port, is_free

    if is_free(wanted or default):
        return wanted or default
    if wanted is not None:
        raise FatalError(f"port {wanted} is taken: give {server} another one, or none for one that is free")
    found = free_port()
    err.print(f"port {default} is taken: {server} listens on {found}", highlight=False)
    return found


@app.command()
def down() -> None:
    """Stop the stack; its data stays."""
    from worker.local.background import down as stop
    from worker.settings.load import load_settings

    out.print("stopped" if stop(load_settings()) else "nothing was running")


@app.command()
def status() -> None:
    """Tell whether the stack runs, and where."""
    from worker.local.background import status as look
    from worker.local.background import supervisor_pid
    from worker.settings.load import load_settings

    settings = load_settings()
    state = look(settings)
    if state is None:
        out.print("not running" if supervisor_pid(settings) is None else "starting")
        raise typer.Exit(EXIT_ERROR)
    out.print_json(data=state.environment() | {"data": state.data_dir, "kafka": state.kafka_kind})
