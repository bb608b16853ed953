"""Fields that OpenAI clients send and the routes do not know, client by client."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ashore.core.errors import InvalidRequest
from ashore.data.http.dialect import Dialect, Json, Reader, Said, taken_out
from ashore.data.http.openai.responses_parse import ITEM_TYPES
from ashore.data.http.openai.responses_types import ResponsesRequest
from ashore.data.http.openai.types import ChatRequest, CompletionRequest, EmbeddingRequest
from ashore.data.http.tools import has_grammar
from ashore.kit.decode import MAX_NAME_CHARS, UNDECODABLE, decode_any

ANYWHERE: Final = {
    "*.cache_control": "Cline, Roo Code, aider, LiteLLM: where a hosted API is to cut its prompt cache",
    "*.provider_specific_fields": "LiteLLM sends back what it was given",
    "*.thought_signature": "clients of Gemini send it back",
}
"""Hints inside of messages and tools, whichever route they come by."""

SAMPLED: Final = {
    **ANYWHERE,
    "request_id": "vLLM's clients; x-request-id names a request here",
    "priority": "vLLM's clients; x-ashore-priority says it here",
    "add_special_tokens": "vLLM's clients",
    "spaces_between_special_tokens": "vLLM's clients",
    "include_stop_str_in_output": "vLLM's clients",
    "mm_processor_kwargs": "vLLM's clients",
    "kv_transfer_params": "vLLM's routers",
    "rid": "SGLang's clients",
    "usage": "clients of OpenRouter",
    "transforms": "clients of OpenRouter",
    "provider": "clients of OpenRouter",
    "plugins": "clients of OpenRouter",
    "route": "clients of OpenRouter",
    "keep_alive": "clients of Ollama",
    "user_id": "clients of Zhipu and Moonshot",
    "drop_params": "LiteLLM",
    "extra_headers": "LiteLLM",
    "tags": "LiteLLM",
}

CHAT: Final = {
    **SAMPLED,
    "return_tokens_as_token_ids": "vLLM's clients",
    "add_generation_prompt": "vLLM's clients; an answer always begins a turn",
    "prediction": "OpenAI's clients; it makes an answer faster, not another one",
    "messages[].reasoning": "clients of OpenRouter send it back",
    "messages[].reasoning_details": "clients of OpenRouter send it back",
    "messages[].id": "the Vercel AI SDK",
    "messages[].createdAt": "the Vercel AI SDK",
    "messages[].metadata": "n8n, Open WebUI",
    "messages[].timestamp": "Open WebUI",
    "messages[].info": "Open WebUI",
    "messages[].sources": "Open WebUI",
    "session_id": "Open WebUI",
    "chat_id": "Open WebUI",
    "background_tasks": "Open WebUI",
    "features": "Open WebUI",
    "variables": "Open WebUI",
    "model_item": "Open WebUI",
    "client_metadata": "Codex CLI",
    "thinking_budget": "Cherry Studio, LobeChat and other clients of Qwen; the model thinks as long as it does",
}

REFUSED: Final = {
    "audio": "ashore serves text models; they produce no audio",
    "web_search_options": "define a search tool and run it in your client; ashore runs no tools",
    "functions": "send tools, which replaced functions",
    "function_call": "send tool_choice, which replaced function_call",
    "options": "options belongs to Ollama's API; send temperature, top_p and so on as fields of their own",
    "think": 'send reasoning_effort, or "chat_template_kwargs": {"enable_thinking": false}; think is of Ollama\'s API',
    "best_of": "send n; ashore returns every choice that it generates",
    "bad_words": "use logit_bias",
    "use_beam_search": "omit it; ashore samples and has no beam search",
    "length_penalty": "omit it; ashore samples and has no beam search",
    "truncate_prompt_tokens": "shorten the prompt; ashore does not truncate prompts",
    "logits_processors": "use logit_bias or response_format",
    "allowed_token_ids": "use response_format",
    "prompt_logprobs": "use /v1/completions with echo and logprobs",
}
"""Fields that would change the answer."""


def _take_no_limit(body: Json, *names: str) -> None:
    """Drop `max_tokens: -1`, sent by Cline and Roo Code, which means no limit."""
    for name in names:
        if body.get(name) == -1:
            del body[name]


def _take_thinking(body: Json, said: Said) -> None:
    """Move `enable_thinking` of Qwen's servers and `thinking` of DeepSeek's to the template variables."""
    wanted: Any = body.pop("enable_thinking", None)
    thinking = body.pop("thinking", None)
    if isinstance(thinking, dict) and thinking.get("type") in ("enabled", "disabled", "adaptive", "auto"):
        wanted = thinking["type"] != "disabled"
        if wanted and thinking.get("budget_tokens") is not None:
            body.setdefault("thinking_budget", thinking["budget_tokens"])
        if thinking.get("display") is not None:
            said.append("thinking.display")
    elif thinking is not None:
        raise InvalidRequest(
            "thinking has an unknown form; expected an object with type enabled or disabled",
            hint='send {"type": "enabled"}',
            param="thinking",
        )
    effort = body.pop("reasoning", None)
    if isinstance(effort, dict):
        if effort.get("enabled") is not None:
            wanted = bool(effort["enabled"])
        if effort.get("effort") is not None:
            body.setdefault("reasoning_effort", effort["effort"])
    if isinstance(wanted, bool):
        options = body.setdefault("chat_template_kwargs", {})
        if isinstance(options, dict):
            options.setdefault("enable_thinking", wanted)
            options.setdefault("thinking", wanted)


UNENFORCED: Final = (
    "whitespace_pattern", "disable_any_whitespace", "disable_fallback", "disable_additional_properties", "backend",
)  # fmt: skip
"""Options of vLLM's grammar back ends; the language is the same."""


