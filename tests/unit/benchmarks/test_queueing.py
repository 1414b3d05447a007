"""The ideal against what is known of the M/D/1 queue, and how a worker is held against it."""

import math
from itertools import pairwise
from statistics import mean, pstdev

import pytest

from benchmarks.common import percentile
from benchmarks.queueing import Round, against_ideal, arrivals, ideal_latencies

SERVICE_S = 0.25


def waits_at(load: float) -> list[float]:
    """How long each of some 200,000 Poisson arrivals waits for its turn, in service times."""
    due_s = arrivals(load / SERVICE_S, 200_000 * SERVICE_S / load, seed=1)
    return [latency_s / SERVICE_S - 1 for latency_s in ideal_latencies(due_s, SERVICE_S)]


def share_waiting_at_most(services: float, load: float) -> float:
    """The distribution of waiting in M/D/1 (Erlang, 1909), for a time in service times."""
    return (1 - load) * sum(
        (load * (k - services)) ** k / math.factorial(k) * math.exp(load * (services - k))
        for k in range(int(services) + 1)
    )


def test_arrivals_are_the_same_for_the_same_seed_and_in_order() -> None:
    schedule = arrivals(50, 10, seed=3)
    assert schedule == arrivals(50, 10, seed=3) != arrivals(50, 10, seed=4)
    assert schedule == sorted(schedule)
    assert 0 < schedule[0] <= schedule[-1] < 10


def test_arrivals_come_at_the_rate_with_gaps_as_uneven_as_a_poisson_process_has() -> None:
    schedule = arrivals(100, 100, seed=1)
    gaps = [later - earlier for earlier, later in pairwise(schedule)]
    assert len(schedule) == pytest.approx(10_000, rel=0.05)
    assert pstdev(gaps) == pytest.approx(mean(gaps), rel=0.05)


def test_an_ideal_server_lets_wait_only_who_comes_before_it_is_free() -> None:
    assert ideal_latencies([0.0, 1.0, 1.5, 9.0], service_s=2.0) == [2.0, 3.0, 4.5, 2.0]


def test_what_a_query_alone_takes_beyond_its_share_of_the_capacity_holds_up_nobody() -> None:
    assert ideal_latencies([0.0, 1.0, 9.0], service_s=2.0, alone_s=3.0) == [3.0, 4.0, 3.0]


def test_a_query_takes_no_less_than_its_share_of_the_capacity() -> None:
    assert ideal_latencies([0.0, 1.0], service_s=2.0, alone_s=0.5) == [2.0, 3.0]


@pytest.mark.parametrize("load", [0.3, 0.5, 0.7, 0.9])
def test_poisson_arrivals_wait_as_long_in_the_mean_as_pollaczek_and_khinchine_say(load: float) -> None:
    assert mean(waits_at(load)) == pytest.approx(load / (2 * (1 - load)), rel=0.05)


@pytest.mark.parametrize("load", [0.3, 0.7])
@pytest.mark.parametrize("services", [0.0, 0.5, 1.5, 3.0])
def test_so_many_poisson_arrivals_wait_so_long_as_erlang_says(load: float, services: float) -> None:
    waits = waits_at(load)
    # A wait of nothing comes out of floating point as a little more.
    share = sum(wait <= services + 1e-6 for wait in waits) / len(waits)
    assert share == pytest.approx(share_waiting_at_most(services, load), abs=0.005)


def test_p99_at_70_percent_load_is_the_one_of_m_d_1() -> None:
    p99 = percentile(waits_at(0.7), 0.99)
    assert share_waiting_at_most(p99, 0.7) == pytest.approx(0.99, abs=0.001)


def test_a_worker_that_is_the_ideal_takes_once_its_time_in_every_round() -> None:
    rounds = []
    for seed, capacity in ((1, 4.0), (2, 5.0)):
        due_s = arrivals(0.7 * capacity, 100, seed)
        latency_s = ideal_latencies(due_s, 1 / capacity, alone_s=0.4)
        rounds.append(Round(due_s, latency_s[::-1], [0.001], 0.7 * capacity, capacity))
    found = against_ideal(rounds, alone_s=0.4)
    assert found["queries"] == sum(len(one.due_s) for one in rounds)
    assert found["share_of_capacity"]["median"] == pytest.approx(0.7)
    assert found["latency_ms"] == found["ideal_ms"]
    assert found["times_ideal"] == {"p50": 1.0, "p95": 1.0, "p99": 1.0}
    assert found["p99_times_ideal"] == {"median": 1.0, "min": 1.0, "max": 1.0, "n": 2}


def test_each_round_is_held_against_what_the_worker_could_do_meanwhile() -> None:
    # Three at once, at a worker that needs a second for each and then two: nothing but waiting, on a slower machine.
    quick = Round([0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [0.0, 0.001], 0.7, 1.0)
    slow = Round([0.0, 0.0, 0.0], [2.0, 4.0, 9.0], [0.0, 0.002], 0.4, 0.5)
    found = against_ideal([quick, slow], alone_s=0.0)
    assert found["ideal_ms"]["p99"] == 6000.0
    assert found["times_ideal"]["p99"] == 1.5
    assert found["p99_times_ideal"] == {"median": 1.25, "min": 1.0, "max": 1.5, "n": 2}
    assert found["share_of_capacity"] == {"median": 0.75, "min": 0.7, "max": 0.8, "n": 2}
    assert found["sent_late_ms_p99"] == 2.0
