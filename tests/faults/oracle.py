"""The sequence oracle: told what was asked, what came of it and what was committed, it says what must not have been.

Pure: whoever reads the topics tells it. Offsets are those of the query topic, which may be deleted and made again:
what goes with it need not have an outcome.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

Position = tuple[int, int, int]
"""How often the topic had been made again, partition and offset of a query."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the oracle found. The lists name queries by their position, and are empty where all is well."""

    asked: int
    outcomes: "Counter[str]"
    """How often each kind of outcome was seen, repeats included."""
    repeats: int
    """Outcomes beyond the first of their query."""
    most_repeats: int
    """The most repeats of one query."""
    lost: list[Position]
    """Queries without any outcome."""
    committed_early: list[Position]
    """Queries whose offset was committed when their outcome could not be read yet."""
    mistaken: list[Position]
    """Valid queries that were dead-lettered."""
    disordered: list[Position]
    """Queries whose first outcome came after that of a later query of the same key."""
    unknown: list[str]
    """Outcomes of nothing that was asked."""
    deleted: int
    """Queries without an outcome that were deleted with their topic."""

    def wrong(self, *, ordered: bool, repeats_allowed: int) -> list[str]:
        """Return what is wrong, a line each; nothing if all is as promised."""
        found = {
            "lost": self.lost,
            "committed before their outcome": self.committed_early,
            "ended the wrong way": self.mistaken,
            "out of order": self.disordered if ordered else [],
            "outcomes of nothing": self.unknown,
        }
        lines = [f"{len(those)} {what}: {those[:5]} ..." for what, those in found.items() if those]
        if self.repeats > repeats_allowed:
            lines.append(f"{self.repeats} repeats; {repeats_allowed} allowed")
        return lines


@dataclass
class SequenceOracle:
    """Feed it from one thread."""

    _positions: dict[str, Position] = field(default_factory=dict)
    _keys: dict[str, Hashable] = field(default_factory=dict)
    _at: dict[int, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    """What stands in the topic that is there now, by partition and offset."""
    _poison: set[str] = field(default_factory=set)
    _pending: set[str] = field(default_factory=set)
    _answers: "Counter[str]" = field(default_factory=Counter)
    _dead_letters: "Counter[str]" = field(default_factory=Counter)
    _kinds: "Counter[str]" = field(default_factory=Counter)
    _first_answers: list[str] = field(default_factory=list)
    _checked: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    _committed_early: list[Position] = field(default_factory=list)
    _made_again: int = 0
    _former_ends: dict[tuple[int, int], int] = field(default_factory=dict)
    """Where the former topic ended, of each partition: a worker that has not noticed yet goes on there in the new one,
    and reads what stands before it after that."""
    _deleted: set[str] = field(default_factory=set)

    def asked(self, partition: int, offset: int, query_id: str, key: Hashable, *, poison: bool = False) -> None:
        """A query stands in the topic; the dead letter of one that is poison is its right end."""
        self._positions[query_id] = (self._made_again, partition, offset)
        self._keys[query_id] = key
        self._at[partition][offset] = query_id
        if poison:
            self._poison.add(query_id)
        if not self._outcomes(query_id):
            self._pending.add(query_id)

    def topic_made_again(self) -> None:
        """What stood in the topic is gone with it, and its offsets begin anew: all of it had been told."""
        self._made_again += 1
        self._former_ends |= {(self._made_again, partition): max(held) + 1 for partition, held in self._at.items()}
        self._deleted |= self._pending
        self._pending.clear()
        self._at.clear()
        self._checked.clear()

    def answered(self, query_id: str, kind: str) -> None:
        """An answer can be read. Answers of one key must be told in their order."""
        if query_id not in self._answers:
            self._first_answers.append(query_id)
        self._answers[query_id] += 1
        self._ended(query_id, kind)

    def dead_lettered(self, query_id: str, kind: str) -> None:
        """A dead letter can be read."""
        self._dead_letters[query_id] += 1
        self._ended(query_id, kind)

    def _ended(self, query_id: str, kind: str) -> None:
        self._pending.discard(query_id)
        self._deleted.discard(query_id)
        self._kinds[kind] += 1

    def committed(self, partition: int, offset: int) -> bool:
        """This offset was committed *before* the topics were read as far as the oracle has been told.

        Return whether that was too early for any query.
        """
        known = len(self._committed_early)
        for at in range(self._checked[partition], offset):
            # Gaps are allowed: compaction and transaction markers leave them.
            query_id = self._at[partition].get(at)
            if query_id is not None and not self._outcomes(query_id):
                self._committed_early.append(self._positions[query_id])
        self._checked[partition] = max(self._checked[partition], offset)
        return len(self._committed_early) > known

    @property
    def seen(self) -> int:
        """Queries told of so far."""
        return len(self._positions)

    @property
    def pending(self) -> int:
        """Queries without an outcome so far."""
        return len(self._pending)

    def verdict(self) -> Verdict:
        """Judge what was told so far."""
        repeats = [count - 1 for query_id in self._positions if (count := self._outcomes(query_id))]
        mistaken = [query_id for query_id in self._positions if self._dead_letters[query_id]]
        return Verdict(
            asked=len(self._positions),
            outcomes=self._kinds,
            repeats=sum(repeats),
            most_repeats=max(repeats, default=0),
            lost=self._places(self._pending),
            committed_early=self._committed_early,
            mistaken=self._places(query_id for query_id in mistaken if query_id not in self._poison),
            disordered=self._disordered(),
            unknown=[query_id for query_id in (*self._answers, *self._dead_letters) if query_id not in self._positions],
            deleted=len(self._deleted),
        )

    def _places(self, query_ids: Iterable[str]) -> list[Position]:
        return sorted(self._positions[query_id] for query_id in query_ids)

    def _outcomes(self, query_id: str) -> int:
        return self._answers[query_id] + self._dead_letters[query_id]

    def _disordered(self) -> list[Position]:
        latest: dict[tuple[int, int, Hashable], int] = {}
        found = []
        for query_id in self._first_answers:
            if query_id not in self._positions:
                continue
            made_again, partition, offset = self._positions[query_id]
            of_key = (made_again, partition, self._keys[query_id])
            passed_over = offset < self._former_ends.get((made_again, partition), 0)
            if offset < latest.get(of_key, -1) and not passed_over:
                found.append(self._positions[query_id])
            latest[of_key] = max(offset, latest.get(of_key, -1))
        return found
