"""Several calls in one answer, and one at most where the client says so, in all three dialects, whole and streamed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Final

import pytest
from client_app import ALIAS, Answer, client_app

CALLS: Final = "\n".join(
    f'<tool_call>{{"name": "add", "arguments": {{"a": {number}}}}}</tool_call>' for number in (1, 2, 3)
)
SCHEMA: Final = {"type": "object", "properties": {"a": {"type": "integer"}}}
CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"


def body_of(path: str, one: bool | None) -> dict[str, Any]:
    """Return a request on which the model makes three calls."""
    said = [{"role": "user", "content": CALLS}]
    openai = {} if one is None else {"parallel_tool_calls": not one}
    match path:
        case "/v1/chat/completions":
            tool: dict[str, Any] = {"type": "function", "function": {"name": "add", "parameters": SCHEMA}}
            return {"messages": said, "tools": [tool], **openai}
        case "/v1/responses":
            return {"input": said, "tools": [{"type": "function", "name": "add", "parameters": SCHEMA}], **openai}
        case _:
            choice = {} if one is None else {"tool_choice": {"type": "auto", "disable_parallel_tool_use": one}}
            return {"messages": said, "tools": [{"name": "add", "input_schema": SCHEMA}], "max_tokens": 500, **choice}


def whole_calls(path: str, answer: Answer) -> list[Any]:
    """Return the arguments of each call of an answer that is not streamed."""
    told = json.loads(answer.body)
    match path:
        case "/v1/chat/completions":
            [choice] = told["choices"]
            assert choice["finish_reason"] == "tool_calls"
            return [json.loads(call["function"]["arguments"]) for call in choice["message"]["tool_calls"]]
        case "/v1/responses":
            calls = [item for item in told["output"] if item["type"] == "function_call"]
            return [json.loads(call["arguments"]) for call in calls]
        case _:
            assert told["stop_reason"] == "tool_use"
            return [block["input"] for block in told["content"] if block["type"] == "tool_use"]


def streamed_calls(path: str, answer: Answer) -> list[Any]:
    """Return the same of a stream."""
    data = [data for _, data in answer.events if data != "[DONE]"]
    match path:
        case "/v1/chat/completions":
            texts: dict[int, str] = {}
            for piece in (p for d in data for c in d["choices"] for p in c["delta"].get("tool_calls", ())):
                texts[piece["index"]] = texts.get(piece["index"], "") + (piece["function"].get("arguments") or "")
            assert [c["finish_reason"] for d in data for c in d["choices"]][-1] == "tool_calls"
            return [json.loads(text) for text in texts.values()]
        case "/v1/responses":
            done = [d for d in data if d["type"] == "response.function_call_arguments.done"]
            return [json.loads(d["arguments"]) for d in done]
        case _:
            starts = [d for d in data if d["type"] == "content_block_start"]
            calls = {d["index"]: "" for d in starts if d["content_block"]["type"] == "tool_use"}
            for delta in data:
                if delta["type"] == "content_block_delta" and delta["index"] in calls:
                    calls[delta["index"]] += delta["delta"].get("partial_json", "")
            return [json.loads(text) for text in calls.values()]


@pytest.mark.parametrize(("one", "numbers"), [(None, (1, 2, 3)), (False, (1, 2, 3)), (True, (1,))])
@pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES])
def test_as_many_calls_as_the_client_takes(
    path: str, one: bool | None, numbers: tuple[int, ...], tmp_path: Path
) -> None:
    async def both() -> tuple[Answer, Answer]:
        async with client_app(tmp_path) as app:
            body = {"model": ALIAS, **body_of(path, one)}
            return await app.ask("POST", path, body), await app.ask("POST", path, {**body, "stream": True})

    whole, streamed = asyncio.run(both())
    wanted = [{"a": number} for number in numbers]
    assert whole_calls(path, whole) == wanted
    assert streamed_calls(path, streamed) == wanted
