"""`rerank-worker local`: the embedded stack of `worker/local/`, in the background."""

import typer

from worker.cli.terminal import EXIT_ERROR, err, out

app = typer.Typer(help="Kafka, Chroma and an LLM on this machine, in the background.", no_args_is_help=True)


@app.command()
def up() -> None:
    """Start the stack, or find it running, and print how a worker uses it."""
    from worker.local.background import up as start
    from worker.local.broker import LocalBroker
    from worker.settings.load import load_settings

    with err.status("starting Kafka, Chroma and the LLM"):
        state = start(load_settings())
    err.print(f"broker: {LocalBroker(state.kafka, state.kafka_kind).description}", highlight=False)
    for name, value in state.environment().items():
        print(f"export {name}={value}")  # noqa: T201 - for `eval "$(rerank-worker local up)"`


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
    from worker.settings.load import load_settings

    state = look(load_settings())
    if state is None:
        out.print("not running")
        raise typer.Exit(EXIT_ERROR)
    out.print_json(data=state.environment() | {"data": state.data_dir, "kafka": state.kafka_kind})
