"""Every benchmark can at least be imported: the worker moves on, and they are run once a month."""

from importlib import import_module
from pathlib import Path

import pytest

import benchmarks

FOLDER = Path(benchmarks.__file__).parent
# What `make setup` leaves out: needed to train the offline model alone.
OPTIONAL = {"bm25s"}


@pytest.mark.parametrize("path", [str(path.relative_to(FOLDER)) for path in sorted(FOLDER.rglob("*.py"))])
def test_a_benchmark_can_be_imported(path: str) -> None:
    module = ".".join(("benchmarks", *Path(path).with_suffix("").parts))
    try:
        import_module(module.removesuffix(".__init__"))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"needs {error.name}")
