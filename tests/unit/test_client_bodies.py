"""Bodies with what clients send beside the plain form: each is served, or refused with a word of what to do."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest
from client_app import Answer, client_app

HI: Final[list[Any]] = [{"role": "user", "content": "Hi"}]
PIXEL: Final = "data:image/png;base64,AA=="
IMAGE: Final = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
DOCUMENT: Final = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Hi"}}
SCHEMA: Final = {"type": "object", "properties": {"a": {"type": "integer"}}}
FUNCTION: Final[dict[str, Any]] = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
FLAT: Final = {"type": "function", "name": "f", "parameters": SCHEMA, "strict": True}
CLAUDE_TOOL: Final = {"name": "t", "input_schema": SCHEMA}
RESPONSES, MESSAGES, CHAT = "/v1/responses", "/v1/messages", "/v1/chat/completions"
COMPLETIONS, EMBEDDINGS = "/v1/completions", "/v1/embeddings"
PLAIN: Final[dict[str, dict[str, Any]]] = {
    RESPONSES: {"input": HI},
    MESSAGES: {"max_tokens": 9, "messages": HI},
    CHAT: {"messages": HI},
    COMPLETIONS: {"prompt": "Hi"},
    EMBEDDINGS: {"input": "Hi"},
}


def item(**fields: Any) -> dict[str, Any]:
    return {"input": [*HI, fields]}


def turn(*blocks: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def result(*parts: Any) -> dict[str, Any]:
    return turn({"type": "tool_result", "tool_use_id": "t", "content": list(parts)})


SERVED: Final[list[tuple[str, str, dict[str, Any], list[str]]]] = [
    ("codex core", RESPONSES, {"instructions": "i", "tools": [FLAT], "store": False, "stream": True,
     "parallel_tool_calls": True, "prompt_cache_key": "k", "include": ["reasoning.encrypted_content"]}, []),
    ("codex verbosity", RESPONSES, {"text": {"verbosity": "low"}}, []),
    ("codex metadata", RESPONSES, {"client_metadata": {"a": "b"}}, ["client_metadata"]),
    ("codex search", RESPONSES, {"tools": [{"type": "web_search"}]}, ["tools[].web_search"]),
    ("codex namespace", RESPONSES, {"tools": [{"type": "namespace", "name": "n", "tools": [FLAT]}]}, []),
    ("codex custom", RESPONSES, {"tools": [{"type": "custom", "name": "p", "format": {"type": "text"}}]}, []),
    ("codex call", RESPONSES, item(type="custom_tool_call", call_id="c", name="p", input="+"), []),
    ("codex output", RESPONSES, item(type="custom_tool_call_output", call_id="c", output="done"), []),
    ("codex reasoning", RESPONSES, item(type="reasoning", summary=[], encrypted_content="x"),
     ["input[].encrypted_content"]),
    ("codex truncation", RESPONSES, {"truncation": "auto"}, ["truncation"]),
    ("agents null", RESPONSES, {"prompt": None, "conversation": None}, []),
    ("claude 2025", MESSAGES, {"thinking": {"type": "adaptive"}, "tools": [{**CLAUDE_TOOL, "input_examples": [],
     "cache_control": {"type": "ephemeral"}}]}, []),
    ("claude context", MESSAGES, {"context_management": {"edits": []}}, ["context_management"]),
    ("claude effort", MESSAGES, {"output_config": {"effort": "high"}}, []),
    ("claude system", MESSAGES, {"messages": [*HI, {"role": "system", "content": "s",
     "output_config": {"effort": "low"}}]}, ["messages[].output_config"]),
    ("claude document", MESSAGES, turn(DOCUMENT), []),
    ("claude screenshot", MESSAGES, result(IMAGE), ["messages[].content[].content[].image"]),
    ("claude reference", MESSAGES, result({"type": "tool_reference", "tool_name": "t"}),
     ["messages[].content[].content[].tool_reference"]),
    ("claude deferred", MESSAGES, {"tools": [{**CLAUDE_TOOL, "defer_loading": True}]}, ["tools[].defer_loading"]),
    ("claude callers", MESSAGES, {"tools": [{**CLAUDE_TOOL, "allowed_callers": ["direct"]}]},
     ["tools[].allowed_callers"]),
    ("claude search", MESSAGES, {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
     ["tools[].web_search_20250305"]),
    ("claude speed", MESSAGES, {"speed": "fast"}, ["speed"]),
    ("claude diagnostics", MESSAGES, {"diagnostics": {"a": 1}}, ["diagnostics"]),
    ("claude geo", MESSAGES, {"inference_geo": "eu"}, ["inference_geo"]),
    ("qwen thinking", CHAT, {"enable_thinking": False}, []),
    ("qwen budget", CHAT, {"thinking_budget": 99}, []),
    ("vllm stop tokens", CHAT, {"stop_token_ids": [1]}, []),
    ("begun answer", CHAT, {"messages": [*HI, {"role": "assistant", "content": "a", "prefix": True}]}, []),
    ("deepseek thinking", CHAT, {"thinking": {"type": "enabled"}}, []),
    ("cline cache", CHAT, turn({"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}),
     ["messages[].content[].cache_control"]),
    ("cline no limit", CHAT, {"max_tokens": -1}, []),
    ("roo reasoning", CHAT, {"messages": [{"role": "assistant", "content": "a", "reasoning": "b"}, *HI]},
     ["messages[].reasoning"]),
    ("vllm json", CHAT, {"guided_json": SCHEMA}, []),
    ("vllm structured", CHAT, {"structured_outputs": {"choice": ["a"]}}, []),
    ("vllm prompt", CHAT, {"add_generation_prompt": True}, ["add_generation_prompt"]),
    ("vllm priority", CHAT, {"priority": 1}, ["priority"]),
    ("vllm request", CHAT, {"request_id": "r"}, ["request_id"]),
    ("plain stream", CHAT, {"stream": True, "stream_options": {"include_usage": True}}, []),
    ("plain parallel", CHAT, {"tools": [{"type": "function", "function": {**FUNCTION["function"], "strict": True}}],
     "parallel_tool_calls": True}, []),
    ("plain completion", COMPLETIONS, {}, []),
    ("openrouter usage", CHAT, {"usage": {"include": True}}, ["usage"]),
    ("openrouter reasoning", CHAT, {"reasoning": {"effort": "low"}}, []),
    ("openai prediction", CHAT, {"prediction": {"type": "content", "content": "x"}}, ["prediction"]),
    ("openai custom", CHAT, {"tools": [{"type": "custom", "custom": {"name": "c"}}]}, []),
    ("openai allowed", CHAT, {"tools": [FUNCTION], "tool_choice": {"type": "allowed_tools", "allowed_tools":
     {"mode": "auto", "tools": [FUNCTION]}}}, []),
    ("nvidia input type", EMBEDDINGS, {"input_type": "query"}, ["input_type"]),
    ("ollama keep alive", CHAT, {"keep_alive": "5m"}, ["keep_alive"]),
]  # fmt: skip

REFUSED: Final[list[tuple[str, str, dict[str, Any], str]]] = [
    ("codex image", RESPONSES, {"input": turn({"type": "input_image", "image_url": PIXEL})["messages"]}, "input_image"),
    ("claude image", MESSAGES, turn(IMAGE), "image"),
    ("open webui image", CHAT, turn({"type": "image_url", "image_url": {"url": PIXEL}}), "image_url"),
    ("old functions", CHAT, {"functions": [{"name": "f"}]}, "functions"),
    ("old call", CHAT, {"function_call": "auto"}, "function_call"),
    ("old role", CHAT, {"messages": [*HI, {"role": "function", "name": "f", "content": "1"}]}, "role"),
    ("openai search", CHAT, {"web_search_options": {"a": 1}}, "web_search_options"),
    ("fill in the middle", COMPLETIONS, {"suffix": "end"}, "suffix"),
    ("truncated texts", EMBEDDINGS, {"truncate_prompt_tokens": 3}, "truncate_prompt_tokens"),
    ("ollama options", CHAT, {"options": {"num_ctx": 9}}, "options"),
]
"""What changes the answer and cannot be had here."""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """Every body's answer, all from one application."""

    async def all_of_them() -> dict[str, Answer]:
        async with client_app(tmp_path_factory.mktemp("files")) as app:
            return {
                name: await app.ask("POST", path, {"model": "served", **PLAIN[path], **body})
                for name, path, body, _ in [*SERVED, *REFUSED]
            }

    return asyncio.run(all_of_them())


@pytest.mark.parametrize(("name", "ignored"), [(row[0], row[3]) for row in SERVED])
def test_it_is_served_and_what_is_left_out_is_named(answers: dict[str, Answer], name: str, ignored: list[str]) -> None:
    answer = answers[name]
    assert answer.status == 200, answer.body
    assert answer.ignored == ignored


@pytest.mark.parametrize(("name", "word"), [(row[0], row[3]) for row in REFUSED])
def test_it_is_refused_by_name(answers: dict[str, Answer], name: str, word: str) -> None:
    answer = answers[name]
    assert answer.status == 400
    assert word in answer.body.decode()
