"""Read the settings, or say in one line what is wrong with them; show them without their secrets."""

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import yaml
from dotenv import dotenv_values
from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from worker.errors import FatalError
from worker.settings import CONFIG_FILE_VARIABLE, ENV_FILE, ENV_PREFIX, Settings
from worker.settings.rules import check_settings, listed

# Read by the test suite, not by the worker.
_OTHER_VARIABLES = re.compile(rf"{CONFIG_FILE_VARIABLE}|{ENV_PREFIX}TESTS_\w+")

# Kubernetes puts these into every pod beside a Service named rerank-worker (or rerank-worker-something).
_SERVICE_LINKS = re.compile(
    rf"{ENV_PREFIX}(?!.*__)(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)"
)

_SECRET_OPTION = re.compile(r"password|secret|token|\.pem$|jaas|oauthbearer\.config", re.IGNORECASE)
_HIDDEN = "**********"


def load_settings() -> Settings:
    """Read environment, ``.env`` and YAML. FatalError: every unknown name, wrong value or impossible combination."""
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


def redacted(settings: Settings) -> dict[str, Any]:
    """Return the settings in force as JSON can hold them, secrets hidden."""
    shown = settings.model_dump(mode="json")
    options = shown["kafka"]["client_options"]
    shown["kafka"]["client_options"] = {
        name: _HIDDEN if _SECRET_OPTION.search(name) else value for name, value in options.items()
    }
    for section, name in (("answer", "base_url"), ("rerank", "remote_url")):
        if shown[section][name] is not None:
            shown[section][name] = _without_password(shown[section][name])
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
    known = list(environment_names())
    # A mapping's entries are variables too: KAFKA__CLIENT_OPTIONS__LINGER.MS.
    mappings = tuple(f"{name}__" for name in known if name.endswith(("__CLIENT_OPTIONS", "__HEADERS")))
    for place, names in (("the environment", os.environ), (ENV_FILE, _dotenv())):
        for name in names:
            upper = name.upper()
            if not upper.startswith(ENV_PREFIX) or upper in known or upper.startswith(mappings):
                continue
            if upper == CONFIG_FILE_VARIABLE and place == ENV_FILE:
                yield f"{CONFIG_FILE_VARIABLE} is read from the environment only, not from {ENV_FILE}"
            elif not _OTHER_VARIABLES.fullmatch(upper) and not _SERVICE_LINKS.fullmatch(upper):
                yield f"{name} in {place} is no setting{_did_you_mean(upper, known)}"


def _dotenv() -> Mapping[str, str | None]:
    return dotenv_values(ENV_FILE) if Path(ENV_FILE).is_file() else {}


def _unknown_yaml(config_file: str | None) -> Iterator[str]:
    """Name what makes a settings file unreadable, and sections that set nothing; their members are checked later."""
    if not config_file:
        return
    path = Path(config_file).expanduser()
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FatalError(f"{CONFIG_FILE_VARIABLE}: {path} can't be read: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise FatalError(f"{CONFIG_FILE_VARIABLE}: {path} is not YAML: line {line}: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FatalError(f"{CONFIG_FILE_VARIABLE}: {path} is not YAML text") from error
    if document is None:
        return
    if not isinstance(document, dict):
        raise FatalError(f"{CONFIG_FILE_VARIABLE}: {path} must hold a mapping of sections, e.g. `kafka:`")
    for key in document:
        if key not in Settings.model_fields:
            yield f"{key} in {path} is no setting{_did_you_mean(str(key), Settings.model_fields)}"


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else "; see docs/reference/settings.md"


def _describe(error: ValidationError) -> Iterator[str]:
    """Name each wrong setting as YAML and as variable, never its value: it may be a secret."""
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        path = [str(step) for step in problem["loc"]]
        variable = f"{ENV_PREFIX}{'__'.join(path)}".upper()
        if problem["type"] == "extra_forbidden":
            known = [name.removeprefix(ENV_PREFIX).lower().replace("__", ".") for name in environment_names()]
            yield f"{'.'.join(path)} is no setting{_did_you_mean('.'.join(path), known)}"
        else:
            yield f"{'.'.join(path)} ({variable}): {problem['msg']}"


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{_HIDDEN}@{parts.netloc.rpartition('@')[2]}")) if parts.password else url
