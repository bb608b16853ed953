"""Tools: described in the system text if the template does not support them; `tool_choice` becomes a grammar."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Final

from msgspec.structs import replace

from ashore.core.chat import Message, ToolSpec
from ashore.core.errors import InvalidRequest, UnsupportedByEngine
from ashore.core.nearest import did_you_mean
from ashore.data.engines import JSON_STYLE, MOST_GRAMMAR_BYTES, Grammar, argument_schema
from ashore.data.path.model import GenerationRequest
from ashore.data.path.ports import ServedText

NAMED: Final = "tool:"
"""Before the name of the one tool that must be called."""

_TOLD: Final = """\
You may call one or more functions to help with what the user asks. Their signatures, as JSON in <tools></tools>:
<tools>
{tools}
</tools>
To call one, answer with a JSON object with its name and arguments in <tool_call></tool_call>:
<tool_call>
{{"name": "function name", "arguments": {{"argument": "value"}}}}
</tool_call>"""
"""The text that describes tools to Hermes and Qwen models in training (their published chat templates)."""


def prepare_tools(request: GenerationRequest, text: ServedText) -> GenerationRequest:
    """Return the request with its tools described for the model, and enforced as `tool_choice` requires.

    Raises:
        InvalidRequest: a tool is required and none is given, the named one is not among them, or `response_format` is
            given too.
        UnsupportedByEngine: this model's form of tool calls cannot be enforced.
    """
    choice = request.tool_choice
    if not request.tools:
        if choice not in ("auto", "none"):
            raise InvalidRequest("tool_choice asks for a tool and tools is empty", param="tool_choice")
        return request
    for tool in request.tools:
        _schema(tool)
    if choice == "none":
        return request
    if not text.knows_tools:
        request = replace(request, messages=told(request.messages, request.tools))
    return request if choice == "auto" else _enforce(request, text)


def told(messages: tuple[Message, ...], tools: tuple[ToolSpec, ...]) -> tuple[Message, ...]:
    """Return the conversation with the tools described in its system text."""
    lines = [
        json.dumps(
            {
                "type": "function",
                "function": {"name": t.name, "description": t.description, "parameters": _schema(t)},
            },
            ensure_ascii=False,
        )
        for t in tools
    ]
    words = _TOLD.format(tools="\n".join(lines))
    if messages and messages[0].role == "system":
        first = messages[0]
        return (dataclasses.replace(first, content=f"{first.content}\n\n{words}".strip()), *messages[1:])
    return (Message(role="system", content=words), *messages)


def tool_call_grammar(tools: tuple[ToolSpec, ...], text: ServedText) -> Grammar:
    """Return the grammar of exactly one call to one of `tools`, in the form of this model's template.

    Raises:
        UnsupportedByEngine: the form (DeepSeek V3.2's) has no grammar here.
    """
    form = text.tool_forms[0]
    match form:
        case "hermes":
            call = _inline(_any_of(tools, "arguments"))
            return _lark(f'start: "<tool_call>\\n" call "\\n</tool_call>"\ncall: {call}\n')
        case "llama":
            return Grammar(kind="json_schema", text=_json(_any_of(tools, "parameters")))
        case "deepseek":
            return _lark(_deepseek(tools, fenced="```json" in text.template_source))
        case _:
            raise UnsupportedByEngine(
                f"this model writes tool calls in the form {form!r}, which cannot be enforced",
                hint="use tool_choice 'auto'",
                param="tool_choice",
            )


def _enforce(request: GenerationRequest, text: ServedText) -> GenerationRequest:
    tools = request.tools
    if request.tool_choice.startswith(NAMED):
        name = request.tool_choice.removeprefix(NAMED)
        tools = tuple(tool for tool in tools if tool.name == name)
        if not tools:
            raise InvalidRequest(
                f"tool_choice names {name[:100]!r}, which is not among the tools",
                hint=did_you_mean(name, [t.name for t in request.tools]),
                param="tool_choice",
            )
    if request.grammar is not None:
        raise InvalidRequest(
            "response_format and a required tool contradict each other",
            hint="leave one of them out",
            param="tool_choice",
        )
    if (size := sum(len(tool.parameters.encode(errors="replace")) for tool in tools)) > MOST_GRAMMAR_BYTES:
        raise InvalidRequest(
            f"the parameters of the tools that may be called have {size} bytes; the limit is {MOST_GRAMMAR_BYTES} "
            "where a tool is required",
            hint="name one tool in tool_choice, or use 'auto'",
            param="tools",
        )
    if not text.tool_forms:  # a server of text calls what it must by itself
        return request
    return replace(request, grammar=tool_call_grammar(tools, text))


def _any_of(tools: tuple[ToolSpec, ...], arguments: str) -> dict[str, Any]:
    places = [f"#/anyOf/{at}/properties/{arguments}" for at in range(len(tools))]
    calls: list[dict[str, Any]] = [
        {
            "type": "object",
            "properties": {"name": {"const": tool.name}, arguments: _arguments(tool, place)},
            "required": ["name", arguments],
            "additionalProperties": False,
        }
        for tool, place in zip(tools, places, strict=True)
    ]
    return {"anyOf": calls}


def _deepseek(tools: tuple[ToolSpec, ...], *, fenced: bool) -> str:
    """Return V3's and R1's form (a fenced block) or V3.1's (the bare object), one alternative per tool."""
    before, after = ('"\\n```json\\n"', '"\\n```"') if fenced else ('"<｜tool▁sep｜>"', '""')
    kind = '"function<｜tool▁sep｜>" ' if fenced else ""
    rules = "".join(f"a{at}: {_inline(_arguments(tool, '#'))}\n" for at, tool in enumerate(tools))
    calls = " | ".join(f"{kind}{_json(tool.name)} {before} a{at} {after}" for at, tool in enumerate(tools))
    opener, closer = '"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>"', '"<｜tool▁call▁end｜><｜tool▁calls▁end｜>"'
    return f"start: {opener} call {closer}\ncall: {calls}\n{rules}"


def _arguments(tool: ToolSpec, at: str) -> dict[str, Any]:
    return argument_schema(_schema(tool), tool=tool.name, at=at)


def _inline(schema: dict[str, Any]) -> str:
    """Return a schema as part of a larger grammar; the request's own grammar options are ignored."""
    return f"%json {_json({**schema, 'x-guidance': JSON_STYLE})}"


def _lark(text: str) -> Grammar:
    return Grammar(kind="lark", text=text)


def _schema(tool: ToolSpec) -> dict[str, Any]:
    try:
        schema = json.loads(tool.parameters)
    except (json.JSONDecodeError, RecursionError) as fault:
        raise InvalidRequest(f"the parameters of the tool {tool.name!r} are no JSON: {fault}", param="tools") from fault
    if not isinstance(schema, dict):
        raise InvalidRequest(f"the parameters of the tool {tool.name!r} are no JSON schema object", param="tools")
    return schema


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
