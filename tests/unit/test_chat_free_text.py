"""Tools of type `custom` on chat completions: told to the model as functions, called and sent back as free text."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Final

import openai.types.chat as official
from client_app import ALIAS, Answer, client_app

PATCH: Final = {"type": "custom", "custom": {"name": "patch", "description": "Apply a patch"}}
SUM: Final = {"type": "function", "function": {"name": "sum", "parameters": {"type": "object"}}}
CALL: Final = '<tool_call>{"name": "patch", "arguments": {"input": "+ é\\n- b"}}</tool_call>'
PLAIN: Final = '<tool_call>{"name": "sum", "arguments": {"a": 1}}</tool_call>'


def ask(folder: Path, said: str, **fields: Any) -> Answer:
    async def main() -> Answer:
        async with client_app(folder) as app:
            messages = fields.pop("messages", [{"role": "user", "content": said}])
            body = {"model": ALIAS, "messages": messages, "tools": [PATCH, SUM], **fields}
            return await app.ask("POST", "/v1/chat/completions", body)

    return asyncio.run(main())


def test_a_call_of_free_text_comes_back_as_one(tmp_path: Path) -> None:
    answer = ask(tmp_path, CALL)
    completion = official.ChatCompletion.model_validate_json(answer.body, strict=True)
    choice = completion.choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.tool_calls is not None
    call = choice.message.tool_calls[0]
    assert isinstance(call, official.ChatCompletionMessageCustomToolCall)
    assert (call.type, call.custom.name, call.custom.input) == ("custom", "patch", "+ é\n- b")
    assert "function" not in json.loads(answer.body)["choices"][0]["message"]["tool_calls"][0]
    assert answer.ignored == []


def test_a_function_beside_it_stays_a_function(tmp_path: Path) -> None:
    call = json.loads(ask(tmp_path, PLAIN).body)["choices"][0]["message"]["tool_calls"][0]
    assert (call["type"], call["function"]) == ("function", {"name": "sum", "arguments": '{"a": 1}'})


def test_a_stream_tells_free_text_whole_and_once(tmp_path: Path) -> None:
    events = [data for _, data in ask(tmp_path, CALL + PLAIN, stream=True).events if data != "[DONE]"]
    pieces = [piece for data in events for piece in data["choices"][0]["delta"].get("tool_calls", ())]
    first, text, *rest = pieces
    assert (first["type"], first["custom"]) == ("custom", {"name": "patch", "input": ""})
    assert text == {"index": 0, "custom": {"input": "+ é\n- b"}}
    assert (rest[0]["type"], rest[0]["index"], rest[0]["function"]["name"]) == ("function", 1, "sum")
    assert "".join(piece["function"]["arguments"] for piece in rest) == '{"a": 1}'
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"
    alone = ask(tmp_path, CALL, stream=True).events
    inputs = [p["custom"]["input"] for _, d in alone[:-1] for p in d["choices"][0]["delta"].get("tool_calls", ())]
    assert inputs == ["", "+ é\n- b"]


def test_what_is_sent_back_is_read_again(tmp_path: Path) -> None:
    called = {"id": "call_1", "type": "custom", "custom": {"name": "patch", "input": "+ a"}}
    messages = [
        {"role": "user", "content": CALL},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "call_1", "content": "applied"},
    ]
    answer = ask(tmp_path, "", messages=messages)
    assert json.loads(answer.body)["choices"][0]["message"]["content"] == "applied"


def test_a_grammar_is_said_not_to_be_enforced(tmp_path: Path) -> None:
    form = {"type": "grammar", "grammar": {"syntax": "lark", "definition": 'start: "a"'}}
    tool = {"type": "custom", "custom": {"name": "patch", "format": form}}
    answer = ask(tmp_path, CALL, tools=[tool])
    assert answer.status == 200 and answer.ignored == ["tools[].custom.format"]


def test_a_choice_of_free_text_names_it(tmp_path: Path) -> None:
    answer = ask(tmp_path, CALL, tool_choice={"type": "custom", "custom": {"name": "else"}})
    assert answer.status == 400 and b"else" in answer.body
