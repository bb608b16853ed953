"""Tools of `/v1/responses` that are no plain functions: told to the model as functions, given back as they came."""

from __future__ import annotations

import json
import time
from typing import Any
from unittest.mock import AsyncMock

import pytest
from direct import Direct

from ashore.data.http.exchange import Exchange
from ashore.data.http.openai.dialects import RESPONSES_READER
from ashore.data.http.openai.responses_parse import items_of, messages_of, offered_tools, to_generation
from ashore.data.http.openai.responses_render import ResponseWriter
from ashore.data.http.openai.responses_types import FunctionCallItem, ResponsesRequest
from ashore.data.path import ChoiceEnded, Delta, Started, ToolCallDelta, UnknownFields, Usage

PATCH = {"type": "custom", "name": "apply_patch", "description": "d", "format": {"type": "grammar", "definition": "g"}}
SEARCH = {"type": "function", "name": "search", "parameters": {"type": "object"}}
MEMORY = {"type": "namespace", "name": "mcp__memory", "tools": [SEARCH, {**SEARCH, "name": "store"}]}


def asked(**fields: Any) -> tuple[ResponsesRequest, tuple[str, ...]]:
    body = {"model": "m", "input": [{"role": "user", "content": "Hi"}], **fields}
    return RESPONSES_READER.read(json.dumps(body).encode(), UnknownFields())


def events_of(request: ResponsesRequest, *pieces: ToolCallDelta) -> list[dict[str, Any]]:
    writer = ResponseWriter(request, "resp_1", background=False, with_logprobs=False)
    out = writer.opened(Started(model="m", release="m-1", precision="none", prompt_tokens=1, created_s=1))
    for piece in pieces:
        out += writer.delta(Delta(choice=0, tool_calls=(piece,)))
    out += writer.ended(ChoiceEnded(choice=0, reason="tool_calls"))
    out += writer.closed(Usage(prompt_tokens=1, completion_tokens=1, cached_tokens=0, reasoning_tokens=0))
    return [json.loads(line[6:]) for line in out.decode().splitlines() if line.startswith("data: ")]


def test_a_call_of_free_text_goes_out_as_one() -> None:
    request, said = asked(tools=[PATCH])
    assert said == ("tools[].format",)
    first = ToolCallDelta(index=0, id="call_1", name="apply_patch", arguments='{"input": "+')
    events = events_of(request, first, ToolCallDelta(index=0, arguments=' é"}'))
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.custom_tool_call_input.delta",
        "response.custom_tool_call_input.done",
        "response.output_item.done",
        "response.completed",
    ]
    item = events[-2]["item"]
    assert (item["type"], item["call_id"], item["name"], item["input"]) == (
        "custom_tool_call",
        "call_1",
        "apply_patch",
        "+ é",
    )
    assert events[-1]["response"]["output"] == [item]
    assert events[-1]["response"]["tools"] == [PATCH]


def test_free_text_that_the_model_wrote_in_another_form_is_not_lost() -> None:
    request, _ = asked(tools=[PATCH])
    events = events_of(request, ToolCallDelta(index=0, id="c", name="apply_patch", arguments="+ a"))
    assert events[-2]["item"]["input"] == "+ a"


def test_tools_of_a_namespace_are_told_each_and_called_with_it() -> None:
    request, said = asked(tools=[SEARCH, MEMORY])
    assert said == ()
    tools = offered_tools(request)
    assert {name: (one.namespace, one.tool.name) for name, one in tools.items()} == {
        "search": (None, "search"),
        "mcp__memory__search": ("mcp__memory", "search"),
        "store": ("mcp__memory", "store"),
    }
    for name, expected in (("mcp__memory__search", ("search", "mcp__memory")), ("search", ("search", None))):
        item = events_of(request, ToolCallDelta(index=0, id="c", name=name, arguments="{}"))[-2]["item"]
        assert (item["name"], item.get("namespace")) == expected


def test_a_past_call_has_the_name_that_the_model_is_told_now() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "search", "namespace": "mcp__memory", "arguments": "{}"}
    request, said = asked(tools=[SEARCH, MEMORY], input=[call])
    assert said == ()
    names = {(one.namespace, one.tool.name): name for name, one in offered_tools(request).items()}
    assert messages_of(items_of(request), names)[0].tool_calls[0].name == "mcp__memory__search"


def test_the_grammar_of_free_text_is_told() -> None:
    request, _ = asked(tools=[PATCH], tool_choice={"type": "custom", "name": "apply_patch"})
    scope = {"method": "POST", "path": "/v1/responses", "headers": [], "ashore.direct": Direct()}
    exchange = Exchange(scope, AsyncMock(), AsyncMock())
    generation = to_generation(request, exchange, ())
    assert generation.tool_choice == "tool:apply_patch"
    assert generation.tools[0].description.endswith("grammar:\ng")


@pytest.mark.parametrize("said, told", [({}, True), ({"parallel_tool_calls": False}, False)])
def test_parallel_tool_calls_come_back_as_they_were_asked_for(said: dict[str, Any], told: bool) -> None:
    request, _ = asked(**said)
    responses = [event["response"] for event in events_of(request) if "response" in event]
    assert [response["parallel_tool_calls"] for response in responses] == [told] * 3


def test_many_calls_in_a_turn_take_time_in_proportion() -> None:
    """A chain of stored responses has 200,000 of them in 16 MiB, and a request of 150 bytes names it."""

    def took_s(num_calls: int) -> float:
        items = [FunctionCallItem(type="function_call", call_id="c", name="f", arguments="{}")] * num_calls
        took = []
        for _ in range(3):
            began_s = time.thread_time()
            [turn] = messages_of(items)
            took.append(time.thread_time() - began_s)
            assert len(turn.tool_calls) == num_calls
        return min(took)

    assert took_s(24_000) < 30 * took_s(3_000), "eight times as many; the square would be 64 times as long"
