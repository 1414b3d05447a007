"""What the figures are reckoned from."""

from types import SimpleNamespace

import pytest

from benchmarks import gemm
from benchmarks.agreement import agreement
from benchmarks.flops import pair_flops, total_flops
from benchmarks.measure import measure
from benchmarks.peers.base import Padding, Scores
from benchmarks.summary import spread, summarise
from benchmarks.workload import Asked, Mix
from worker.batching.executor import SingleThreadExecutor
from worker.domain import Candidate, Query

MINILM = SimpleNamespace(hidden_size=384, intermediate_size=1536, num_hidden_layers=6)
TINY = SimpleNamespace(hidden_size=8, intermediate_size=16, num_hidden_layers=1)


class Fixed:
    """A contender whose scores are the lengths of the texts."""

    precision = "float32"

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[list[str]] = []

    def score(self, queries: list[Asked]) -> Scores:
        self.asked.append([asked.query.id for asked in queries])
        return [[float(len(text)) for text in asked.texts] for asked in queries]

    def padding(self) -> Padding | None:
        return Padding(75, 100) if self.name == "ours" else None

    def close(self) -> None:
        pass


def mix(number: int) -> Mix:
    texts = ["a", "bb", "ccc", "dddd"]
    candidates = [Candidate(text, text, rank, 0.0) for rank, text in enumerate(texts, 1)]
    queries = [Asked(Query(f"{number}-{each}", "q", "c", 4, 3), candidates) for each in range(3)]
    return Mix("short", queries, [5, 6, 7, 8] * 3)


def test_the_operations_of_a_pair_are_those_of_the_published_formula() -> None:
    n = 128
    assert pair_flops(MINILM, n) == 6 * (2 * n * (4 * 384**2 + 2 * 384 * 1536) + 4 * n**2 * 384)
    assert total_flops(MINILM, [n, n]) == 2 * pair_flops(MINILM, n)


def test_the_same_scores_agree_entirely() -> None:
    found = agreement([[3.0, 1.0, 2.0, 0.0]], [[3.0, 1.0, 2.0, 0.0]])
    assert found == {"max_difference": 0.0, "pairs_ordered_alike": 1.0, "same_top_3": 1.0}


def test_a_turned_order_agrees_in_nothing() -> None:
    assert agreement([[1.0, 2.0, 3.0]], [[3.0, 2.0, 1.0]])["pairs_ordered_alike"] == 0.0


def test_one_pair_in_three_turned_round_is_told() -> None:
    assert agreement([[1.0, 2.0, 3.0]], [[1.0, 3.0, 2.0]])["pairs_ordered_alike"] == pytest.approx(2 / 3)


def test_a_spread_keeps_four_digits_and_nothing_has_none() -> None:
    assert spread([1.23456, 3.0, 2.0]) == {"median": 2.0, "min": 1.235, "max": 3.0}
    assert spread([]) is None


def test_every_contender_scores_the_same_pairs_and_the_last_query_is_asked_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gemm, "TOKENS", {"cpu": 16})
    plain, ours = Fixed("plain"), Fixed("ours")
    rounds = [[mix(0)], [mix(1)]]
    measured = measure([plain, ours], rounds, TINY, "cpu", SingleThreadExecutor("compute"))
    together_then_alone = [["0-0", "0-1"], ["0-2"], ["1-0", "1-1"], ["1-2"]]
    assert plain.asked == ours.asked == [["0-0"], *together_then_alone]
    found = SimpleNamespace(contenders=[plain, ours], skipped={"other": "not here"})
    summary = summarise(found, rounds, TINY, measured)
    assert summary["mixes"]["short"]["pairs_at_once"] == 8
    rows = summary["mixes"]["short"]["contenders"]
    assert rows["plain"]["ratio"] == {"median": 1.0, "min": 1.0, "max": 1.0}
    assert rows["plain"]["padding_share"] is None
    assert rows["ours"]["padding_share"]["median"] == 0.25
    assert rows["ours"]["agreement"]["max_difference"] == 0.0
    assert rows["ours"]["share_of_limit"]["median"] > 0
