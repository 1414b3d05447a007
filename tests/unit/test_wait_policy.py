"""How OpenMP's threads wait is said before torch loads them, and whoever has said it already is left alone."""

import os
import subprocess
import sys

import pytest

from tests.patience import HANG_S

VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
LOOK = f"""
import os, sys
import {{package}}
print("torch" in sys.modules, *(os.environ.get(name) for name in {VARIABLES}))
"""


def after_importing(package: str, **policy: str) -> str:
    """Return whether torch was imported, and both variables, in a process that has the policy of its own."""
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    looked = subprocess.run(
        [sys.executable, "-c", LOOK.format(package=package)],
        env=kept | policy,
        capture_output=True,
        text=True,
        check=True,
        timeout=HANG_S,
    )
    return looked.stdout.strip()


@pytest.mark.parametrize("package", ["worker", "benchmarks"])
def test_the_spinning_is_bounded_before_torch_is_imported(package: str) -> None:
    assert after_importing(package) == "False 10000 None"


@pytest.mark.parametrize(
    ("policy", "left"),
    [
        ({"GOMP_SPINCOUNT": "77"}, "False 77 None"),
        ({"OMP_WAIT_POLICY": "active"}, "False None active"),
        ({"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}, "False 0 passive"),
    ],
)
def test_a_policy_of_the_users_own_is_left_alone(policy: dict[str, str], left: str) -> None:
    assert after_importing("worker", **policy) == left
