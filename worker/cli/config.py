"""`rerank-worker config`: the settings in force. Short, since it is a command."""

from typing import Annotated

import typer

from worker.cli.terminal import out


def config(
    show: Annotated[bool, typer.Option("--show", help="The effective settings, secrets hidden.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="The settings' JSON Schema.")] = False,
) -> None:
    """Show the settings in force, or everything that can be set."""
    from worker.settings import Settings
    from worker.settings.load import load_settings, redacted

    if show == schema:
        raise typer.BadParameter("give --show or --schema")
    out.print_json(data=redacted(load_settings()) if show else Settings.model_json_schema())
