"""Read the settings, or say in one line what is wrong with them; show them without their secrets."""

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from worker.errors import FatalError
from worker.settings import CONFIG_FILE_VARIABLE, ENV_FILE, ENV_PREFIX, Settings
from worker.settings.rules import check_settings
from worker.settings.secret_files import file_variables
from worker.settings.sources import listed, read_dotenv, read_yaml

# Read by the test suite, not by the worker.
_OTHER_VARIABLES = re.compile(rf"{CONFIG_FILE_VARIABLE}|{ENV_PREFIX}TESTS_\w+")

# Kubernetes puts these into every pod beside a Service named rerank-worker (or rerank-worker-something).
_SERVICE_LINKS = re.compile(
    rf"{ENV_PREFIX}(?!.*__)(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)"
)

SECRET_OPTION = re.compile(r"password|passphrase|secret|token|\.pem$|jaas|oauthbearer\.config", re.IGNORECASE)
_HIDDEN = "**********"
_MAY_HOLD_PASSWORDS = (
    ("answer", "base_url"),
    ("rerank", "remote_url"),
    ("kafka", "sasl_oauthbearer_token_endpoint_url"),
)


def load_settings() -> Settings:
    """Read all sources. FatalError: every unknown name, secret not had, wrong value or impossible combination."""
    problems = [*_unknown_yaml(os.environ.get(CONFIG_FILE_VARIABLE)), *_unknown_variables()]
    if problems:
        raise FatalError(listed("unknown settings", problems))
    try:
        settings = Settings()
    except ValidationError as error:
        raise FatalError(listed("wrong settings", list(_describe(error)))) from error
    except SettingsError as error:
        raise FatalError(f"wrong settings: {error}: a whole section must be a JSON object") from error
    check_settings(settings)
    return settings


def redacted(settings: Settings, *, changed: bool = False) -> dict[str, Any]:
    """Return the settings in force as JSON can hold them, secrets hidden; ``changed``: what is no default alone."""
    # A default that is made at start is known only by nobody having set it.
    shown = settings.model_dump(mode="json", exclude_defaults=changed, exclude_unset=changed)
    options = shown.get("kafka", {}).get("client_options", {})
    options.update({name: _HIDDEN for name in options if SECRET_OPTION.search(name)})
    for section, name in _MAY_HOLD_PASSWORDS:
        url = shown.get(section, {}).get(name)
        if url is not None:
            shown[section][name] = _without_password(url)
    return shown


def environment_names(model: type[BaseModel] = Settings, prefix: str = ENV_PREFIX) -> Iterator[str]:
    """Yield the environment variable of every setting; a section's own comes before its members'."""
    for name, field in model.model_fields.items():
        variable = f"{prefix}{name}".upper()
        yield variable
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from environment_names(field.annotation, f"{variable}__")


def _unknown_variables() -> Iterator[str]:
    """Name variables with our prefix that set nothing: a typo would otherwise be a default in production."""
    known = [*environment_names(), *file_variables(Settings)]
    # A mapping's entries are variables too: KAFKA__CLIENT_OPTIONS__LINGER.MS.
    mappings = tuple(f"{name}__" for name in known if name.endswith(("__CLIENT_OPTIONS", "__HEADERS")))
    for place, names in (("the environment", os.environ), (ENV_FILE, read_dotenv(Path(ENV_FILE)))):
        for name in names:
            upper = name.upper()
            if not upper.startswith(ENV_PREFIX) or upper in known or upper.startswith(mappings):
                continue
            if upper == CONFIG_FILE_VARIABLE and place == ENV_FILE:
                yield f"{CONFIG_FILE_VARIABLE} is read from the environment only, not from {ENV_FILE}"
            elif not _OTHER_VARIABLES.fullmatch(upper) and not _SERVICE_LINKS.fullmatch(upper):
                yield f"{name} in {place} is no setting{_did_you_mean(upper, known)}"


def _unknown_yaml(config_file: str | None) -> Iterator[str]:
    """Name the sections of a settings file that set nothing; their members are checked later."""
    for key in read_yaml(Path(config_file), CONFIG_FILE_VARIABLE) if config_file else ():
        if key not in Settings.model_fields:
            yield f"{key} in {config_file} is no setting{_did_you_mean(key, Settings.model_fields)}"


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else "; see docs/reference/settings.md"


_OF_A_UNION = frozenset({"str", "int", "float", "bool"})


def _describe(error: ValidationError) -> Iterator[str]:
    """Name each wrong setting as YAML and as variable, never its value: it may be a secret."""
    told: dict[str, None] = {}
    for problem in error.errors(include_url=False, include_context=False):
        path = [str(step) for step in problem["loc"]]
        message = problem["msg"]
        # An option may be of several types: one line for it, not one for each type it is not.
        if len(path) > 1 and path[-1] in _OF_A_UNION and "client_options" in path:
            path.pop()
            message = "give text, a number, true or false"
        if problem["input"] is None:
            message = "has no value: set one, or leave it out"
        variable = f"{ENV_PREFIX}{'__'.join(path)}".upper()
        if problem["type"] == "extra_forbidden":
            known = [name.removeprefix(ENV_PREFIX).lower().replace("__", ".") for name in environment_names()]
            told[f"{'.'.join(path)} is no setting{_did_you_mean('.'.join(path), known)}"] = None
        else:
            told[f"{'.'.join(path)} ({variable}): {message}"] = None
    yield from told


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{_HIDDEN}@{parts.netloc.rpartition('@')[2]}")) if parts.password else url
