"""`rerank-worker lexical`: the index of words beside a collection."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.terminal import Command, out

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

app = typer.Typer(help="The lexical index of hybrid recall.", no_args_is_help=True)


@app.command(cls=Command)
def rebuild(
    collection: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Of what queries that name this collection read; of the configured one if not given."
        ),
    ] = None,
) -> None:
    """Fill a collection's file anew from what Chroma holds, all at once, while workers answer from the former.

    What writes to the collection meanwhile waits until it is done. Needs `recall.lexical_path`.
    """
    from worker.errors import FatalError
    from worker.settings.load import load_settings

    recall = load_settings().recall
    # After the settings, so that a wrong one is told at once and not when chromadb is loaded.
    from chromadb.api.models.Collection import Collection
    from chromadb.errors import NotFoundError

    from worker.recall.chroma_collections import find_read
    from worker.recall.chroma_connection import ChromaConnection
    from worker.recall.lexical.index import new_lexical_index

    lexical = new_lexical_index(recall)
    if lexical is None:
        raise FatalError("there is no lexical index: set RERANK_WORKER_RECALL__LEXICAL_PATH")
    name, connection = collection or recall.collection, ChromaConnection(recall)

    def find(client: "ClientAPI") -> Collection:
        try:
            return find_read(client, name)
        except NotFoundError as error:
            raise FatalError(f"there is no collection {name!r} in Chroma at {connection.address}") from error

    begun_s = time.monotonic()
    try:
        # Looked up once: a swap meanwhile is no reason to fill the file from two collections.
        found = connection.ask(find)
        chunks = lexical.fill(found, lambda operation: connection.ask(lambda _: operation(found)), anew=True)
    finally:
        lexical.close()
        connection.close()
    out.print(f"  {chunks} chunks of {found.name} in {time.monotonic() - begun_s:.1f} s", highlight=False)
