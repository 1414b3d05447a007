"""Whoever wrote or read events by the released contract still can.

What producers send is accepted: nothing the released schema allows is refused now. What consumers were promised is
kept: nothing is written now that the released schema doesn't allow.

The exceptions are written down here. ``NARROWED_FOR_SAFETY``: what no worker ever answered, because it ended the vector
store or could only be refused by it (docs/decisions/0009-bounds-in-the-contract.md). ``ADDED_FOR_WHO_ASKS``: what
reaches only those who ask for it in a way the released contract did not know.
"""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from schemas import SCHEMA_VERSION, export

Schema = dict[str, Any]

LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems")
UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
INPUT = "query-event.schema.json"
INPUTS = (INPUT, "document-event.schema.json")
OUTPUT = "answer-event.schema.json"


NARROWED_FOR_SAFETY = [
    # Two Chroma servers out of two died of 20,000 operands, and refused 989.
    "event.where.$and: maxItems",
    "event.where.$or: maxItems",
]

ADDED_FOR_WHO_ASKS = [
    # Written to a reply topic that the query names and the operator allows, never to the answer topic of old.
    "event.status: 'failed'",
    # Written only where an operator has set recall.lexical_path, which no released worker knows, and the leg is away.
    "event.degradations[].stage: 'recall'",
]

EXCEPTIONS = {INPUT: NARROWED_FOR_SAFETY, OUTPUT: ADDED_FOR_WHO_ASKS}


def released(name: str) -> Schema:
    schema: Schema = json.loads((export.RELEASED / name).read_text(encoding="utf-8"))
    return schema


def breaks(old: Schema, new: Schema, *, is_input: bool) -> list[str]:
    """Name each place where the new schema breaks what the old one allowed (input) or promised (output)."""
    wide, narrow = (new, old) if is_input else (old, new)
    return _removed(old, new, old, new, "event") + _gaps(wide, narrow, wide, narrow, "event")


def _removed(old: Schema, new: Schema, old_root: Schema, new_root: Schema, at: str) -> list[str]:
    found = []
    before, now = _children(old, old_root), _children(new, new_root)
    for name, schema in before.items():
        if name in now:
            found += _removed(schema, now[name], old_root, new_root, f"{at}.{name}")
        else:
            found.append(f"{at}.{name} is gone")
    return found


def _children(schema: Schema, root: Schema) -> dict[str, Schema]:
    children: dict[str, Schema] = {}
    for form in _forms(schema, root):
        children |= form.get("properties", {})
        if "items" in form:
            children["[]"] = form["items"]
    return children


def _gaps(wide: Schema, narrow: Schema, wide_root: Schema, narrow_root: Schema, at: str) -> list[str]:
    """Name each place where ``narrow`` allows what ``wide`` does not."""
    found = []
    for form in _forms(narrow, narrow_root):
        others = _forms(wide, wide_root)
        # What is of the same type says better what is missing than what is not.
        alike = [other for other in others if other.get("type") == form.get("type")] or others
        tries = [_form_gaps(other, form, wide_root, narrow_root, at) for other in alike]
        shortest: list[str] = min(tries, key=len)
        found += shortest
    return found


def _form_gaps(wide: Schema, narrow: Schema, wide_root: Schema, narrow_root: Schema, at: str) -> list[str]:
    types = {narrow.get("type"), "number" if narrow.get("type") == "integer" else None}
    if "type" in wide and wide["type"] not in types:
        return [f"{at}: {narrow.get('type', 'anything')} instead of {wide['type']}"]
    found = [f"{at}: {key}" for key in LOWER if key in wide and narrow.get(key, float("-inf")) < wide[key]]
    found += [f"{at}: {key}" for key in UPPER if key in wide and narrow.get(key, float("inf")) > wide[key]]
    found += [f"{at}: {key}" for key in ("pattern", "format") if key in wide and narrow.get(key) != wide[key]]
    if "enum" in wide:
        found += [f"{at}: {value!r}" for value in narrow.get("enum", ["any value"]) if value not in wide["enum"]]
    found += [f"{at}.{name}: required" for name in wide.get("required", []) if name not in narrow.get("required", [])]
    for name, schema in wide.get("properties", {}).items():
        if name in narrow.get("properties", {}):
            found += _gaps(schema, narrow["properties"][name], wide_root, narrow_root, f"{at}.{name}")
        elif "additionalProperties" in narrow:
            # An object of any keys: to name one of them is to bound it.
            found += _gaps(schema, narrow["additionalProperties"], wide_root, narrow_root, f"{at}.{name}")
    for key in ("items", "additionalProperties"):
        if key in wide:
            found += _gaps(wide[key], narrow.get(key, {}), wide_root, narrow_root, f"{at}[]")
    return found


