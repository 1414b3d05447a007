"""What the sections share: types of common fields, how a section behaves, and if a file can be read."""

import os
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic_settings import NoDecode


def with_home(path: Path) -> Path:
    """Return the path with a `~` at its beginning replaced; as it is where there is no home."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path's own fails where there is no home


def _separated(names: object) -> object:
    return [name.strip() for name in names.split(",") if name.strip()] if isinstance(names, str) else names


def columns_of(template: str) -> Iterator[str]:
    """Yield the columns a template names. ValueError: it wants more than their values, or braces do not match."""
    for _, name, spec, conversion in string.Formatter().parse(template):
        if name is None:
            continue
        if not name or spec or conversion or any(mark in name for mark in ".[]"):
            raise ValueError(f"{{{name}}}: put the name of a column between the braces and nothing else")
        yield name


def _checked(template: str) -> str:
    # An environment has no line breaks of its own.
    template = template.replace("\\n", "\n")
    if not list(columns_of(template)):
        raise ValueError("names no column: put them between braces, e.g. {title}")
    return template


Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
UserPath = Annotated[Path, AfterValidator(with_home), PlainSerializer(with_home)]
"""A path that may begin with `~`. A default is not validated: its reader expands it, as what shows it does."""
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_separated)]
"""In the environment separated by commas."""
Template = Annotated[str, AfterValidator(_checked)]
"""Text with the names of columns between braces, which stand for their values: what ``str.format_map`` makes of it."""


class Section(BaseModel):
    """One section of the settings: unknown names are refused; what stands under a field is its description."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def why_unreadable(path: Path, *, folder: bool = False) -> str | None:
    """Return why this process can't read a file, as the system says it; None if it can. ``folder``: one is as good."""
    try:
        if folder and path.is_dir():
            next(path.iterdir(), None)
        else:
            path.open("rb").close()
    except OSError as error:
        return error.strerror or repr(error)
    return None
