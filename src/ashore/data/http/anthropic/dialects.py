"""Fields that Anthropic clients send and the routes do not know, client by client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ashore.core.errors import InvalidRequest
from ashore.data.http.anthropic.types import CountRequest, MessagesRequest
from ashore.data.http.dialect import Dialect, Json, Reader, Said

IMAGE: Final = "[image omitted: this model accepts text only]"
"""Stands where an agent sent a screenshot as the result of a tool."""

HINTS: Final = {
    "*.cache_control": "Claude Code, Cline: where a hosted API is to cut its prompt cache",
    "*.citations": "clients of documents",
    "*.caller": "Claude Code: who may call a tool",
    "context_management": "Claude Code: what the hosted API may drop from a long conversation; nothing is dropped here",
    "betas": "Anthropic's SDK",
    "container": "Anthropic's SDK: of tools that its servers run",
    "mcp_servers": "Anthropic's SDK: ashore calls no server that a request names",
    "speed": "Claude Code",
    "diagnostics": "Claude Code",
    "inference_geo": "Claude Code: where a hosted API may compute",
    "user_profile_id": "Claude Code",
    "output_config.task_budget": "Claude Code",
    "tools[].defer_loading": "Claude Code: every tool is shown to the model at once here",
    "tools[].allowed_callers": "Claude Code",
    "tools[].eager_input_streaming": "Claude Code",
    "messages[].id": "clients that send answers back whole",
    "messages[].model": "clients that send answers back whole",
    "messages[].usage": "clients that send answers back whole",
    "messages[].stop_reason": "clients that send answers back whole",
    "messages[].stop_sequence": "clients that send answers back whole",
    "messages[].type": "clients that send answers back whole",
    "messages[].output_config": "Claude Code",
}


def _adapt(body: Json, said: Said) -> None:
    """Replace features that only Anthropic's servers have by what is possible here."""
    if isinstance(body.get("tools"), list):
        body["tools"] = [one for one in body["tools"] if _runs_here(one, body, said)]
    config = body.get("output_config")
    if isinstance(config, dict):
        body.pop("output_config")
        said.extend(f"output_config.{name}" for name in config if name not in ("effort", "format"))
        if config.get("effort") is not None:
            body["effort"] = config["effort"]
        if config.get("format") is not None:
            body["output_format"] = config["format"]
    system = body.get("system")
    if isinstance(system, dict):
        body["system"] = [system]
    for message in body.get("messages") or () if isinstance(body.get("messages"), list) else ():
        if isinstance(message, dict) and isinstance(message.get("content"), list):
            message["content"] = [kept for block in message["content"] for kept in _block(block, said)]


def _runs_here(tool: Any, body: Json, said: Said) -> bool:
    """Return whether a tool's function is run by the client."""
    if not isinstance(tool, dict) or "input_schema" in tool or tool.get("type") in (None, "custom"):
        return True
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice.get("name") == tool.get("name") and choice.get("type") == "tool":
        raise InvalidRequest(
            f"tool_choice asks for {str(tool['type'])[:40]!r}, which ashore does not run",
            hint="define a tool with an input_schema and run it in your client",
            param="tool_choice",
        )
    said.append(f"tools[].{str(tool['type'])[:40]}")
    return False


def _block(block: Any, said: Said) -> Iterator[Any]:
    """Yield a block in a form that ashore knows, none if it cannot be read here."""
    said.count_object()
    kind = block.get("type") if isinstance(block, dict) else None
    if kind == "tool_result" and isinstance(block.get("content"), list):
        inner = [_shown(one, said) for one in block["content"]]
        yield {**block, "content": inner}
    elif kind in ("server_tool_use", "web_search_tool_result", "mcp_tool_use", "mcp_tool_result", "container_upload"):
        said.append(f"messages[].content[].{kind}")
    elif kind == "document" and isinstance(source := block.get("source"), dict) and source.get("type") == "text":
        yield {"type": "text", "text": source.get("data", "")}
    else:
        yield block


def _shown(part: Any, said: Said) -> Any:
    """Return a part of a tool result; for an image, a text telling the agent that it cannot be seen."""
    said.count_object()
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "image":
        said.append("messages[].content[].content[].image")
        return {"type": "text", "text": IMAGE}
    if kind == "tool_reference":
        said.append("messages[].content[].content[].tool_reference")
        return {"type": "text", "text": str(part.get("tool_name", ""))}
    if kind == "document" and isinstance(source := part.get("source"), dict) and source.get("type") == "text":
        return {"type": "text", "text": source.get("data", "")}
    return part


MESSAGES_READER: Final = Reader(MessagesRequest, Dialect(name="messages", ignored=HINTS, adapt=_adapt))
COUNT_READER: Final = Reader(CountRequest, Dialect(name="messages", ignored=HINTS, adapt=_adapt))
