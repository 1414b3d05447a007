"""Secrets from files: a secret's variable with `_FILE` at its end names the file that holds it.

As images of databases have it, for what Docker and Kubernetes mount. What is set both ways is refused: nobody could say
which of the two is meant.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr
from pydantic_settings import BaseSettings, EnvSettingsSource

from worker.errors import FatalError
from worker.settings.fields import with_home
from worker.settings.sources import UTF8_HINT, listed, read_dotenv

SUFFIX = "_FILE"

# No secret is as large; whoever names a device or a model by mistake must not have it read into memory.
MAX_BYTES = 1_048_576


def file_variables(settings: type[BaseSettings]) -> Iterator[str]:
    """Yield the variables that may name a file: those of every secret, and of every mapping of secrets."""
    for variable in _secrets(settings, settings.model_config["env_prefix"]):
        yield f"{variable}{SUFFIX}"


class SecretFilesSource(EnvSettingsSource):
    """What stands in those files, as if the environment had it. Reads them when it is made: FatalError, a line each."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        files = (read_dotenv(Path(str(self.config["env_file"]))), os.environ)
        variables = {name.upper(): text for source in files for name, text in source.items() if text}
        secrets: dict[str, str | None] = {}
        problems: list[str] = []
        for named_by in file_variables(self.settings_cls):
            variable = named_by.removesuffix(SUFFIX)
            if named_by not in variables:
                continue
            if variable in variables:
                problems.append(f"{variable} and {named_by} are both set: leave one of them out")
                continue
            try:
                secrets[variable.lower()] = _read(with_home(Path(variables[named_by])))
            except ValueError as error:
                # Not which: whoever mistook it for the secret itself must not find that in a log.
                problems.append(f"{named_by}: the file it names {error}")
        if problems:
            raise FatalError(listed("secrets that can't be had", problems))
        return secrets


def without_files(source: EnvSettingsSource) -> EnvSettingsSource:
    """Have a source pass over the variables that name files, which are no settings themselves; return it."""
    named = {variable.lower() for variable in file_variables(source.settings_cls)}
    source.env_vars = {name: text for name, text in source.env_vars.items() if name not in named}
    return source


def _secrets(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        variable = f"{prefix}{name}".upper()
        if _holds_secrets(field.annotation):
            yield variable
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _secrets(field.annotation, f"{variable}__")


def _holds_secrets(annotation: Any) -> bool:
    return annotation is SecretStr or any(map(_holds_secrets, get_args(annotation)))


def _read(path: Path) -> str:
    """Return what a file holds, without the line break that editors and `echo` leave. ValueError: what is wrong."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        secret = content.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(UTF8_HINT) from None
    except OSError as error:
        raise ValueError(f"can't be read: {error.strerror}") from error
    if not secret:
        raise ValueError("is empty")
    if len(content) > MAX_BYTES:
        raise ValueError(f"has more than {MAX_BYTES:,} bytes: that is no secret")
    return secret
