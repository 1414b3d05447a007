"""`rerank-worker index`: the live index. Short, since it is a command."""

import asyncio
from functools import partial
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
    of: Annotated[
        str | None,
        typer.Option(
            metavar="COLLECTION",
            help="With --into: the collection whose documents it gets, of those that events may name. The configured "
            "one when left out.",
        ),
    ] = None,
) -> None:
    """Follow the documents topic until SIGTERM: the collection gets what changes and loses what is deleted.

    Start as many as there are partitions. Settings: see `config` and docs/reference/settings.md, `index` and `kafka`.
    """
    from worker.settings.load import load_settings

    if of is not None and into is None:
        raise typer.BadParameter("it says which documents --into COLLECTION gets: name that too", param_hint="--of")
    settings = load_settings()
    # After the settings, so that a wrong one is told at once and not when torch is loaded.
    from worker.app.build_index import build_index
    from worker.app.run import run_worker
    from worker.settings.kafka import for_documents

    usual = settings.recall.collection
    named = (usual, *settings.index.collections)
    if of is not None and of not in named:
        raise typer.BadParameter(f"events may name {', '.join(named)} alone (index.collections)", param_hint="--of")
    filled = {name: name for name in named} if into is None else {of or usual: into}
    followed = settings.model_copy(update={"kafka": for_documents(settings.kafka, into=into)})
    raise typer.Exit(asyncio.run(run_worker(followed, partial(build_index, filled=filled))))
