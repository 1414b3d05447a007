"""What every contender is, and why one may be missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.workload import Asked
from worker.batching.executor import SingleThreadExecutor

Scores = list[list[float]]


class UnavailableError(RuntimeError):
    """A contender that can't run here; the text says why, and what to install."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What all contenders share."""

    folder: Path
    """The model's, as transformers saves it."""
    name: str
    device: str
    threads: int
    max_length: int
    executor: SingleThreadExecutor
    """Where all that compute in this process load and run, one after the other: see ``compute_executor``."""
    cache: Path
    """Where what is built for a contender may be kept, outside the repository."""


@dataclass(frozen=True, slots=True)
class Padding:
    """Tokens of the batches that ran, without and with the padding."""

    tokens: int
    padded: int


class Contender(Protocol):
    """Scores queries with one model. Built once, warm before it is timed."""

    name: str
    precision: str
    """Of its matrix products: the limit it is compared with."""

    def score(self, queries: Sequence[Asked]) -> Scores:
        """Score all candidates of queries that are there at once; per query in the candidates' order. Blocking.

        Raw logits, or for a contender that gives probabilities alone, the logits they stand for.
        """
        ...

    def padding(self) -> Padding | None:
        """Return what was padded since the last call; None where the contender does not tell."""
        ...

    def close(self) -> None: ...
