"""The settings as the Helm chart takes them: ``python -m worker.settings.chart`` writes them into its schema.

So Helm refuses a misspelt or wrong setting before a pod is made of it. The rest of the schema is written by hand.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from schemas import generated
from worker.settings import Settings
from worker.settings.load import SECRET_OPTION
from worker.settings.reference import describe_settings

SCHEMA = Path("deploy/helm/rerank-worker/values.schema.json")

PER_POD = frozenset({"worker_id", "cache_dir", "kafka.group_instance_id"})
"""What the chart sets itself, for each pod: the same for all of them would be wrong."""

# Entries of such settings are variables of their own, as for the worker.
MAPPINGS = ("client_options", "headers")


def settings_schema() -> dict[str, Any]:
    """Return the JSON Schema of what a ConfigMap may hold: all but secrets and what differs from pod to pod."""
    schema = Settings.model_json_schema()
    properties = {}
    for name, field in schema["properties"].items():
        if "$ref" in field:
            section = schema["$defs"][field["$ref"].rpartition("/")[2]]
            properties[name] = _mapping(section["properties"], f"{name}.")
        else:
            properties[name] = field
    # A port that the system chooses is one that no probe finds.
    properties["telemetry"]["properties"]["port"]["minimum"] = 1
    properties["kafka"]["properties"]["client_options"]["propertyNames"] = {"not": {"pattern": SECRET_OPTION.pattern}}
    plain: dict[str, Any] = _plain(_mapping(properties))
    return plain


def secret_names() -> dict[str, Any]:
    """Return the JSON Schema of the names of settings that may come out of Secrets: all but those of single pods."""
    paths = [row.path for rows in describe_settings().values() for row in rows if row.path not in PER_POD]
    entries = "|".join(re.escape(path) for path in paths if path.endswith(MAPPINGS))
    return {"anyOf": [{"enum": paths}, {"pattern": rf"^({entries})\..+$"}]}


def chart_schema() -> str:
    """Return the chart's schema as it should be: what is there, with its generated parts made anew."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    schema["properties"]["settings"] = settings_schema()
    schema["definitions"]["secretSettings"]["propertyNames"] = secret_names()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write or check the schema; return the exit code."""
    return generated.write_or_check("worker.settings.chart", {SCHEMA: chart_schema()}, arguments)


def _mapping(properties: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    allowed = {
        name: field for name, field in properties.items() if prefix + name not in PER_POD and not _is_secret(field)
    }
    return {"type": "object", "additionalProperties": False, "properties": allowed}


def _is_secret(field: dict[str, Any]) -> bool:
    """Return whether a setting, one of its forms or its entries are passwords."""
    forms = [field, *field.get("anyOf", [])]
    entries = [form["additionalProperties"] for form in forms if isinstance(form.get("additionalProperties"), dict)]
    return any(form.get("format") == "password" for form in (*forms, *entries))


def _plain(schema: Any) -> Any:
    """Return a schema without the titles that pydantic makes of names; a reference, which is to any JSON, allows it."""
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return {}
    return {key: _plain(value) for key, value in schema.items() if not (key == "title" and isinstance(value, str))}


if __name__ == "__main__":
    sys.exit(main())
