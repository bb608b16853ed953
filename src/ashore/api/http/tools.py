"""Builds the `ToolSpec` of a tool from any request dialect."""

from __future__ import annotations

import msgspec

from ashore.api.bounds import check_schema_size
from ashore.core import ToolSpec

_encode = msgspec.json.Encoder().encode


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
