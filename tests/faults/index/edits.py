"""Random edits of random documents: inserted, grown, shrunk, deleted, inserted again; and poison of every kind."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from tests.faults.index.fake_embedder import WORDS_A_CHUNK
from tests.faults.traffic import Event

WORDS = ("broker", "offset", "partition", "replica", "leader", "segment", "snapshot", "column", "trigger", "vector")
# In some 20 chunks.
MOST_WORDS = 20 * WORDS_A_CHUNK
LONG_SHARE = 0.2
POISON_SHARE = 0.05
MAX_EVENT_BYTES = 65_536
FOREIGN = tuple(f"foreign-{number}" for number in range(5))
"""Ids that are another source's."""
REASON = "expected-reason"
"""The header of an event that is to be dead-lettered: why."""
UNAVAILABLE = b'{"fields": {"body": "__debezium_unavailable_value"}}'


@dataclass
class Editor:
    """Call it with numbers that rise. Keeps what it edits; what is to come of it, the topic alone says."""

    seed: int
    documents: int
    """How many there ever are; each is begun as early as others are edited."""
    _texts: dict[str, list[str]] = field(default_factory=dict)
    """Words of what is there."""
    _former: dict[str, list[str]] = field(default_factory=dict)
    """Words of what was deleted."""
    _begun: int = 0

    def __post_init__(self) -> None:
        self._random = Random(self.seed)

    def __call__(self, number: int) -> Event:  # noqa: PLR0911 - a line each
        """Return the next event."""
        draw = self._random.random()
        if draw < POISON_SHARE:
            return self._poison()
        key = self._some_key()
        words = self._texts.get(key)
        new = [key, f"edit-{number}", *self._words()]
        if words is None:
            # Some come back as they were.
            return self._put(key, self._former.pop(key, new) if draw < 0.5 else new)
        if draw < 0.25:
            self._former[key] = self._texts.pop(key)
            return Event(key.encode(), None if draw < 0.15 else b'{"op": "delete"}')
        if draw < 0.35:
            # Nothing is to be written.
            return self._put(key, words)
        if draw < 0.5:
            # Its beginning stays: chunks behind it come and go.
            return self._put(key, words[: self._random.randint(1, len(words))])
        if draw < 0.65 and len(words) < MOST_WORDS // 2:
            return self._put(key, [*words, *self._words()])
        return self._put(key, new)

    def _some_key(self) -> str:
        if self._begun < self.documents and (self._begun == 0 or self._random.random() < 0.4):
            self._begun += 1
            return f"doc-{self._begun - 1}"
        # A few are edited all the time.
        return f"doc-{int(self._begun * self._random.random() ** 2)}"

    def _put(self, key: str, words: list[str]) -> Event:
        self._texts[key] = words
        # Each chunk has the metadata: where they stay the same, so do the chunks whose text does.
        value = {"text": " ".join(words), "metadata": {"begun": words[1] if len(words) > 1 else ""}}
        return Event(key.encode(), json.dumps(value).encode())

    def _words(self) -> list[str]:
        many = self._random.random() < LONG_SHARE
        count = self._random.randint(1, MOST_WORDS if many else WORDS_A_CHUNK // 2)
        # No two chunks are alike by chance.
        return [f"{word}{self._random.randrange(1_000_000)}" for word in self._random.choices(WORDS, k=count)]

    def _poison(self) -> Event:
        # Of documents that are there, too: they stay as they are.
        key = self._some_key().encode()
        make: Callable[[], tuple[bytes | None, bytes, str]] = self._random.choice(
            [
                lambda: (key, b'{"text": ', "invalid_json"),
                lambda: (key, b'{"text": "\xff"}', "invalid_utf8"),
                lambda: (key, b'{"title": "no text"}', "invalid_schema"),
                lambda: (key, json.dumps({"text": "x" * MAX_EVENT_BYTES}).encode(), "event_too_large"),
                lambda: (key, UNAVAILABLE, "unavailable_value"),
                lambda: (None, b'{"text": "of nothing"}', "invalid_key"),
                lambda: (self._random.choice(FOREIGN).encode(), b'{"text": "taken over"}', "foreign_document"),
            ]
        )
        poisoned, value, reason = make()
        return Event(poisoned, value, ((REASON, reason.encode()),))
