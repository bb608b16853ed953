"""Builds the `ToolSpec` of a tool from any request dialect."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ashore.core.chat import ToolSpec
from ashore.data.bounds import check_schema_size
from ashore.kit.decode import UNDECODABLE

_encode = msgspec.json.Encoder().encode

FREE_TEXT: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}
"""Arguments of a tool of free text."""


def free_input(arguments: str) -> str:
    """Return the input of a free-text tool; the whole text if the model wrote it in another form."""
    try:
        given = msgspec.json.decode(arguments)
    except UNDECODABLE:
        return arguments
    text = given.get("input") if isinstance(given, dict) else None
    return text if isinstance(text, str) else arguments


def free_arguments(text: str) -> str:
    """Return the arguments of a free-text call in the model's form."""
    return _encode({"input": text}).decode()


def free_text_tool(name: str, description: str | None, form: object) -> ToolSpec:
    """Return a free-text tool as the one-string function that is described to the model.

    Args:
        name: Name of the tool.
        description: What it is for.
        form: `format` of the request; a grammar in it is described in words, as in Responses or chat completions.
    """
    grammar = None
    if isinstance(form, dict):
        inner = form.get("grammar")
        grammar = inner.get("definition") if isinstance(inner, dict) else form.get("definition")
    told = f"{description or ''}\n\nThe input follows this grammar:\n{grammar}" if grammar else description
    return tool_spec(name, told, FREE_TEXT, strict=None)


def has_grammar(form: object) -> bool:
    """Return whether a free-text tool has a grammar, which is described and not enforced."""
    return isinstance(form, dict) and form.get("type") == "grammar"


def tool_spec(name: str, description: str | None, parameters: object, *, strict: bool | None) -> ToolSpec:
    """Return one tool; without `parameters` it has none.

    Raises:
        InvalidRequest: its schema is too large.
    """
    told = ToolSpec(name=name, description=description or "", strict=bool(strict))
    if parameters is None:
        return told
    schema = _encode(parameters)
    check_schema_size(len(schema), "tools")
    return ToolSpec(name=name, description=told.description, parameters=schema.decode(), strict=told.strict)