def _forms(schema: Schema, root: Schema) -> list[Schema]:
    """Return the alternatives of a schema, references followed."""
    if "$ref" in schema:
        return _forms(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" in schema:
        return [form for alternative in schema["anyOf"] for form in _forms(alternative, root)]
    return [schema]


# What was never released may still change.
NAMES = sorted(name for name in export.schemas() if (export.RELEASED / name).exists())


@pytest.mark.parametrize("name", NAMES)
def test_the_contract_only_grows(name: str) -> None:
    found = breaks(released(name), export.schemas()[name], is_input=name in INPUTS)
    assert found == EXCEPTIONS.get(name, [])


def test_the_released_contract_is_of_this_major_version() -> None:
    for name in NAMES:
        version = released(name)["$id"].rpartition(":")[2]
        assert version.split(".")[0] == SCHEMA_VERSION.split(".")[0]


def change(schema: Schema, *path: str) -> Callable[[str, object], Schema]:
    changed = copy.deepcopy(schema)

    def apply(key: str, value: object) -> Schema:
        node = changed
        for step in path:
            node = node[step]
        node[key] = value
        return changed

    return apply


QUERY = export.schemas()[INPUT]
ANSWER = export.schemas()[OUTPUT]


@pytest.mark.parametrize(
    "narrowed",
    [
        pytest.param(change(QUERY)("required", ["id", "text", "top_k"]), id="a new required field"),
        pytest.param(change(QUERY, "properties", "text")("maxLength", 100), id="a shorter text"),
        pytest.param(change(QUERY, "properties", "text")("pattern", "^[a-z]+$"), id="another pattern"),
        pytest.param(change(QUERY, "properties", "text")("type", "integer"), id="another type"),
        pytest.param(change(QUERY, "properties", "top_k", "anyOf")(0, {"type": "null"}), id="one form less"),  # type: ignore[arg-type] # a list's index
        pytest.param(change(QUERY)("properties", {"id": {}, "text": {}}), id="a field removed"),
    ],
)
def test_a_query_event_that_accepts_less_is_noticed(narrowed: Schema) -> None:
    assert breaks(QUERY, narrowed, is_input=True)


@pytest.mark.parametrize(
    "loosened",
    [
        pytest.param(change(ANSWER)("required", ["query_id"]), id="a field no longer certain"),
        pytest.param(change(ANSWER, "$defs", "AnswerStatus")("enum", ["ok", "maybe"]), id="an unknown status"),
        pytest.param(change(ANSWER, "properties", "worker")("type", "integer"), id="another type"),
        pytest.param(
            change(ANSWER, "$defs", "ContextInfo", "properties", "recall_rank")("minimum", 0), id="a lower bound"
        ),
        pytest.param(
            change(ANSWER, "properties", "worker")("anyOf", [{"type": "string"}, {"type": "null"}]), id="a null"
        ),
        pytest.param(change(ANSWER, "$defs", "Usage")("properties", {}), id="a nested field removed"),
    ],
)
def test_an_answer_event_that_promises_less_is_noticed(loosened: Schema) -> None:
    assert breaks(ANSWER, loosened, is_input=False)


def test_growth_is_allowed() -> None:
    query = change(QUERY, "properties", "text")("maxLength", 100_000)
    query["properties"]["language"] = {"type": "string"}
    answer = change(ANSWER)("required", [*ANSWER["required"], "trace"])
    answer["properties"]["trace"] = {"type": "string"}
    assert breaks(QUERY, query, is_input=True) == []
    assert breaks(ANSWER, answer, is_input=False) == []
