"""`rerank-worker config`: the settings in force. Short, since it is a command."""

from typing import Annotated

import typer

from worker.cli.terminal import out


def config(
    show: Annotated[bool, typer.Option("--show", help="The effective settings, secrets hidden.")] = False,
    changed: Annotated[bool, typer.Option("--changed", help="Of these, those that are not the default.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="The settings' JSON Schema.")] = False,
) -> None:
    """Show the settings in force, or everything that can be set."""
    from worker.settings import Settings
    from worker.settings.load import load_settings, redacted

    if sum((show, changed, schema)) != 1:
        raise typer.BadParameter("give one of --show, --changed and --schema")
    shown = Settings.model_json_schema() if schema else redacted(load_settings(), changed=changed)
    out.print_json(data=shown)
