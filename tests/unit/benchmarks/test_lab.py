"""What of the end to end benchmark needs no server."""

from benchmarks.lab import over_those_around


def test_a_round_is_held_against_the_bare_ones_before_and_after_it() -> None:
    # The machine becomes half as fast, and the worker with it.
    ratio = over_those_around([3.0, 2.0, 1.5], bare=[4.0, 4.0, 2.0, 2.0])
    assert ratio == {"median": 0.75, "min": 0.6667, "max": 0.75, "n": 3}
