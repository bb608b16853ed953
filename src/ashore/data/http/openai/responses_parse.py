"""`/v1/responses`: converts items to messages, and the request to a generation request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from ashore.core.chat import Message, ToolCall, ToolSpec
from ashore.core.errors import InvalidRequest, UnknownField
from ashore.core.sampling import left_out, sampling_of
from ashore.data.bounds import MOST_TOOL_NAME_CHARS
from ashore.data.engines import Grammar
from ashore.data.http.exchange import Exchange
from ashore.data.http.openai.common import (
    grammar_of,
    terms_of,
)
from ashore.data.http.openai.responses_types import (
    CustomCallItem,
    CustomOutputItem,
    CustomTool,
    FlatSchemaFormat,
    FunctionCallItem,
    FunctionOutputItem,
    FunctionTool,
    InputText,
    Item,
    McpCallItem,
    McpListItem,
    MessageItem,
    NamespaceTool,
    OutputText,
    ReasoningItem,
    ResponsesRequest,
)
from ashore.data.http.openai.types import JsonSchemaFormat, JsonSchemaSpec
from ashore.data.http.tools import free_arguments, free_text_tool, tool_spec
from ashore.data.path import GenerationRequest
from ashore.kit.decode import decode

_encode = msgspec.json.Encoder().encode
ITEM_TYPES: Final[dict[str, type[msgspec.Struct]]] = {
    "message": MessageItem,
    "function_call": FunctionCallItem,
    "function_call_output": FunctionOutputItem,
    "custom_tool_call": CustomCallItem,
    "custom_tool_call_output": CustomOutputItem,
    "mcp_call": McpCallItem,
    "mcp_list_tools": McpListItem,
    "reasoning": ReasoningItem,
}
_DECODERS: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    name: msgspec.json.Decoder(kind) for name, kind in ITEM_TYPES.items()
}


class _Typed(msgspec.Struct):
    type: Any = "message"


_typed = msgspec.json.Decoder(_Typed)


def items_of(request: ResponsesRequest) -> list[Item]:
    """Return the input as items, whichever of the two forms was used.

    Raises:
        InvalidRequest, UnknownField: an item is malformed; `param` names it.
    """
    if isinstance(request.input, str):
        return [MessageItem(role="user", content=request.input)]
    return [item_of(item, f"input[{at}]") for at, item in enumerate(request.input)]


def item_of(item: dict[str, Any], where: str) -> Item:
    """Return one item; one without a type is a message."""
    return stored_item(_encode(item), where)


def stored_item(item: bytes | msgspec.Raw, where: str) -> Item:
    """Return one item from received or stored JSON. Raises as `items_of` does."""
    kind = _typed.decode(item).type
    decoder = _DECODERS.get(kind) if isinstance(kind, str) else None
    if decoder is None:
        raise InvalidRequest(
            f"{where}.type is {str(kind)[:40]!r}; expected one of {', '.join(_DECODERS)}", param=f"{where}.type"
        )
    try:
        decoded: Item = decode(bytes(item), decoder)
    except (InvalidRequest, UnknownField) as fault:
        raise type(fault)(f"{where}: {fault.message}", hint=fault.hint, param=_param(where, fault.param)) from fault
    return decoded


def listed(item: Item) -> dict[str, Any]:
    """Return an item in its listed form: the text of a message in parts, whichever form was used."""
    shown: dict[str, Any] = msgspec.to_builtins(item)
    if isinstance(item, MessageItem):
        if isinstance(item.content, str):
            kind = "output_text" if item.role == "assistant" else "input_text"
            shown["content"] = [{"type": kind, "text": item.content}]
        for part in shown["content"]:
            if part["type"] == "output_text":
                part["annotations"] = part.get("annotations") or []
        shown["status"] = item.status or "completed"
    return shown


class ServedTools(NamespaceTool, frozen=True, kw_only=True):
    """Tools of another server, called here, in the place of the `McpTool` that asked for them."""


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """A tool as the client knows it."""

    tool: FunctionTool | CustomTool
    namespace: str | None = None
    is_served: bool = False
    """Whether it is called here; its namespace is the label of its server."""


def offered_tools(request: ResponsesRequest) -> dict[str, OfferedTool]:
    """Return the tools of a request by the names used for the model: their own, unless two share one."""
    found = {
        tool.name: OfferedTool(tool) for tool in request.tools or () if isinstance(tool, FunctionTool | CustomTool)
    }
    for space in (tool for tool in request.tools or () if isinstance(tool, NamespaceTool)):
        for one in space.tools:
            name, whole, at = one.name, f"{space.name}__{one.name}", 2
            while name in found:  # cut alike, or called so by the client: neither may stand for the other
                name = whole[-MOST_TOOL_NAME_CHARS:]
                whole, at = f"{space.name}__{one.name}_{at}", at + 1
            found[name] = OfferedTool(one, space.name, isinstance(space, ServedTools))
    return found


def messages_of(items: Sequence[Item], names: Mapping[tuple[str | None, str], str] = {}) -> list[Message]:
    """Return items as turns. Consecutive reasoning, text and calls of the assistant form one turn.

    Args:
        items: Items of the input, or of an answer.
        names: Tool names used for the model, by namespace and name; without an entry, their own.
    """
    messages: list[Message] = []
    reasoning = ""
    calls: list[ToolCall] = []  # of the last turn, which gets them when it is whole
    for item in items:
        if calls and not isinstance(item, FunctionCallItem | CustomCallItem | ReasoningItem):
            messages[-1] = replace(messages[-1], tool_calls=tuple(calls))
            calls = []
        match item:
            case ReasoningItem():
                reasoning += "".join(part.text for part in item.content or ())
            case MessageItem(role="assistant"):
                messages.append(Message(role="assistant", content=_text(item.content), reasoning=reasoning))
                reasoning = ""
            case MessageItem():
                role = "system" if item.role == "developer" else item.role
                messages.append(Message(role=role, content=_text(item.content)))
            case FunctionCallItem() | CustomCallItem():
                called = names.get((item.namespace, item.name), item.name)
                call = ToolCall(id=item.call_id, name=called, arguments=_arguments(item))
                if reasoning or not messages or messages[-1].role != "assistant":
                    if calls:
                        messages[-1] = replace(messages[-1], tool_calls=tuple(calls))
                        calls = []
                    messages.append(Message(role="assistant", reasoning=reasoning))
                    reasoning = ""
                calls.append(call)
            case McpCallItem():
                called = names.get((item.server_label, item.name), item.name)
                call = ToolCall(id=item.id or f"mcp_{len(messages)}", name=called, arguments=item.arguments)
                messages.append(Message(role="assistant", reasoning=reasoning, tool_calls=(call,)))
                text = item.output if item.error is None else _encode(item.error).decode()
                messages.append(Message(role="tool", content=text or "", tool_call_id=call.id))
                reasoning = ""
            case FunctionOutputItem() | CustomOutputItem():
                messages.append(Message(role="tool", content=_text(item.output), tool_call_id=item.call_id))
    if calls:
        messages[-1] = replace(messages[-1], tool_calls=tuple(calls))
    return messages


def to_generation(request: ResponsesRequest, exchange: Exchange, history: Sequence[Message]) -> GenerationRequest:
    """Return the generation request; `history` holds the earlier messages.

    Raises:
        InvalidRequest: its parts contradict each other.
    """
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest("stream_options needs stream: true", param="stream_options")
    system = [Message(role="system", content=request.instructions)] if request.instructions else []
    tools = offered_tools(request)
    names = {(one.namespace, one.tool.name): name for name, one in tools.items()}
    return GenerationRequest(
        model=request.model,
        messages=(*system, *history, *messages_of(items_of(request), names)),
        tools=tuple(_tool(name, one.tool) for name, one in tools.items()),
        tool_choice=_choice(request),
        one_call=request.parallel_tool_calls is False,
        sampling=sampling_of(request),
        left_out=left_out(request),
        max_tokens=request.max_output_tokens,
        top_logprobs=_top_logprobs(request),
        grammar=_grammar(request),
        **terms_of(exchange),
        template_options=_template_options(request),
    )


def _template_options(request: ResponsesRequest) -> dict[str, object]:
    effort = request.reasoning.effort if request.reasoning else None
    return {} if effort is None else {"reasoning_effort": effort}


def _top_logprobs(request: ResponsesRequest) -> int | None:
    if request.top_logprobs is None and "message.output_text.logprobs" not in (request.include or ()):
        return None
    return request.top_logprobs or 0


def _grammar(request: ResponsesRequest) -> Grammar | None:
    wanted = request.text.format if request.text else None
    if isinstance(wanted, FlatSchemaFormat):
        return grammar_of(JsonSchemaFormat(json_schema=JsonSchemaSpec(schema=wanted.schema)))
    return grammar_of(wanted)


def _choice(request: ResponsesRequest) -> str:
    choice = request.tool_choice
    if choice is None:
        return "auto"
    return choice if isinstance(choice, str) else f"tool:{choice.name}"


def _tool(name: str, tool: FunctionTool | CustomTool) -> ToolSpec:
    if isinstance(tool, FunctionTool):
        return tool_spec(name, tool.description, tool.parameters, strict=tool.strict)
    return free_text_tool(name, tool.description, tool.format)


def _arguments(item: FunctionCallItem | CustomCallItem) -> str:
    return item.arguments if isinstance(item, FunctionCallItem) else free_arguments(item.input)


def _text(content: str | Sequence[InputText | OutputText]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def _param(where: str, inner: str | None) -> str:
    return f"{where}.{inner}" if inner else where
