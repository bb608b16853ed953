"""Bodies in the shape that real clients send, and what becomes of fields that ashore does not know."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from grammars import check_grammar, takes
from hypothesis import given
from hypothesis import strategies as st

from ashore.core.errors import AshoreError, InvalidGrammar, InvalidRequest, UnknownField
from ashore.data.authority import Principal
from ashore.data.engines import Grammar
from ashore.data.http.anthropic.dialects import COUNT_READER, IMAGE, MESSAGES_READER
from ashore.data.http.dialect import MOST_LEFT_OUT, REPORT_ALL, SHORT_BYTES, VALUE_BYTES, Reader
from ashore.data.http.openai.common import grammar_of
from ashore.data.http.openai.dialects import (
    CHAT_READER,
    COMPLETION_READER,
    EMBEDDING_READER,
    RESPONSES_READER,
    keep_allowed,
)
from ashore.data.http.openai.responses_parse import items_of, messages_of
from ashore.data.path import UnknownFields
from ashore.data.underway import NO_HOLD
from ashore.kit.decode import MOST_CONTAINERS, MOST_EXPONENTS, MOST_TEXTS, check_parts
from ashore.kit.metrics import Metrics

ALICE = Principal(kind="user", id="alice", tenant="bank-a")
HI: list[Any] = [{"role": "user", "content": "Hi"}]
CHAT: dict[str, Any] = {"model": "m", "messages": HI}
MESSAGES: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": HI}
RESPONSES: dict[str, Any] = {"model": "m", "input": "Hi"}
PROMPT: dict[str, Any] = {"model": "m", "prompt": "Hi"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
NAMESPACE = {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f", "parameters": SCHEMA}]}
CLAUDE_TOOL = {"name": "t", "input_schema": {}, "defer_loading": True, "allowed_callers": ["direct"]}

TAKEN: list[tuple[str, Reader[Any], dict[str, Any], str]] = [
    ("codex", RESPONSES_READER, {**RESPONSES, "client_metadata": {"a": "b"}}, "client_metadata"),
    ("codex null", RESPONSES_READER, {**RESPONSES, "prompt": None, "conversation": None}, ""),
    (
        "codex search",
        RESPONSES_READER,
        {**RESPONSES, "tools": [{"type": "web_search"}]},
        "tools[].web_search",
    ),
    (
        "codex mcp",
        RESPONSES_READER,
        {**RESPONSES, "tools": [NAMESPACE]},
        "",
    ),
    ("codex patch", RESPONSES_READER, {**RESPONSES, "tools": [{"type": "custom", "name": "p", "format": {}}]}, ""),
    ("codex truncation", RESPONSES_READER, {**RESPONSES, "truncation": "auto"}, "truncation"),
    (
        "codex reasoning",
        RESPONSES_READER,
        {**RESPONSES, "input": [{"type": "reasoning", "summary": [], "encrypted_content": "x"}, *HI]},
        "input[].encrypted_content",
    ),
    (
        "codex patched",
        RESPONSES_READER,
        {
            **RESPONSES,
            "input": [
                {"type": "custom_tool_call", "call_id": "c", "name": "p", "input": "text"},
                {"type": "custom_tool_call_output", "call_id": "c", "output": "done"},
            ],
        },
        "",
    ),
    ("a new field", RESPONSES_READER, {**RESPONSES, "of_tomorrow": 1}, "of_tomorrow"),
    ("claude", MESSAGES_READER, {**MESSAGES, "context_management": {"edits": []}}, "context_management"),
    ("claude effort", MESSAGES_READER, {**MESSAGES, "output_config": {"effort": "high"}}, ""),
    ("claude speed", MESSAGES_READER, {**MESSAGES, "speed": "fast", "diagnostics": {}}, "speed"),
    ("claude geo", MESSAGES_READER, {**MESSAGES, "inference_geo": "eu"}, "inference_geo"),
    (
        "claude tools",
        MESSAGES_READER,
        {
            **MESSAGES,
            "tools": [{"name": "t", "input_schema": {}, "defer_loading": True, "allowed_callers": ["direct"]}],
        },
        "tools[].defer_loading",
    ),
    (
        "claude search",
        MESSAGES_READER,
        {**MESSAGES, "tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        "tools[].web_search_20250305",
    ),
    ("claude count", COUNT_READER, {"model": "m", "messages": HI, "context_management": {}}, "context_management"),
    ("qwen", CHAT_READER, {**CHAT, "enable_thinking": False}, ""),
    ("deepseek", CHAT_READER, {**CHAT, "thinking": {"type": "enabled"}}, ""),
    ("openrouter", CHAT_READER, {**CHAT, "reasoning": {"effort": "low"}, "usage": {"include": True}}, "usage"),
    ("cline", CHAT_READER, {**CHAT, "max_tokens": -1}, ""),
    (
        "aider",
        CHAT_READER,
        {
            **CHAT,
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]}
            ],
        },
        "messages[].content[].cache_control",
    ),
    (
        "roo",
        CHAT_READER,
        {**CHAT, "messages": [{"role": "assistant", "content": "a", "reasoning": "b"}, *HI]},
        "messages[].reasoning",
    ),
    ("vllm json", CHAT_READER, {**CHAT, "guided_json": SCHEMA}, ""),
    ("vllm structured", CHAT_READER, {**CHAT, "structured_outputs": {"choice": ["a", "b"]}}, ""),
    ("vllm rest", CHAT_READER, {**CHAT, "add_generation_prompt": True, "request_id": "r"}, "request_id"),
    ("predicted", CHAT_READER, {**CHAT, "prediction": {"type": "content", "content": "x"}}, "prediction"),
    ("custom tool", CHAT_READER, {**CHAT, "tools": [{"type": "custom", "custom": {"name": "c"}}]}, ""),
    ("forces nothing", CHAT_READER, {**CHAT, "min_tokens": 0}, ""),
    ("vllm least tokens", COMPLETION_READER, {**PROMPT, "min_tokens": 3}, ""),
    (
        "begun answer",
        CHAT_READER,
        {**CHAT, "messages": [*HI, {"role": "assistant", "content": "I", "prefix": True}]},
        "",
    ),
    ("thinking", CHAT_READER, {**CHAT, "thinking": {"type": "enabled", "budget_tokens": 99}}, ""),
    ("thinking budget", CHAT_READER, {**CHAT, "enable_thinking": True, "thinking_budget": 99}, ""),
    ("gap", COMPLETION_READER, {**PROMPT, "suffix": "x", "stop_token_ids": [2]}, ""),
    ("vllm prompt", COMPLETION_READER, {**PROMPT, "priority": 3}, "priority"),
    ("input type", EMBEDDING_READER, {"model": "m", "input": "a", "input_type": "query"}, ""),
]


@pytest.mark.parametrize(("reader", "body", "said"), [row[1:] for row in TAKEN], ids=[row[0] for row in TAKEN])
def test_what_clients_send_is_taken_and_what_it_changes_nothing_is_said(
    reader: Reader[Any], body: dict[str, Any], said: str
) -> None:
    _, ignored = reader.read(json.dumps(body).encode(), UnknownFields())
    assert said in ignored if said else ignored == ()


REFUSED = [
    (CHAT_READER, {**CHAT, "of_tomorrow": 1}, "of_tomorrow"),
    (CHAT_READER, {**CHAT, "temprature": 1}, "temprature"),
    (CHAT_READER, {**CHAT, "functions": []}, "functions"),
    (CHAT_READER, {**CHAT, "think": False}, "think"),
    (CHAT_READER, {**CHAT, "best_of": 2}, "best_of"),
    (CHAT_READER, {**CHAT, "guided_json": SCHEMA, "response_format": {"type": "json_object"}}, "grammar"),
    (CHAT_READER, {**CHAT, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "image_url"),
    (CHAT_READER, {**CHAT, "n": "two", "request_id": "r"}, "n"),
    (COMPLETION_READER, {**PROMPT, "truncate_prompt_tokens": 3}, "truncate_prompt_tokens"),
    (
        RESPONSES_READER,
        {**RESPONSES, "tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}},
        "web_search",
    ),
    (
        MESSAGES_READER,
        {**MESSAGES, "tools": [{"type": "bash_1", "name": "b"}], "tool_choice": {"type": "tool", "name": "b"}},
        "bash_1",
    ),
    (MESSAGES_READER, {**MESSAGES, "messages": [{"role": "user", "content": [{"type": "image"}]}]}, "image"),
]


@pytest.mark.parametrize(("reader", "body", "word"), REFUSED)
def test_what_would_change_the_answer_is_refused(reader: Reader[Any], body: dict[str, Any], word: str) -> None:
    with pytest.raises((InvalidRequest, UnknownField), match=word):
        reader.read(json.dumps(body).encode(), UnknownFields())


@pytest.mark.parametrize(
    ("name", "hint"), [("think", "reasoning_effort"), ("best_of", "send n"), ("options", "fields")]
)
def test_a_refusal_says_what_to_send_instead(name: str, hint: str) -> None:
    with pytest.raises(UnknownField) as refused:
        CHAT_READER.read(json.dumps({**CHAT, name: 2}).encode(), UnknownFields())
    assert hint in refused.value.hint and refused.value.param == name


def test_the_operator_says_what_becomes_of_fields_that_nobody_knows() -> None:
    chat, messages = ({**body, "of_tomorrow": 1} for body in (CHAT, MESSAGES))
    assert CHAT_READER.read(json.dumps(chat).encode(), UnknownFields(chat="report"))[1] == ("of_tomorrow",)
    with pytest.raises(UnknownField):
        MESSAGES_READER.read(json.dumps(messages).encode(), UnknownFields(messages="refuse"))


@pytest.mark.parametrize(
    ("sent", "kind", "text"),
    [
        ({"guided_json": {"type": "object"}}, "json_schema", '{"type":"object"}'),
        ({"guided_json": '{"type": "object"}'}, "json_schema", '{"type":"object"}'),
        ({"structured_outputs": {"json_object": True}}, "json_object", ""),
        ({"guided_regex": "[0-9]+"}, "regex", "[0-9]+"),
        ({"guided_choice": ["yes", 'no "q"', "é"]}, "lark", 'start: "yes" | "no \\"q\\"" | "é"'),
        ({"structured_outputs": {"choice": ["a"], "json_object": False}}, "lark", 'start: "a"'),
        ({"guided_grammar": 'start: "a" | "b"'}, "lark", 'start: "a" | "b"'),
        ({"response_format": {"type": "regex", "pattern": "a*"}}, "regex", "a*"),
    ],
)
def test_grammars_of_vllm_are_response_formats(sent: dict[str, Any], kind: str, text: str) -> None:
    for reader, body in ((CHAT_READER, CHAT), (COMPLETION_READER, {"model": "m", "prompt": "p"})):
        asked, said = reader.read(json.dumps({**body, **sent}).encode(), UnknownFields())
        assert grammar_of(asked.response_format) == Grammar(kind=kind, text=text)  # type: ignore[arg-type,attr-defined]
        check_grammar(Grammar(kind=kind, text=text))  # type: ignore[arg-type]
        assert said == ()


def test_a_grammar_in_gbnf_is_translated() -> None:
    asked, _ = CHAT_READER.read(
        json.dumps({**CHAT, "guided_grammar": 'root ::= "a" rest\nrest ::= "b" | "c"'}).encode(), UnknownFields()
    )
    grammar = grammar_of(asked.response_format)
    assert grammar is not None and takes(grammar, "ab", "ac", "a") == [True, True, False]
    check_grammar(grammar)
    assert takes(Grammar(kind="lark", text='start: "a ::= b"'), "a ::= b") == [True]
    for broken in ('root ::= "a" (', 'other ::= "a"', "root ::= " + "(" * 900 + '"a"' + ")" * 900):
        with pytest.raises(InvalidGrammar, match="GBNF"):
            check_grammar(Grammar(kind="lark", text=broken))


def test_what_of_vllms_grammars_cannot_be_had_is_named_and_what_changes_nothing_said() -> None:
    for sent, words in (
        ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag"),
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_choice": ["a", 1]}, "guided_choice"),
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_json": {}, "guided_regex": "a"}, "more than one grammar"),
        ({"bad_words": ["x"]}, "bad_words"),
        ({"allowed_token_ids": [1]}, "allowed_token_ids"),
    ):
        with pytest.raises((InvalidRequest, UnknownField), match=words):
            CHAT_READER.read(json.dumps({**CHAT, **sent}).encode(), UnknownFields())
    sent = {"guided_regex": "a", "guided_decoding_backend": "xgrammar"}
    assert CHAT_READER.read(json.dumps({**CHAT, **sent}).encode(), UnknownFields())[1] == ("guided_decoding_backend",)


def test_a_tool_without_what_its_type_says_is_named() -> None:
    for tool in ({"type": "custom", "function": {"name": "p"}}, {"custom": {"name": "p"}}):
        with pytest.raises(InvalidRequest) as refused:
            CHAT_READER.read(json.dumps({**CHAT, "tools": [tool]}).encode(), UnknownFields())
        assert refused.value.param == f"tools[0].{tool.get('type', 'function')}"


def test_allowed_tools_leave_the_others_out() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("a", "b")]
    choice = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "b"}}]},
    }
    request, _ = CHAT_READER.read(json.dumps({**CHAT, "tools": tools, "tool_choice": choice}).encode(), UnknownFields())
    assert request.tool_choice == "required"
    assert [tool.function.name for tool in request.tools or ()] == ["b"]


def test_a_screenshot_that_a_tool_gave_is_a_line_of_text() -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": {}}]}
    body = {**MESSAGES, "messages": [{"role": "user", "content": [result]}]}
    request, ignored = MESSAGES_READER.read(json.dumps(body).encode(), UnknownFields())
    assert ignored == ("messages[].content[].content[].image",)
    assert request.messages[0].content[0].content[0].text == IMAGE


def test_what_codex_sends_back_of_a_custom_tool_is_a_call_and_its_answer() -> None:
    items = [
        {"type": "custom_tool_call", "call_id": "c", "name": "p", "input": "+ a", "status": "completed"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "done"},
        {"type": "web_search_call", "id": "ws_1"},
    ]
    request, ignored = RESPONSES_READER.read(json.dumps({**RESPONSES, "input": items}).encode(), UnknownFields())
    assert [item.type for item in items_of(request)] == ["custom_tool_call", "custom_tool_call_output"]
    call, output = messages_of(items_of(request))
    assert json.loads(call.tool_calls[0].arguments) == {"input": "+ a"}
    assert (output.role, output.content, output.tool_call_id) == ("tool", "done", "c")
    assert ignored == ("input[].web_search_call",)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "name", "tools", "content"]), inner)
    ),
    max_leaves=8,
)


@given(st.sampled_from(TAKEN), st.data())
def test_whatever_stands_in_a_field_the_error_is_one_of_ours(row: tuple[Any, ...], data: st.DataObject) -> None:
    _, reader, body, _ = row
    names = [*body, "tools", "tool_choice", "thinking", "reasoning", "output_config", "structured_outputs", "include"]
    broken = {**body, "unknown": 1, data.draw(st.sampled_from(names)): data.draw(json_values)}
    try:
        reader.read(json.dumps(broken).encode(), REPORT_ALL)
    except AshoreError:
        return


def test_many_objects_with_an_unknown_field_are_refused_before_each_is_looked_at() -> None:
    parts = [{"type": "text", "text": "a", "x": 1}] * 60_000
    body = {**MESSAGES, "messages": [{"role": "user", "content": parts}]}
    with pytest.raises(InvalidRequest, match="50,000 objects"):
        MESSAGES_READER.read(json.dumps(body).encode(), UnknownFields())


@pytest.mark.parametrize(
    ("reader", "body"),
    [
        (RESPONSES_READER, {**RESPONSES, "input": HI * 60_000}),
        (RESPONSES_READER, {**RESPONSES, "input": [{"type": "web_search_call"}] * 60_000}),
        (RESPONSES_READER, {**RESPONSES, "tools": [{"type": "web_search"}] * 60_000}),
        (CHAT_READER, {**CHAT, "tools": [{"type": "other"}] * 60_000}),
        (MESSAGES_READER, {**MESSAGES, "messages": [{"role": "user", "content": [{"type": "mcp_tool_use"}] * 60_000}]}),
    ],
)
def test_parts_that_are_looked_at_one_by_one_are_counted_in_sum(reader: Reader[Any], body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="50,000 objects"):
        reader.read(json.dumps(body).encode(), REPORT_ALL)


@pytest.mark.parametrize("nested", [False, True])
def test_unknown_fields_are_bounded_in_number_and_in_what_is_kept_of_them(nested: bool) -> None:
    def body(num: int) -> bytes:
        fields = {f"{'u' * 200}{number}": 1 for number in range(num)}
        if nested:
            return json.dumps({**CHAT, "messages": [{**HI[0], **fields}]}).encode()
        return json.dumps({**CHAT, **fields}).encode()

    said = CHAT_READER.read(body(MOST_LEFT_OUT), REPORT_ALL)[1]
    assert all(len(path) <= 100 for path in said)
    with pytest.raises(InvalidRequest, match="more than 64 unknown fields"):
        CHAT_READER.read(body(MOST_LEFT_OUT + 1), REPORT_ALL)
    kinds = [{"type": f"t{number}"} for number in range(MOST_LEFT_OUT + 1)]
    with pytest.raises(InvalidRequest, match="more than 64 unknown fields"):
        CHAT_READER.read(json.dumps({**CHAT, "tools": kinds}).encode(), REPORT_ALL)


@pytest.mark.parametrize(
    "name", ["a.cache_control", "options.x", "prediction.x", "b[].thought_signature", "*.citations"]
)
def test_a_name_with_a_dot_in_it_is_no_path(name: str) -> None:
    body = json.dumps({**CHAT, name: 1}).encode()
    with pytest.raises(UnknownField, match="unknown field"):
        CHAT_READER.read(body, UnknownFields())
    assert CHAT_READER.read(body, REPORT_ALL)[1] == (json.dumps(name),)


def test_the_counter_of_ignored_fields_has_no_more_rows_than_the_dialect_has_names() -> None:
    metrics = Metrics()

    class Serving:
        async def at_length(self, num_chars: int, work: Callable[[], Any], principal: object) -> Any:
            return work()

    async def ask(reader: Reader[Any], body: dict[str, Any]) -> None:
        async def given(limits: object) -> bytes:
            return json.dumps(body).encode()

        app: Any = SimpleNamespace(
            serving=Serving(), limits=SimpleNamespace(unknown_fields=REPORT_ALL), metrics=metrics
        )
        exchange: Any = SimpleNamespace(ignored=(), route="/", body=given)
        await reader.body_of(app, exchange, ALICE)

    for number in range(50):
        asyncio.run(ask(CHAT_READER, {**CHAT, f"x{number}.cache_control": 1, "cache_salt": "s"}))
        kind = {"type": f"t{number}.cache_control"}
        asyncio.run(ask(CHAT_READER, {**CHAT, "tools": [kind]}))
        asyncio.run(ask(RESPONSES_READER, {**RESPONSES, "include": [f"i{number}.cache_control"]}))
        asyncio.run(ask(MESSAGES_READER, {**MESSAGES, "output_config": {f"c{number}.cache_control": 1}}))
    rows = [line for line in metrics.page().decode().splitlines() if line.startswith("ashore_ignored_fields")]
    assert 2 <= len(rows) <= 4, rows


def test_allowed_tools_are_found_without_comparing_each_with_each() -> None:
    compared = 0

    class Name(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    def tools(prefix: str) -> list[Any]:
        return [{"type": "function", "function": {"name": Name(f"{prefix}{at}")}} for at in range(1000)]

    body: dict[str, Any] = {"tools": tools("a")}
    keep_allowed(body, {"tools": tools("b")})
    assert body["tools"] == []
    assert compared < 10_000


def test_a_long_body_that_does_not_fit_is_looked_at_apart_from_the_loop() -> None:
    asked: list[int] = []

    class Serving:
        async def at_length(self, num_chars: int, work: Callable[[], Any], principal: object) -> Any:
            asked.append(num_chars)
            return work()

    class Asked:
        ignored, route = (), "/v1/chat/completions"

        async def body(self, limits: object) -> bytes:
            return json.dumps({**CHAT, "x": 1}).encode()

    app = SimpleNamespace(serving=Serving(), limits=SimpleNamespace(unknown_fields=REPORT_ALL), metrics=Metrics())
    exchange: Any = Asked()
    asyncio.run(CHAT_READER.body_of(app, exchange, ALICE))  # type: ignore[arg-type]
    assert exchange.ignored == ("x",)
    assert asked == [len(json.dumps({**CHAT, "x": 1}))]


@pytest.mark.parametrize("chars", [10, SHORT_BYTES])
def test_a_long_body_is_read_apart_from_the_loop_with_what_is_made_of_it(chars: int) -> None:
    apart: list[bool] = []
    made_apart: list[bool] = []

    class Serving:
        async def at_length(self, num_chars: int, work: Callable[[], Any], principal: object) -> Any:
            apart.append(True)
            try:
                return work()
            finally:
                apart.pop()

    async def given(limits: object) -> bytes:
        return json.dumps({**CHAT, "messages": [{"role": "user", "content": "x" * chars}]}).encode()

    app: Any = SimpleNamespace(serving=Serving(), limits=SimpleNamespace(unknown_fields=REPORT_ALL), metrics=Metrics())
    exchange: Any = SimpleNamespace(ignored=(), route="/", body=given)
    request, made = asyncio.run(
        CHAT_READER.made_of(app, exchange, ALICE, lambda request: made_apart.append(bool(apart)) or request.model)
    )
    assert made == request.model == CHAT["model"] and made_apart == [chars == SHORT_BYTES]


def test_objects_and_lists_of_a_body_are_bounded_and_texts_are_none() -> None:
    most = b"[" + b"[],{}," * (MOST_CONTAINERS // 2 - 1) + b"[]]"
    check_parts(most)
    with pytest.raises(InvalidRequest, match="more than 100,000 objects and lists"):
        check_parts(most.replace(b"[]]", b"[],[]]"))
    code = json.dumps({"code": 'a["x\\\\"] = {};\n' * MOST_CONTAINERS}).encode()
    assert code.count(b"{") > MOST_CONTAINERS
    check_parts(code)
    with pytest.raises(InvalidRequest):
        check_parts(code + most + b"{" * 9)


@pytest.mark.parametrize("rest", ['\\"', '"', '"\\\\', '"a\\'])
def test_what_stands_in_texts_that_do_not_end_is_found_in_one_pass(rest: str) -> None:
    """Two million quotes held the interpreter for hours."""
    began = time.thread_time()
    with suppress(InvalidRequest):
        check_parts(b"[" * (MOST_CONTAINERS + 1) + rest.encode() * 2_000_000)
    assert time.thread_time() - began < 5


@pytest.mark.parametrize(
    "body",
    [
        b'{"metadata": [' + b"1e300," * 300_000 + b"1]}",
        b'{"logit_bias": {' + b'"1":5e-324,' * 200_000 + b'"1":1}}',
        b"{" + b'"top_p":5e-324,' * 200_000 + b'"top_p":1}',
        json.dumps({**CHAT, "guided_json": "[" + "1E308," * 300_000 + "1]"}).encode(),
    ],
    ids=["anything", "one key again and again", "one field again and again", "a schema in a text"],
)
def test_numbers_that_take_long_to_read_are_refused_at_once(body: bytes) -> None:
    """The decoder takes up to 10 µs for a number with an exponent: as many as a body may have held every request for 20
    s, until the worker was killed."""

    class Serving:
        async def at_length(self, num_chars: int, work: Callable[[], Any], principal: object) -> Any:
            return work()

    async def given(limits: object) -> bytes:
        return body

    app: Any = SimpleNamespace(serving=Serving(), limits=SimpleNamespace(unknown_fields=REPORT_ALL), metrics=Metrics())
    exchange: Any = SimpleNamespace(ignored=(), route="/", body=given, hold=NO_HOLD)
    began = time.thread_time()
    with pytest.raises(InvalidRequest, match="more than 2,000 numbers with an exponent"):
        asyncio.run(CHAT_READER.body_of(app, exchange, ALICE))
    assert time.thread_time() - began < 1


def test_the_values_of_a_body_count_as_the_memory_that_they_take() -> None:
    """16 MB of short values in `metadata` took 208 MiB as long as the answer was made, and counted as 16."""
    counted: list[int] = []

    class Serving:
        async def at_length(self, num_chars: int, work: Callable[[], Any], principal: object) -> Any:
            return work()

    def read(body: dict[str, Any]) -> list[int]:
        async def given(limits: object) -> bytes:
            return json.dumps({**CHAT, **body}).encode()

        counted.clear()
        hold = SimpleNamespace(grow_read=counted.append)
        exchange: Any = SimpleNamespace(ignored=(), route="/", body=given, hold=hold)
        asyncio.run(CHAT_READER.body_of(app, exchange, ALICE))
        return counted

    app: Any = SimpleNamespace(serving=Serving(), limits=SimpleNamespace(unknown_fields=REPORT_ALL), metrics=Metrics())
    assert read({"metadata": ["ab"] * 50_000}) == [(50_000 + 2) * VALUE_BYTES]
    assert read({"messages": [{"role": "user", "content": "1,2," * 50_000}]}) == [0]
    assert read({"messages": [{"role": "user", "content": f"{'word ' * 50}, " * 5_000}]}) == []


@pytest.mark.parametrize("piece", ['"",', '"\\\\",', '"k":1,'])
def test_texts_and_names_of_a_body_are_bounded(piece: str) -> None:
    """A million names held the interpreter for half a second, texts beside 100,001 brackets likewise."""
    check_parts(b"[" + piece.encode() * MOST_TEXTS + b"1]")
    began = time.thread_time()
    with pytest.raises(InvalidRequest, match="more than 300,000 texts and names"):
        check_parts(b"[" * (MOST_CONTAINERS + 1) + piece.encode() * 2_600_000)
    assert time.thread_time() - began < 1
    check_parts(json.dumps({"code": '"",' * MOST_TEXTS}).encode())


def test_what_looks_like_numbers_with_an_exponent_inside_texts_does_not_count() -> None:
    check_parts(json.dumps({"id": "3e30" * 10_000, "list": [1e300] * MOST_EXPONENTS}).encode())


def test_a_budget_of_thinking_is_read_in_both_forms() -> None:
    for form in ({"thinking": {"type": "enabled", "budget_tokens": 99}}, {"thinking_budget": 99}):
        assert CHAT_READER.read(json.dumps({**CHAT, **form}).encode(), UnknownFields())[0].thinking_budget == 99
    off = {"thinking": {"type": "disabled", "budget_tokens": 99}}
    assert CHAT_READER.read(json.dumps({**CHAT, **off}).encode(), UnknownFields())[0].thinking_budget is None
