"""The collections that the documents of one topic stand in: each document in one of them, and in no other.

Short, and a file of its own: ``DocumentStore`` knows one collection, this which.
"""

from collections.abc import Mapping, Sequence

from worker.documents.stream.changes import Change, Outcome, superseded
from worker.documents.stream.store import DocumentStore


class DocumentCollections:
    """Blocking; called from one thread, as its stores are."""

    def __init__(self, stores: Mapping[str, DocumentStore]) -> None:
        """Keep ``stores``, by the names that events use; a document that is to stand in another leaves them all."""
        self._stores = stores

    def apply(self, changes: Sequence[Change]) -> list[Outcome | Exception]:
        """Bring the collections to where the changes, of a document each, want them; return what became of each.

        A document that moves is written where it goes before it leaves where it was. Raises as ``DocumentStore.write``.
        """
        # In every one of them, since no tombstone says where its document is, and no event where it was.
        before = {name: store.stored(changes) for name, store in self._stores.items()}
        outcomes: dict[Change, Outcome | Exception] = {}
        for change in changes:
            undone = any(superseded(change, held.get(change.id, {})) for held in before.values())
            outcomes[change] = "superseded" if undone else "absent"
        current = [change for change in changes if outcomes[change] != "superseded"]
        for name, store in self._stores.items():
            if own := [change for change in current if change.collection == name]:
                outcomes.update(zip(own, store.write(own, before[name]), strict=True))
        for name, store in self._stores.items():
            # What could not be written where it was to go stays where it was.
            leaving = [
                change
                for change in current
                if change.id in before[name]
                and change.collection != name
                and not isinstance(outcomes[change], Exception)
            ]
            store.remove(leaving, before[name])
            outcomes.update((change, "deleted") for change in leaving if outcomes[change] == "absent")
        return [_told(change, outcomes[change]) for change in changes]


def _told(change: Change, outcome: Outcome | Exception) -> Outcome | Exception:
    return "abandoned" if change.abandoned and not isinstance(outcome, Exception) else outcome
