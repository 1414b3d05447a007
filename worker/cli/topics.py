"""`rerank-worker topics`: what is on the broker. Short, since it is a command."""

from typing import Annotated

import typer
from rich.table import Table

from worker.cli.terminal import out


def topics(create: Annotated[bool, typer.Option(help="Create those that are missing.")] = False) -> None:
    """Show the worker's topics, and create them if asked."""
    from worker.kafka.admin.topics import describe, ensure
    from worker.settings.load import load_settings

    kafka = load_settings().kafka
    table = Table("topic", "partitions", "replicas")
    for topic in ensure(kafka, create=True) if create else describe(kafka):
        table.add_row(topic.name, str(topic.partitions or "missing"), str(topic.replicas or "-"))
    out.print(table)
