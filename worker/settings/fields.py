"""What the sections share: common types, how a section behaves, if a file can be read. Short: nothing else is."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer


def with_home(path: Path) -> Path:
    """Return the path with a `~` at its beginning replaced; as it is where there is no home."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path's own fails where there is no home


Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
UserPath = Annotated[Path, AfterValidator(with_home), PlainSerializer(with_home)]
"""A path that may begin with `~`. A default is not validated: its reader expands it, as what shows it does."""


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
