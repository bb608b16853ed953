"""What a client that asked wrongly is told: the values that would do, the route, the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tiny_text import byte_level

from ashore.control.faces.table import ROUTES
from ashore.core.errors import (
    AshoreError,
    DiskFull,
    EngineFailed,
    EnvironmentFault,
    InvalidGrammar,
    InvalidRequest,
    NotReady,
    Overloaded,
    PermissionDenied,
    StateUnavailable,
    UnknownRoute,
    UnsupportedByEngine,
)
from ashore.core.ids import TenantId
from ashore.data.authority import Decision, KeyScope, PolicyAuthority, Principal
from ashore.data.authority.authority import refusal
from ashore.data.engines import Grammar
from ashore.data.engines.sampling.constraint import GrammarCompiler
from ashore.data.grpc.status import trailing_metadata
from ashore.data.http.errors import anthropic_error, openai_error
from ashore.data.http.openai.responses_parse import item_of, listed
from ashore.data.http.openai.responses_types import ResponsesRequest
from ashore.data.http.openai.types import ChatRequest
from ashore.data.http.routes import RouteTable
from ashore.data.path.orders import check_writes
from ashore.kit.decode import decode

HOME = "/var/lib/ashore"
TURN = [{"role": "user", "content": "hello"}]
CHAT = msgspec.json.Decoder(ChatRequest)
RESPONSES = msgspec.json.Decoder(ResponsesRequest)


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({"messages": [{"role": "usr", "content": "x"}]}, "messages[0].role", "'usr'; expected assistant or developer"),
        ({"messages": TURN, "modalities": ["text", "audio"]}, "modalities[1]", "is 'audio'; expected text"),
        (
            {"messages": TURN, "tools": [{"type": "w", "function": {"name": "f"}}]},
            "tools[0].type",
            "expected custom or function",
        ),
        ({"messages": TURN, "response_format": {"type": "xml"}}, "response_format.type", "is 'xml', which"),
    ],
)
def test_a_value_that_is_none_of_a_few_is_told_which_would_do(body: dict[str, Any], param: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode(json.dumps({"model": "m", **body}).encode(), CHAT)
    assert refused.value.param == param
    assert said in refused.value.message
    if "which ashore does not accept" in refused.value.message:
        assert refused.value.hint == "expected grammar, json_object, json_schema, regex, text"


def test_a_built_in_tool_of_responses_is_refused_with_what_there_is() -> None:
    with pytest.raises(InvalidRequest, match=r"tools\[0\]\.type is 'web_search', which ashore does not accept"):
        decode(b'{"model": "m", "input": "x", "tools": [{"type": "web_search"}]}', RESPONSES)


def test_what_clients_of_reasoning_models_send_is_taken() -> None:
    decode(
        json.dumps(
            {"model": "m", "messages": TURN, "reasoning_effort": "low", "verbosity": "low", "modalities": ["text"]}
        ).encode(),
        CHAT,
    )
    decode(b'{"model": "m", "input": "x", "include": ["reasoning.encrypted_content"]}', RESPONSES)


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/zzzzzzzz", "/openapi.json lists every path"),
        ("/v1/chat/completion", "did you mean '/v1/chat/completions'"),
        ("/api/pull", "Ollama's API is served where `[http] ollama = true`, and to read and ask only"),
        ("/v1/audio/speech", "it has no audio API"),
        ("/admin/v1/tenant", "did you mean '/admin/v1/tenants'"),
    ],
)
def test_a_path_that_is_none_leads_to_one_that_is(path: str, hint: str) -> None:
    with pytest.raises(UnknownRoute) as refused:
        RouteTable(ROUTES).find("GET", path)
    assert hint in refused.value.hint


@pytest.mark.parametrize("path", ["/v1/records", "/v1/tenants", "/v1/budget", "/tenants", "/v1/audit/records"])
def test_no_path_of_clients_leads_to_the_admin_api(path: str) -> None:
    with pytest.raises(UnknownRoute) as refused:
        RouteTable(ROUTES).find("GET", path)
    assert "/admin" not in refused.value.hint


def test_an_embedder_that_is_asked_to_write_says_what_it_is() -> None:
    check_writes("chat", embedder=False)
    with pytest.raises(UnsupportedByEngine, match="'minilm' is an encoder"):
        check_writes("minilm", embedder=True)


def test_the_first_key_is_told_what_it_is_for() -> None:
    denied = Decision(allowed=False, action="release:read", resource="server", why="no rule allows it")
    first = Principal(id="first-key", tenant=TenantId("default"), kind="first-key")
    assert "ashore access user create" in refusal(first, denied).hint


@pytest.mark.parametrize(
    ("action", "hint"),
    [
        ("release:read", "a security officer can grant it"),
        ("budget:write", "this belongs to the system-administrator; ask one of them"),
        ("role:grant", "this belongs to the security-officer; ask one of them"),
    ],
)
def test_a_refusal_names_who_may_help(action: str, hint: str) -> None:
    officer = Principal(id="sec", tenant=TenantId("default"), roles=frozenset({"viewer"}))
    with pytest.raises(PermissionDenied) as refused:
        PolicyAuthority().require(officer, action, "elsewhere")
    assert hint in refused.value.hint


def test_a_holder_of_the_office_is_not_sent_to_itself() -> None:
    narrow = KeyScope(actions=("infer",))
    admin = Principal(id="op", tenant=TenantId("default"), roles=frozenset({"system-administrator"}), scope=narrow)
    with pytest.raises(PermissionDenied) as refused:
        PolicyAuthority().require(admin, "budget:write", "server")
    assert "belongs to" not in refused.value.hint


@pytest.mark.parametrize(
    ("item", "parts"),
    [
        ({"role": "user", "content": "hi"}, [{"type": "input_text", "text": "hi"}]),
        ({"role": "assistant", "content": "hi"}, [{"type": "output_text", "text": "hi", "annotations": []}]),
        ({"role": "user", "content": [{"type": "input_text", "text": "hi"}]}, [{"type": "input_text", "text": "hi"}]),
    ],
)
def test_listed_messages_have_their_text_in_parts(item: dict[str, Any], parts: list[dict[str, Any]]) -> None:
    shown = listed(item_of(item, "input[0]"))
    assert [{k: v for k, v in part.items() if v is not None} for part in shown["content"]] == parts
    assert shown["status"] == "completed"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Overloaded(f"{HOME}/state.db was locked by another process for 5 s"), "state.db was locked by another"),
        (DiskFull(f"no room left on the disk for {HOME}/state.db", hint=f"free {HOME}/logs"), "disk for state.db"),
        (EnvironmentFault(f"'{HOME}/audit/x.log': no such file"), "'x.log': no such file"),
        (NotReady("ask http://10.0.0.1:8080/a/b or /readyz, 5/6 are up"), "ask [address] or /readyz, 5/6"),
        (NotReady("node-1.bank.example:8101, [fe80::1]:7 and 10.0.0.1 are away"), "[address], [address] and [address]"),
        (EngineFailed("vLLM cannot be reached at http://127.0.0.1:8101: ConnectError"), "at [address]: ConnectError"),
        (StateUnavailable("postgresql://10.0.0.1:5/x cannot be reached: 10.0.0.1"), "The state database cannot"),
        (UnknownRoute("no such path: '/admin/v1/x'"), "no such path: '/admin/v1/x'"),
    ],
)
def test_a_client_hears_the_name_of_a_file_and_not_where_it_lies(fault: AshoreError, said: str) -> None:
    details = dict(trailing_metadata(fault))["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    for answer in (openai_error(fault), anthropic_error(fault, "r"), details):
        assert HOME.encode() not in answer and b"10.0.0.1" not in answer and said.encode() in answer


def test_a_schema_that_cannot_be_followed_is_refused_without_the_state_of_the_parser(tmp_path: Path) -> None:
    byte_level(tmp_path)
    compiler = GrammarCompiler(tmp_path, vocab_size=4096)
    try:
        with pytest.raises(InvalidGrammar) as caught:
            compiler.compile(Grammar(kind="json_schema", text='{"$ref": "#"}')).result(30)
    finally:
        compiler.close()
    assert caught.value.message.startswith("the grammar cannot be followed further: it allows no output")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"temperature": 3}, "temperature: expected a number of at most 2.0"),
        ({"temperature": "hot"}, "temperature: expected a number or null, got a string"),
        ({"stream": 1}, "stream: expected true or false or null, got a whole number"),
        ({"messages": {}}, "messages: expected a list, got an object"),
        ({"model": 4}, "model: expected a string, got a whole number"),
    ],
)
def test_types_are_told_in_the_words_of_json(body: dict[str, object], said: str) -> None:
    whole = {"model": "m", "messages": [{"role": "user", "content": "x"}], **body}
    with pytest.raises(InvalidRequest) as refused:
        decode(json.dumps(whole).encode(), msgspec.json.Decoder(ChatRequest))
    assert refused.value.message == said
