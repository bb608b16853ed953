"""Builds the `ToolSpec` of a tool from any request dialect."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ashore.api.bounds import check_schema_size
from ashore.core import UNDECODABLE, ToolSpec

_encode = msgspec.json.Encoder().encode

FREE_TEXT: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}
"""Arguments of a tool of free text."""


def free_input(arguments: str) -> str:
    """Return what a tool of free text was given; all of it where the model wrote it in another form."""
    try:
        given = msgspec.json.decode(arguments)
    except UNDECODABLE:
        return arguments
    text = given.get("input") if isinstance(given, dict) else None
    return text if isinstance(text, str) else arguments


def tool_spec(name: str, description: str | None, parameters: object, *, strict: bool | None) -> ToolSpec:
    """Return one tool; without `parameters` it takes none.

    Raises:
        InvalidRequest: its schema is too large.
    """
    told = ToolSpec(name=name, description=description or "", strict=bool(strict))
    if parameters is None:
        return told
    schema = _encode(parameters)
    check_schema_size(len(schema), "tools")
    return ToolSpec(name=name, description=told.description, parameters=schema.decode(), strict=told.strict)
