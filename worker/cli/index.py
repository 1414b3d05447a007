"""`rerank-worker index`: the live index. Short, since it is a command."""

import asyncio
from typing import Annotated

import typer


def index(
    into: Annotated[
        str | None,
        typer.Option(
            metavar="COLLECTION",
            help="Fill this collection beside the configured one, from the topic's beginning, in a group of its own.",
        ),
    ] = None,
) -> None:
    """Follow the documents topic until SIGTERM: the collection gets what changes and loses what is deleted.

    Start as many as there are partitions. Settings: see `config` and docs/reference/settings.md, `index` and `kafka`.
    """
    from worker.settings.load import load_settings

    settings = load_settings()
    # After the settings, so that a wrong one is told at once and not when torch is loaded.
    from worker.app.build_index import build_index
    from worker.app.run import run_worker
    from worker.settings.kafka import for_documents

    recall = settings.recall if into is None else settings.recall.model_copy(update={"collection": into})
    followed = settings.model_copy(update={"kafka": for_documents(settings.kafka, into=into), "recall": recall})
    raise typer.Exit(asyncio.run(run_worker(followed, build_index)))
