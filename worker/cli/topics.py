"""`rerank-worker topics`: what is on the broker. Short, since it is a command."""

from typing import Annotated

import typer

from worker.cli.broker import reachable_kafka
from worker.cli.terminal import print_rows


def topics(
    create: Annotated[bool, typer.Option(help="Create those that are missing.")] = False,
    documents: Annotated[bool, typer.Option("--documents", help="Those of `rerank-worker index` instead.")] = False,
) -> None:
    """Show the worker's topics, and create them if asked."""
    from worker.kafka.admin.topics import describe, ensure, index_topics
    from worker.settings.kafka import for_documents

    kafka, names = reachable_kafka(), None
    if documents:
        kafka = for_documents(kafka)
        names = index_topics(kafka)
    rows = [
        (topic.name, str(topic.partitions or "missing"), str(topic.replicas or "-"))
        for topic in (ensure(kafka, create=True, names=names) if create else describe(kafka, names))
    ]
    print_rows(("topic", "partitions", "replicas"), rows)
