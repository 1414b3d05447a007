"""What the sections share: the types of common fields and how a section behaves. Short: nothing else is shared."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer


def _with_home(path: Path) -> Path:
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path's own fails where there is no home


Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
UserPath = Annotated[Path, AfterValidator(_with_home), PlainSerializer(_with_home)]
"""A path that may begin with `~`. A default is not validated: its reader expands it, as what shows it does."""


class Section(BaseModel):
    """One section of the settings: unknown names are refused; what stands under a field is its description."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