def _take_grammars(body: Json, said: Said) -> None:
    """Convert vLLM's `structured_outputs` and `guided_*` to a `response_format`."""
    wanted = body.pop("structured_outputs", None)
    found = dict(wanted) if isinstance(wanted, dict) else {}
    for name in ("json", "regex", "choice", "grammar", "json_object"):
        if (one := body.pop(f"guided_{name}", None)) is not None:
            found[name] = one
    said.extend(f"structured_outputs.{name}" for name in UNENFORCED if found.pop(name, None))
    for name in ("guided_decoding_backend", "guided_whitespace_pattern"):
        if body.pop(name, None) is not None:
            said.append(name)
    found = {name: one for name, one in found.items() if one is not None and (name, one) != ("json_object", False)}
    if not found:
        return
    if len(found) > 1 or body.get("response_format") is not None:
        raise InvalidRequest(
            "the request sets more than one grammar for the answer", hint="send only one", param="response_format"
        )
    ((kind, value),) = found.items()
    body["response_format"] = _format_of(kind, value)


def _format_of(kind: str, value: Any) -> Json:
    """Return vLLM's `guided_KIND` as a `response_format`."""
    match kind:
        case "json":
            return {"type": "json_schema", "json_schema": {"schema": _schema_of(value)}}
        case "json_object":
            return {"type": "json_object"}
        case "regex":
            return {"type": "regex", "pattern": value}
        case "grammar":
            return {"type": "grammar", "grammar": value}
        case "choice" if isinstance(value, list) and value and all(isinstance(one, str) and one for one in value):
            choices = " | ".join(msgspec.json.encode(one).decode() for one in value)
            return {"type": "grammar", "grammar": f"start: {choices}"}
        case "choice":
            raise InvalidRequest(
                "guided_choice is not a list of texts", hint='send ["yes", "no"], each with a character', param=kind
            )
        case _:
            shown = kind[:MAX_NAME_CHARS]
            raise InvalidRequest(
                f"structured_outputs.{shown} is not supported",
                hint="send json, regex, choice, grammar or json_object",
                param=f"structured_outputs.{shown}",
            )


