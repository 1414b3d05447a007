"""The files settings are read from, read strictly: what would be lost in silence is refused with its place."""

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from dotenv import dotenv_values
from pydantic_settings import BaseSettings, DotEnvSettingsSource, InitSettingsSource, PydanticBaseSettingsSource

from worker.errors import FatalError

Number = TypeVar("Number", int, float)

UTF8_HINT = "is not UTF-8: convert it, e.g. with `iconv -t utf-8`"


# YAML 1.1, which PyYAML reads, takes 010 for 8 and 1:30 for 90.
_OTHER_BASE = re.compile(r"[-+]?0[0-7_]+|.*:.*")


class _StrictLoader(yaml.SafeLoader):
    """YAML as it is meant: what PyYAML would lose or change in silence is an error, as a key that is twice there."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if isinstance(key, Hashable) and key in lines:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key} is there already, in line {lines[key]}", key_node.start_mark
                )
            if isinstance(key, Hashable):
                lines[key] = line
        return super().construct_mapping(node, deep)

    def construct_int(self, node: yaml.ScalarNode) -> int:
        return self._construct_number(node, self.construct_yaml_int(node))

    def construct_float(self, node: yaml.ScalarNode) -> float:
        return self._construct_number(node, self.construct_yaml_float(node))

    def _construct_number(self, node: yaml.ScalarNode, number: Number) -> Number:
        if _OTHER_BASE.fullmatch(node.value):
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"{node.value} would be read as {number}: write that number, or quote the text",
                node.start_mark,
            )
        return number


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_int)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _StrictLoader.construct_float)


def read_yaml(path: Path, name: str) -> dict[str, Any]:
    """Return the sections of a settings file, empty ones left out; ``name`` is what names it. FatalError: one line."""
    try:
        document = yaml.load(path.expanduser().read_text(encoding="utf-8-sig"), _StrictLoader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise FatalError(f"{name}: {path} can't be read: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise FatalError(f"{name}: {path} is not YAML: line {line}: {error.problem}") from error
    except UnicodeDecodeError as error:
        raise FatalError(f"{name}: {path} {UTF8_HINT}") from error
    except yaml.YAMLError as error:
        raise FatalError(f"{name}: {path} is not YAML text") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise FatalError(f"{name}: {path} must hold a mapping of sections, e.g. `kafka:`")
    # A section whose members are all commented out sets nothing.
    return {str(key): value for key, value in document.items() if value is not None}


def read_dotenv(path: Path) -> Mapping[str, str | None]:
    """Return the variables of an env file as they stand there, `$` included; none if there is no such file."""
    if not path.is_file():
        return {}
    try:
        # Passwords hold `$`: a `${name}` in one would become another variable's value, or nothing.
        return dotenv_values(path, interpolate=False, encoding="utf-8-sig")
    except OSError as error:
        raise FatalError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FatalError(f"{path} {UTF8_HINT}") from error


class StrictDotEnvSource(DotEnvSettingsSource):
    """The env file by ``read_dotenv``."""

    @staticmethod
    def _static_read_env_file(file_path: Path, **options: Any) -> Mapping[str, str | None]:
        values = read_dotenv(file_path)
        lowered = values if options.get("case_sensitive") else {name.lower(): text for name, text in values.items()}
        return {name: text for name, text in lowered.items() if text or not options.get("ignore_empty")}


def yaml_source(settings: type[BaseSettings], path: str, name: str) -> PydanticBaseSettingsSource:
    """Return the source of a YAML file."""
    return InitSettingsSource(settings, read_yaml(Path(path), name))


def listed(title: str, problems: Sequence[str]) -> str:
    """Put one problem on one line, several on one each."""
    separator = " " if len(problems) == 1 else "\n  "
    return f"{title}:{separator}{separator.join(problems)}"
