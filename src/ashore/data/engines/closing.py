"""Schemas as small models can follow them: an object has the properties that its schema declares, and no others.

By default JSON Schema allows further properties (`additionalProperties`), and a small model then writes `{"input": 3,
"type": "integer"}` for a tool that declares `input`. vLLM and llama.cpp close such objects, too. The closed schema
allows a subset of the original.
"""

from __future__ import annotations

from typing import Any, Final

from ashore.data.engines.schemaform import COMBINE, mapped, parts

JSON_STYLE: Final[dict[str, Any]] = {"whitespace_pattern": r"[ ]|\n[ ]{0,16}"}
"""One space, or a new line with its indent: a small model cannot fill an answer with blanks."""

_SAYS_MORE: Final = ("additionalProperties", "patternProperties", "minProperties", "enum", "const", *COMBINE)
"""Keywords that keep an object open: they declare further properties themselves or in combination."""


def closed(schema: Any) -> Any:
    """Return a schema in which each object with declared properties has no others, unless the schema mentions them.

    A schema that combines objects (`allOf`, or `properties` with `anyOf`, `oneOf`, `$ref`) is not changed: each part
    would forbid the properties of the others.
    """
    return schema if _combines(schema) else _closed(schema)


def closed_arguments(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a tool's arguments, closed; without declared properties it allows none."""
    made: dict[str, Any] = closed(schema)
    is_object = schema.get("type", "object") == "object" and schema.get("properties", {}) == {}
    if not is_object or schema.get("required") or any(keyword in schema for keyword in _SAYS_MORE):
        return made
    return {**made, "type": "object", "properties": {}, "additionalProperties": False}


def _closed(schema: Any) -> Any:
    made = mapped(schema, lambda part, _: _closed(part))
    if not isinstance(made, dict):
        return made
    declared = schema.get("properties")
    if isinstance(declared, dict) and declared and not any(keyword in schema for keyword in _SAYS_MORE):
        required = schema.get("required", [])
        if isinstance(required, list) and all(name in declared for name in required):
            made["additionalProperties"] = False
    return made


def _combines(schema: Any) -> bool:
    """Return whether a schema, or a part of it, combines an object from several."""
    if not isinstance(schema, dict):
        return False
    if "allOf" in schema or ("properties" in schema and any(keyword in schema for keyword in COMBINE)):
        return True
    return any(_combines(part) for part, _ in parts(schema))
