"""A producer in another team imports the contract alone."""

import subprocess
import sys

from tests.patience import HANG_S

HEAVY = ("confluent_kafka", "torch", "chromadb", "transformers", "openai", "structlog", "worker")


def test_the_contract_imports_nothing_of_the_worker_or_its_libraries() -> None:
    script = f"import sys, schemas; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=HANG_S)
    assert done.stdout.strip() == "[]"
