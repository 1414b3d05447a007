"""`rerank-worker demo`: the demonstration, which is in `worker/demo/`. Short, since it is a command."""

from worker.cli.terminal import out


def demo() -> None:
    """Start the whole stack, ask real questions through Kafka, show what reranking does, clean up."""
    from worker.demo.demo import run_demo
    from worker.settings.load import load_settings

    run_demo(load_settings(), out)
