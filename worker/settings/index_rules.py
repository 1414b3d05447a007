"""Settings of the live index that can't work together, refused at start; `rules` lists all sections.

Short: what one setting alone can get wrong is its own type's to say.
"""

from collections.abc import Iterator

from worker.settings.index import IndexSettings


def problems(index: IndexSettings) -> Iterator[str]:
    """Yield each combination of these settings that can't work."""
    if index.events != "documents" and index.text is None:
        yield (
            f"index.events is {index.events} without index.text: say which columns make a document's text, e.g. "
            r"'{title}\n{body}'"
        )
    if index.events == "documents" and index.id is not None:
        yield "index.id would not be used with index.events documents, whose keys are ids: leave it out"
    own = [name for name in index.metadata if name.startswith("_")]
    if own:
        yield f"index.metadata has {', '.join(own)}: metadata that begins with an underscore is the index's own"
    if index.title is not None and "title" in index.metadata:
        yield "index.metadata has title, which index.title makes: set one of them"
    if index.collection is not None and not index.collections:
        yield "index.collection is set without index.collections: list the collections that it may name"