def _schema_of(value: Any) -> Any:
    """Return a JSON schema; vLLM's clients may send it as a string."""
    if not isinstance(value, str):
        return value
    try:
        return decode_any(value)
    except UNDECODABLE as fault:
        raise InvalidRequest(
            "guided_json is a text that is not JSON", hint="send the schema as an object", param="guided_json"
        ) from fault


def _chat(body: Json, said: Said) -> None:
    _take_no_limit(body, "max_tokens", "max_completion_tokens")
    _take_thinking(body, said)
    _take_grammars(body, said)
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools")
        keep_allowed(body, allowed if isinstance(allowed, dict) else choice)
    if isinstance(body.get("tools"), list):
        body["tools"] = [tool for one in body["tools"] for tool in _chat_tool(one, body, said)]
        if not body["tools"]:
            del body["tools"]


def _chat_tool(tool: Any, body: Json, said: Said) -> list[Any]:
    """Return a tool in a form that ashore knows, none if only its maker can run it."""
    if not isinstance(tool, dict) or tool.get("type", "function") == "function":
        return [tool]
    if tool["type"] == "custom":
        if isinstance(tool.get("custom"), dict) and has_grammar(tool["custom"].get("format")):
            said.append("tools[].custom.format")
        return [tool]
    return left_out(tool, body, said)


def left_out(tool: Json, body: Json, said: Said) -> list[Any]:
    """Drop a tool that cannot be run here.

    Raises:
        InvalidRequest: the request requires it.
    """
    said.count_object()
    kind, choice = str(tool.get("type"))[:40], body.get("tool_choice")
    insists = isinstance(choice, dict) and (
        choice.get("type") == kind or choice.get("name") in (kind, tool.get("name"))
    )
    if insists:
        raise InvalidRequest(
            f"tool_choice asks for {kind!r}, which ashore does not run",
            hint="define a function and run it in your client",
            param="tool_choice",
        )
    said.append(f"tools[].{kind}")
    return []


def keep_allowed(body: Json, allowed: Json) -> None:
    """Keep the tools that `allowed_tools` names, and use its mode as the choice."""
    tools, wanted = body.get("tools"), allowed.get("tools")
    if isinstance(tools, list) and isinstance(wanted, list):
        names = {name for name in map(_name_of, wanted) if isinstance(name, str)}
        body["tools"] = [one for one in tools if isinstance(name := _name_of(one), str) and name in names]
    body["tool_choice"] = allowed.get("mode", "auto")


def _name_of(tool: Any) -> Any:
    """Return the name of a tool in either form."""
    if not isinstance(tool, dict):
        return None
    inner = tool.get("custom") if tool.get("type") == "custom" else tool.get("function")
    return inner.get("name") if isinstance(inner, dict) else tool.get("name")


def _completions(body: Json, said: Said) -> None:
    _take_no_limit(body, "max_tokens")
    _take_grammars(body, said)


def _tells_grammars(request: ChatRequest) -> bool:
    return any(tool.custom is not None and has_grammar(tool.custom.format) for tool in request.tools or ())


CHAT_READER: Final = Reader(
    ChatRequest, Dialect(name="chat", ignored=CHAT, refused=REFUSED, adapt=_chat, is_loose=_tells_grammars)
)
COMPLETION_READER: Final = Reader(
    CompletionRequest, Dialect(name="completions", ignored=SAMPLED, refused=REFUSED, adapt=_completions)
)
EMBEDDING_READER: Final = Reader(
    EmbeddingRequest,
    Dialect(
        name="embeddings",
        ignored={
            "keep_alive": "clients of Ollama",
            "timeout": "LiteLLM",
            "priority": "vLLM's clients; x-ashore-priority says it here",
            "request_id": "vLLM's clients; x-request-id names a request here",
            "add_special_tokens": "vLLM's clients",
            "truncate": "clients of NVIDIA and TEI; a text that is too long is refused",
        },
        refused={"truncate_prompt_tokens": "shorten the texts; ashore does not truncate them"},
    ),
)


