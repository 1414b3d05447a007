"""`rerank-worker run`: the worker. Short, since it is a command."""

import asyncio

import typer


def run() -> None:
    """Consume query events until SIGTERM, then drain. Settings: see `config` and docs/reference/settings.md."""
    from worker.settings.load import load_settings

    settings = load_settings()
    # After the settings, so that a wrong one is told at once and not when torch is loaded.
    from worker.app.run import run_worker

    raise typer.Exit(asyncio.run(run_worker(settings)))
