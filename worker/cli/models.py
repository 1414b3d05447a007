"""`rerank-worker models`: which models are used, and where they come from. Short, since it is a command."""

from typing import Annotated, Literal

import typer
from rich.text import Text

from worker.cli.terminal import out
from worker.errors import WorkerError


def models(
    path: Annotated[
        Literal["embedding", "cross-encoder", "llm"] | None, typer.Option(help="Print the folder of this one alone.")
    ] = None,
) -> None:
    """Show each model and where it comes from; fetches or builds what is not there yet."""
    from worker.models.resolve import ROLES, resolve
    from worker.settings.load import load_settings

    settings = load_settings()
    if path is not None:
        print(resolve(path, settings).path)  # noqa: T201 - a path for a shell, never wrapped
        return
    for role in ROLES:
        if role == "cross-encoder" and settings.rerank.remote_url is not None:
            # Another server has it: nothing is loaded here, and its name need not be one that a hub knows.
            out.print(Text.assemble(f"{role:<15}", (settings.rerank.model, "bold"), "  (remote)"))
            continue
        try:
            model = resolve(role, settings)
        except WorkerError as error:
            told, place = Text("missing", "red"), str(error)
        else:
            told = Text.assemble((model.name, "bold"), f"  ({model.source})")
            place = str(model.path) if model.package is None else f"package {model.package}: {model.path}"
        out.print(Text.assemble(f"{role:<15}", told))
        out.print(Text(f"{'':<15}{place}", "dim"), soft_wrap=True)