RESPONSES: Final = {
    **ANYWHERE,
    "client_metadata": "Codex CLI, with every request",
    "prompt_cache_breakpoints": "OpenAI's clients",
    "context_management": "OpenAI's clients; nothing is compacted here, and a prompt that is too long is refused",
    "input[].internal_chat_message_metadata_passthrough": "Codex CLI",
    "input[].encrypted_content": "Codex CLI sends reasoning of other servers back; it cannot be read here",
    "tools[].defer_loading": "Codex CLI",
    "tools[].tools[].defer_loading": "Codex CLI",
    "tools[].output_schema": "Codex CLI",
    "tools[].tools[].output_schema": "Codex CLI",
    "reasoning.context": "OpenAI's clients",
    "text.verbosity": "Codex CLI",
}
ITEMS_LEFT_OUT: Final = (
    "web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "computer_call",
    "computer_call_output", "local_shell_call", "local_shell_call_output", "mcp_list_tools",
    "mcp_approval_request", "mcp_approval_response", "tool_search_call", "tool_search_output", "compaction",
)  # fmt: skip
"""Items of tools that OpenAI's servers run themselves: their results are not included."""


def _responses(body: Json, said: Said) -> None:
    if body.get("truncation") == "auto":
        del body["truncation"]
        said.append("truncation")
    include = body.get("include")
    if isinstance(include, list):
        known = [one for one in include if one in ("message.output_text.logprobs", "reasoning.encrypted_content")]
        said.extend(f"include.{one}"[:MAX_NAME_CHARS] for one in include if one not in known)
        body["include"] = known
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        keep_allowed(body, choice)
    if isinstance(body.get("tools"), list):
        body["tools"] = [tool for one in body["tools"] for tool in _tool(one, body, said)]
    adapt_items(body, "input", said)


def adapt_items(body: Json, field: str, said: Said) -> None:
    """Convert the items in a field to a form that ashore knows, and drop unreadable ones."""
    if isinstance(body.get(field), list):
        body[field] = [kept for one in body[field] for kept in _item(one, said)]


def _tool(tool: Any, body: Json, said: Said) -> list[Any]:
    """Return a tool in a form that ashore knows, none if only its maker can run it."""
    if not isinstance(tool, dict) or tool.setdefault("type", "function") == "function":
        return [tool]
    if tool["type"] == "namespace" and isinstance(tool.get("tools"), list):
        return [{**tool, "tools": [made for one in tool["tools"] for made in _tool(one, body, said)]}]
    if tool["type"] == "custom":
        if has_grammar(tool.get("format")):
            said.append("tools[].format")
        return [tool]
    if tool["type"] == "mcp":
        return [tool]
    return left_out(tool, body, said)


def _item(item: Any, said: Said) -> list[Any]:
    """Return an item in a form that ashore knows, none if it cannot be read here."""
    said.count_object()
    if not isinstance(item, dict):
        return [item]
    kind = item.get("type", "message")
    if kind == "reasoning" and item.get("encrypted_content") is not None:
        item = {**item, "encrypted_content": None}
        said.append("input[].encrypted_content")
    elif kind in ITEMS_LEFT_OUT:
        said.append(f"input[].{kind}")
        return []
    if isinstance(kind, str) and kind in ITEM_TYPES:
        said.extend(left.path for left in taken_out(item, ITEM_TYPES[kind], said, "input[]"))
    return [item]


RESPONSES_READER: Final = Reader(
    ResponsesRequest,
    Dialect(
        name="responses",
        ignored=RESPONSES,
        refused={
            "prompt": "send the text of the prompt; ashore stores no prompts",
        },
        adapt=_responses,
        is_loose=lambda request: not isinstance(request.input, str),
    ),
)
