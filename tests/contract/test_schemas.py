"""The models, the JSON Schemas, the AsyncAPI document and the examples all say the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, FormatChecker

import schemas
from schemas import (
    SCHEMA_VERSION,
    AnswerStatus,
    dead_letter_headers,
    dead_letter_info,
    decode_answer,
    decode_contexts,
    decode_document,
    decode_query,
    encode_answer,
    encode_contexts,
    encode_document,
    encode_query,
)
from schemas import export as schema_export
from schemas.replies import REPLY_REFUSED, ReplyRefusal
from schemas.wire import PASSED_THROUGH
from worker.settings import KafkaSettings

FOLDER = Path(schemas.__file__).parent
EXAMPLES = sorted((FOLDER / "examples").glob("*.json"))
ASYNCAPI: dict[str, Any] = yaml.safe_load((FOLDER / "asyncapi.yaml").read_text(encoding="utf-8"))

# Name of an example up to the first dot: what it is an example of.
DECODERS = {
    "query-event": decode_query,
    "document-event": decode_document,
    "answer-event": decode_answer,
    "contexts-event": decode_contexts,
}


def validator(event: str) -> Draft202012Validator:
    document = json.loads((FOLDER / "json" / f"{event}.schema.json").read_text(encoding="utf-8"))
    return Draft202012Validator(document, format_checker=FormatChecker())


def problems(event: str, instance: object) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator(event).iter_errors(instance)]


def resolve(reference: str) -> Any:
    """Follow a $ref of the AsyncAPI document, within it or to a file beside it."""
    file, _, pointer = reference.partition("#")
    found = json.loads((FOLDER / file).read_text(encoding="utf-8")) if file else ASYNCAPI
    for step in filter(None, pointer.split("/")):
        found = found[step]
    return found


def references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [reference for value in node.values() for reference in references(value)]
    if isinstance(node, list):
        return [reference for item in node for reference in references(item)]
    return []


def test_the_committed_schemas_are_generated_from_the_models() -> None:
    assert schema_export.stale() == [], "run: python -m schemas.export"


@pytest.mark.parametrize("name", sorted(schema_export.schemas()))
def test_a_schema_is_valid_json_schema(name: str) -> None:
    Draft202012Validator.check_schema(schema_export.schemas()[name])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_validates_against_its_schema(path: Path) -> None:
    assert problems(path.name.split(".")[0], json.loads(path.read_bytes())) == []


@pytest.mark.parametrize(
    "path", [path for path in EXAMPLES if path.name.split(".")[0] in DECODERS], ids=lambda path: path.stem
)
def test_an_example_is_read_by_the_models(path: Path) -> None:
    event = DECODERS[path.name.split(".")[0]](path.read_bytes())
    given = json.loads(path.read_bytes())
    written = event.model_dump(mode="json")
    assert {key: written[key] for key in given} == given, "the model must keep every field of the example as it is"


@pytest.mark.parametrize("path", sorted((FOLDER / "examples").glob("dead-letter.*")), ids=lambda path: path.stem)
def test_an_example_of_dead_letter_headers_is_what_is_written(path: Path) -> None:
    given = {name: value and value.encode() for name, value in json.loads(path.read_bytes()).items()}
    assert dict(dead_letter_headers(dead_letter_info(list(given.items())), [])) == given


def test_there_is_an_example_of_each_event_and_of_each_status() -> None:
    assert {path.name.split(".")[0] for path in EXAMPLES} == {*DECODERS, "dead-letter"}
    statuses = {json.loads(path.read_bytes()).get("status") for path in EXAMPLES}
    assert statuses - {None} == set(AnswerStatus)


@pytest.mark.parametrize(
    "broken",
    [{"id": "q"}, {"id": "", "text": "t"}, {"id": "q", "text": " "}, {"id": "q", "text": "t", "top_k": 0}, []],
    ids=str,
)
def test_what_the_model_refuses_the_schema_refuses_too(broken: object) -> None:
    assert problems("query-event", broken)
    with pytest.raises(schemas.WireError):
        decode_query(json.dumps(broken).encode())


@pytest.mark.parametrize(
    "broken",
    [{}, {"op": "upsert"}, {"op": "insert", "text": "t"}, {"text": 1}, {"id": "", "text": "t"}, {"fields": []}, []],
    ids=str,
)
def test_a_document_event_the_model_refuses_the_schema_refuses_too(broken: object) -> None:
    assert problems("document-event", broken)
    with pytest.raises(schemas.WireError):
        decode_document(json.dumps(broken).encode())


def test_what_the_models_write_validates() -> None:
    for path in EXAMPLES:
        if path.name.startswith("query-event"):
            written = encode_query(decode_query(path.read_bytes()))
        elif path.name.startswith("document-event"):
            written = encode_document(decode_document(path.read_bytes()))
        elif path.name.startswith("answer-event"):
            written = encode_answer(decode_answer(path.read_bytes()))
        elif path.name.startswith("contexts-event"):
            written = encode_contexts(decode_contexts(path.read_bytes()))
        else:
            continue
        assert problems(path.name.split(".")[0], json.loads(written)) == []


def test_asyncapi_points_only_to_what_exists() -> None:
    found = references(ASYNCAPI)
    assert len(found) > 10
    for reference in found:
        assert resolve(reference)


def test_asyncapi_names_every_schema_the_version_and_the_default_topics() -> None:
    assert ASYNCAPI["info"]["version"] == SCHEMA_VERSION
    files = {reference.removeprefix("json/") for reference in references(ASYNCAPI) if not reference.startswith("#")}
    assert files == set(schema_export.schemas())
    defaults = KafkaSettings()
    addresses = {channel["address"] for channel in ASYNCAPI["channels"].values()}
    # Of replies, the query names it; early contexts have no topic by default, and a name that we suggest.
    assert addresses == {
        *(None, defaults.query_topic, defaults.answer_topic, defaults.dead_letter_topic),
        *(defaults.documents_topic, defaults.documents_dead_letter_topic),
        "rag.contexts",
    }


def test_asyncapi_lists_the_headers_that_pass_through() -> None:
    assert set(ASYNCAPI["components"]["schemas"]["passedThrough"]["properties"]) == PASSED_THROUGH


def test_asyncapi_lists_the_headers_that_are_added() -> None:
    added = ASYNCAPI["components"]["schemas"]["addedToAnswers"]["properties"]
    assert {name: set(described["enum"]) for name, described in added.items()} == {REPLY_REFUSED: set(ReplyRefusal)}
