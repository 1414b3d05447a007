"""`rerank-worker topics`: what is on the broker. Short, since it is a command."""

from typing import Annotated

import typer

from worker.cli.broker import reachable_kafka
from worker.cli.terminal import print_rows


def topics(create: Annotated[bool, typer.Option(help="Create those that are missing.")] = False) -> None:
    """Show the worker's topics, and create them if asked."""
    from worker.kafka.admin.topics import describe, ensure

    kafka = reachable_kafka()
    rows = [
        (topic.name, str(topic.partitions or "missing"), str(topic.replicas or "-"))
        for topic in (ensure(kafka, create=True) if create else describe(kafka))
    ]
    print_rows(("topic", "partitions", "replicas"), rows)
