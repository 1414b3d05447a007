"""How many threads a model computes with. Short: every backend and both kinds of models must agree on it."""

from joblib import cpu_count

from worker.settings import RerankSettings


def cpu_threads(settings: RerankSettings) -> int:
    """Return how many threads compute on the CPU."""
    # Counts what affinity and the container's CPU quota leave: more threads than that take turns and spin.
    return settings.threads or int(cpu_count())
