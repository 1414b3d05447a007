"""Write the JSON Schemas from the models: ``python -m schemas.export``, ``--check`` or ``--release``.

They are generated so that other languages can read the contract; they are committed so that a change of it is seen in
review. ``json/released/`` is the contract as users last got it: the tests refuse to narrow it.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

from schemas import generated
from schemas.contexts import ContextsEvent
from schemas.documents import DocumentEvent
from schemas.events import SCHEMA_VERSION, AnswerEvent, DeadLetterInfo, QueryEvent
from schemas.wire import DEAD_LETTER_HEADERS

JsonSchema = dict[str, Any]

FOLDER = Path(__file__).parent / "json"
RELEASED = FOLDER / "released"


class _Generator(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        """Leave out titles that repeat the field's name."""
        del schema
        return False


def schemas() -> dict[str, JsonSchema]:
    """Return the JSON Schema of each event by its file name.

    A query event's and a document event's say what is accepted; those of answers and contexts what is promised, so
    they require every field.
    """
    return {
        "query-event.schema.json": _schema("query-event", QueryEvent, "validation"),
        "document-event.schema.json": _schema("document-event", DocumentEvent, "validation"),
        "answer-event.schema.json": _schema("answer-event", AnswerEvent, "serialization"),
        "contexts-event.schema.json": _schema("contexts-event", ContextsEvent, "serialization"),
        "dead-letter.schema.json": _headers_schema("dead-letter", DeadLetterInfo, DEAD_LETTER_HEADERS),
    }


def stale(folder: Path = FOLDER) -> list[str]:
    """Return the names of files that are not what the models say."""
    return [path.name for path in generated.stale(_files(folder))]


def write(folder: Path = FOLDER) -> None:
    """Write every schema."""
    generated.write(_files(folder))


def main(arguments: list[str] | None = None) -> int:
    """Write or check the schemas; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m schemas.export", description=__doc__)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    action.add_argument("--release", action="store_true", help="also record the contract as released")
    options = parser.parse_args(arguments)
    if options.check:
        return generated.report("schemas.export", stale())
    write()
    if options.release:
        write(RELEASED)
    return 0


def _schema(name: str, model: type[BaseModel], mode: JsonSchemaMode) -> JsonSchema:
    generated = model.model_json_schema(mode=mode, schema_generator=_Generator)
    return _identity(name) | generated


def _headers_schema(name: str, model: type[BaseModel], names: dict[str, str]) -> JsonSchema:
    """Describe a model that travels as Kafka headers: every value is text."""
    generated = model.model_json_schema(mode="serialization", schema_generator=_Generator)
    properties = {header: _as_text(generated["properties"][field]) for header, field in names.items()}
    return _identity(name) | generated | {"properties": properties, "required": list(names)}


def _as_text(schema: JsonSchema) -> JsonSchema:
    if schema.get("type") != "integer":
        return schema
    return {"description": schema["description"], "pattern": "^[0-9]+$", "type": "string"}


def _identity(name: str) -> JsonSchema:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        # A name, not an address: nobody has to serve it.
        "$id": f"urn:rerank-worker:{name}:{SCHEMA_VERSION}",
    }


def _files(folder: Path) -> generated.Files:
    return {
        folder / name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for name, schema in schemas().items()
    }


if __name__ == "__main__":
    sys.exit(main())
