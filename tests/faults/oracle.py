"""The sequence oracle: told what was asked, what came of it and what was committed, it says what must not have been.

Pure: whoever reads the topics tells it. Offsets are those of the query topic.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field

Position = tuple[int, int]
"""Partition and offset of a query."""

NOWHERE: Position = (-1, -1)


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

    _queries: dict[int, dict[int, tuple[str | None, Hashable]]] = field(default_factory=lambda: defaultdict(dict))
    _positions: dict[str, Position] = field(default_factory=dict)
    _pending: set[Position] = field(default_factory=set)
    _answers: "Counter[str]" = field(default_factory=Counter)
    _dead_letters: "Counter[Position]" = field(default_factory=Counter)
    _kinds: "Counter[str]" = field(default_factory=Counter)
    _first_answers: list[str] = field(default_factory=list)
    _checked: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    _committed_early: list[Position] = field(default_factory=list)

    def asked(self, partition: int, offset: int, query_id: str | None, key: Hashable) -> None:
        """A query stands in the topic; ``query_id`` is None if it is poison."""
        self._queries[partition][offset] = (query_id, key)
        if query_id is not None:
            self._positions[query_id] = (partition, offset)
        self._pending.add((partition, offset))
        if self._outcomes(partition, offset):
            self._pending.discard((partition, offset))

    def answered(self, query_id: str, kind: str) -> None:
        """An answer can be read. Answers of one key must be told in their order."""
        if query_id not in self._answers:
            self._first_answers.append(query_id)
            self._pending.discard(self._positions.get(query_id, NOWHERE))
        self._answers[query_id] += 1
        self._kinds[kind] += 1

    def dead_lettered(self, partition: int, offset: int, kind: str) -> None:
        """A dead letter can be read."""
        self._pending.discard((partition, offset))
        self._dead_letters[partition, offset] += 1
        self._kinds[kind] += 1

    def committed(self, partition: int, offset: int) -> None:
        """This offset was committed *before* the topics were read as far as the oracle has been told."""
        for at in range(self._checked[partition], offset):
            # Gaps are allowed: compaction and transaction markers leave them.
            if at in self._queries[partition] and not self._outcomes(partition, at):
                self._committed_early.append((partition, at))
        self._checked[partition] = max(self._checked[partition], offset)

    @property
    def seen(self) -> int:
        """Queries told of so far."""
        return sum(map(len, self._queries.values()))

    @property
    def pending(self) -> int:
        """Queries without an outcome so far."""
        return len(self._pending)

    def verdict(self) -> Verdict:
        """Judge what was told so far."""
        repeats = [
            self._outcomes(partition, offset) - 1
            for partition, queries in self._queries.items()
            for offset in queries
            if self._outcomes(partition, offset)
        ]
        positions = self._all_positions()
        return Verdict(
            asked=len(positions),
            outcomes=self._kinds,
            repeats=sum(repeats),
            most_repeats=max(repeats, default=0),
            lost=sorted(self._pending),
            committed_early=self._committed_early,
            mistaken=[at for at in positions if self._dead_letters[at] and self._query(at)[0] is not None],
            disordered=self._disordered(),
            unknown=[
                *(query_id for query_id in self._answers if query_id not in self._positions),
                *(f"{p}@{o}" for p, o in self._dead_letters if o not in self._queries[p]),
            ],
        )

    def _query(self, at: Position) -> tuple[str | None, Hashable]:
        return self._queries[at[0]][at[1]]

    def _all_positions(self) -> list[Position]:
        return [(partition, offset) for partition, queries in self._queries.items() for offset in queries]

    def _outcomes(self, partition: int, offset: int) -> int:
        query_id, _ = self._queries[partition][offset]
        answers = 0 if query_id is None else self._answers[query_id]
        return answers + self._dead_letters[partition, offset]

    def _disordered(self) -> list[Position]:
        latest: dict[tuple[int, Hashable], int] = {}
        found = []
        for query_id in self._first_answers:
            if query_id not in self._positions:
                continue
            partition, offset = self._positions[query_id]
            of_key = (partition, self._query((partition, offset))[1])
            if offset < latest.get(of_key, -1):
                found.append((partition, offset))
            latest[of_key] = max(offset, latest.get(of_key, -1))
        return found
