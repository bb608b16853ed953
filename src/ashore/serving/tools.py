"""`tool_choice`: what must be called becomes a grammar, so that the model cannot answer anything else."""

from __future__ import annotations

import dataclasses
import json
from typing import Final

from ashore.core import ToolSpec, did_you_mean
from ashore.engines import Grammar
from ashore.errors import InvalidRequest
from ashore.serving.model import GenerationRequest

NAMED: Final = "tool:"
"""Before the name of the one tool that must be called."""


def constrain_tools(request: GenerationRequest) -> GenerationRequest:
    """Return the request with a grammar that makes the model call a tool where `tool_choice` says that it must.

    Raises:
        InvalidRequest: a tool is required and none is given, the named one is not among them, or the answer would have
            to follow `response_format` at the same time.
    """
    choice = request.tool_choice
    if choice in ("auto", "none"):
        return request
    if not request.tools:
        raise InvalidRequest("tool_choice asks for a tool and tools is empty", param="tool_choice")
    tools = request.tools
    if choice.startswith(NAMED):
        name = choice.removeprefix(NAMED)
        tools = tuple(tool for tool in tools if tool.name == name)
        if not tools:
            raise InvalidRequest(
                f"tool_choice names {name!r}, which is not among the tools",
                hint=did_you_mean(name, [t.name for t in request.tools]),
                param="tool_choice",
            )
    if request.grammar is not None:
        raise InvalidRequest(
            "response_format and a required tool contradict each other",
            hint="leave one of them out",
            param="tool_choice",
        )
    return dataclasses.replace(request, tools=tools, grammar=tool_call_grammar(tools))


def tool_call_grammar(tools: tuple[ToolSpec, ...]) -> Grammar:
    """Return the language of exactly one call to one of `tools`, as `<tool_call>JSON</tool_call>`.

    The parser of answers reads that form whatever the model was trained on, and every chat template shows calls of
    earlier turns in the model's own form.
    """
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": tool.name}, "arguments": _schema(tool)},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    schema = calls[0] if len(calls) == 1 else {"anyOf": calls}
    text = json.dumps(schema, ensure_ascii=False)
    return Grammar(kind="lark", text=f'start: "<tool_call>\\n" call "\\n</tool_call>"\ncall: %json {text}\n')


def _schema(tool: ToolSpec) -> object:
    try:
        schema: object = json.loads(tool.parameters)
    except json.JSONDecodeError as fault:
        raise InvalidRequest(f"the parameters of the tool {tool.name!r} are no JSON: {fault}", param="tools") from fault
    return schema
