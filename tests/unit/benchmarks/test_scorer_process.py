"""The policy that a process is given, and no other."""

import os

import pytest

from benchmarks.scorer_process import environment


def policy_in_force() -> tuple[str | None, str | None]:
    return os.environ.get("GOMP_SPINCOUNT"), os.environ.get("OMP_WAIT_POLICY")


def test_a_process_gets_the_policy_alone_and_afterwards_all_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "77")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    with environment({"OMP_WAIT_POLICY": "passive"}):
        assert policy_in_force() == (None, "passive")
    with environment({"GOMP_SPINCOUNT": "100"}):
        assert policy_in_force() == ("100", None)
    with environment({}):
        assert policy_in_force() == (None, None), "the worker sets its own"
    assert policy_in_force() == ("77", None)
