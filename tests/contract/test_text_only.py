"""Servers that take text alone, from the request path to the wire: what is held, refused, charged, and never said."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_double import RESET, ChatDouble, Item, chat_host, chat_service, echo, piece, usage, whole
from scratch import a_ledger, usages
from waiting import eventually

from ashore.core.chat import Message, ToolCall, ToolSpec
from ashore.core.clock import SystemClock
from ashore.core.errors import AshoreError, EngineFailed, SourceUnreachable
from ashore.core.ids import RequestId
from ashore.data.authority import OpenDoor
from ashore.data.authority.budgets import BudgetRule, LedgerBudgets
from ashore.data.engines import Grammar, HostClient, Sampling
from ashore.data.path import (
    ChoiceEnded,
    Delta,
    GenerationRequest,
    Guards,
    PrivacyMasker,
    ServingEvent,
    ServingService,
    Started,
    Usage,
)
from ashore.data.privacy import Privacy, PrivacyPolicy
from ashore.kit.metrics import Metrics
from ashore.kit.recorder import MemoryRecorder

ANYONE = OpenDoor().authenticate(None)
CAP = 10_000_000


@pytest.fixture(scope="module")
def double() -> Iterator[ChatDouble]:
    with ChatDouble() as one:
        yield one


@pytest.fixture(scope="module")
def socket(double: ChatDouble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with chat_host(tmp_path_factory.mktemp("host"), double.url) as path:
        yield path


@pytest.fixture(autouse=True)
def _fresh(double: ChatDouble) -> None:
    double.script, double.aborted = echo, 0
    double.bodies.clear()
    double.headers.clear()


def ask(text: str = "hello", **fields: Any) -> GenerationRequest:
    settings: dict[str, Any] = {
        "messages": (Message(role="user", content=text),), "max_tokens": 200, "sampling": Sampling(temperature=0.0),
        **fields,
    }  # fmt: skip
    return GenerationRequest(request_id=RequestId("req_1"), model="chat", **settings)


async def answer(service: ServingService, request: GenerationRequest) -> list[ServingEvent]:
    return [event async for event in service.generate(request, ANYONE)]


def with_service(socket: Path, work: Callable[[ServingService], Awaitable[None]], guards: Guards | None = None) -> None:
    async def scenario() -> None:
        async with chat_service(socket, guards=guards) as service:
            await work(service)

    asyncio.run(scenario())


def once(socket: Path, request: GenerationRequest) -> tuple[list[ServingEvent], AshoreError | None]:
    """Return the events of one answer, and what broke it off."""
    events: list[ServingEvent] = []
    fault: AshoreError | None = None

    async def work(service: ServingService) -> None:
        nonlocal fault
        try:
            async for event in service.generate(request, ANYONE):
                events.append(event)
        except AshoreError as error:
            fault = error

    with_service(socket, work)
    return events, fault


def text_of(events: list[ServingEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def usage_of(events: list[ServingEvent]) -> Usage:
    assert isinstance(events[-1], Usage), events
    return events[-1]


def end_of(events: list[ServingEvent]) -> ChoiceEnded:
    return next(event for event in events if isinstance(event, ChoiceEnded))


# --- what goes there, and what comes back


def test_a_whole_answer_is_said_and_counted_as_the_server_counts(socket: Path, double: ChatDouble) -> None:
    events, fault = once(socket, ask("good day", stop=("never",), max_tokens=50))
    assert fault is None and text_of(events) == "good day"
    assert (usage_of(events).prompt_tokens, usage_of(events).completion_tokens) == (9, 8)
    assert isinstance(events[0], Started) and events[0].prompt_tokens >= 9, "a bound, until the server has said it"
    assert end_of(events).reason == "stop"
    assert double.bodies == [
        {
            "model": "the-model", "messages": [{"role": "user", "content": "good day"}], "stream": True,
            "stream_options": {"include_usage": True}, "temperature": 0.0, "max_tokens": 50, "stop": ["never"],
        }
    ]  # fmt: skip


def test_what_a_client_leaves_out_is_the_servers_to_choose(socket: Path, double: ChatDouble) -> None:
    once(socket, ask(max_tokens=None, sampling=Sampling(), left_out=frozenset(("temperature", "top_p"))))
    assert set(double.bodies[0]) == {"model", "messages", "stream", "stream_options"}


def test_sampling_goes_there_by_the_names_of_the_form(socket: Path, double: ChatDouble) -> None:
    sampling = Sampling(temperature=0.5, top_p=0.25, seed=7, presence_penalty=0.5, frequency_penalty=-0.5)
    once(socket, ask(sampling=sampling))
    asked = {"temperature": 0.5, "top_p": 0.25, "seed": 7, "presence_penalty": 0.5, "frequency_penalty": -0.5}
    assert double.bodies[0].items() >= asked.items()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"num_choices": 2}, "n"),
        ({"top_logprobs": 0}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"token_ids": True}, "return_token_ids"),
        ({"stop_token_ids": (1,)}, "stop_token_ids"),
        ({"ignore_eos": True}, "ignore_eos"),
        ({"continues": True}, "continue_final_message"),
        ({"thinking_tokens": 5}, "thinking_token_budget"),
        ({"template_options": {"enable_thinking": False}}, "chat_template_kwargs"),
        ({"sampling": Sampling(top_k=5)}, "top_k"),
        ({"sampling": Sampling(min_p=0.5)}, "min_p"),
        ({"sampling": Sampling(repetition_penalty=1.5)}, "repetition_penalty"),
        ({"sampling": Sampling(logit_bias={1: 2.0})}, "logit_bias"),
        ({"sampling": Sampling(min_tokens=5)}, "min_tokens"),
        ({"grammar": Grammar(kind="regex", text="a+")}, "response_format"),
        ({"messages": (), "prompt": "once"}, "prompt"),
        ({"messages": (), "prompt": "once", "echo": True}, "prompt"),
    ],
)
def test_what_needs_token_ids_is_refused_in_words(
    fields: dict[str, Any], param: str, socket: Path, double: ChatDouble
) -> None:
    events, fault = once(socket, ask(**fields))
    assert fault is not None and fault.http_status == 400 and fault.code == "unsupported_by_engine", fault
    assert fault.param == param and fault.hint and not events and not double.bodies


def test_tokens_are_not_to_be_had(socket: Path) -> None:
    async def work(service: ServingService) -> None:
        for asked in (ask(), ask(messages=(), prompt="hello"), ask(messages=(), prompt=(1, 2))):
            with pytest.raises(AshoreError, match=r"server alone|token id 1") as raised:
                await service.tokens.encode(asked, ANYONE)
            assert raised.value.http_status == 400
        with pytest.raises(AshoreError) as raised:
            await service.tokens.decode("chat", [0], ANYONE)
        assert raised.value.http_status == 400
        with pytest.raises(AshoreError) as raised:
            await service.embeddings.embed("chat", ["a text"], ANYONE, request_id=RequestId("e"))
        assert raised.value.http_status == 400

    with_service(socket, work)


TOOL = ToolSpec(
    name="look", description="Look up", parameters='{"type":"object","properties":{"at":{"type":"string"}}}'
)


def called(index: int, **function: str) -> dict[str, Any]:
    return {"index": index, "id": f"call_{index}" if "name" in function else None, "function": function}


def test_tools_go_there_and_calls_come_back(socket: Path, double: ChatDouble) -> None:
    double.script = lambda body: [
        piece(tool_calls=[called(0, name="look", arguments="")]),
        piece(tool_calls=[called(0, arguments='{"at":')]),
        piece(tool_calls=[called(0, arguments='"sea"}')]),
        piece(end="tool_calls"),
        usage(20, 12),
        "[DONE]",
    ]
    before = (
        Message(role="user", content="where?"),
        Message(role="assistant", tool_calls=(ToolCall(id="a", name="look", arguments="{}"),)),
        Message(role="tool", content="nowhere", tool_call_id="a"),
    )
    events, fault = once(socket, ask(messages=before, tools=(TOOL,), tool_choice="tool:look", one_call=True))
    assert fault is None
    calls = [call for event in events if isinstance(event, Delta) for call in event.tool_calls]
    assert (calls[0].id, calls[0].name) == ("call_0", "look")
    assert "".join(call.arguments for call in calls) == '{"at":"sea"}'
    assert end_of(events).reason == "tool_calls" and usage_of(events).completion_tokens == 12
    body = double.bodies[0]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert body["parallel_tool_calls"] is False and body["tools"][0]["function"]["parameters"]["type"] == "object"
    assert body["messages"][1]["tool_calls"][0]["id"] == "a" and body["messages"][2]["tool_call_id"] == "a"


def test_a_required_tool_that_is_not_called_is_a_failure(socket: Path) -> None:
    events, fault = once(socket, ask(tools=(TOOL,), tool_choice="required"))
    assert isinstance(fault, EngineFailed) and not any(isinstance(event, Usage) for event in events)


SCHEMA = '{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false}'


@pytest.mark.parametrize(
    ("said", "kind", "holds"),
    [
        ('{"n": 3}', "json_schema", True),
        ('{"n": "three"}', "json_schema", False),
        ("not JSON", "json_schema", False),
        ('{"a": 1}', "json_object", True),
        ("[1]", "json_object", False),
    ],
)
def test_an_answer_in_json_is_held_to_its_schema(
    said: str, kind: Any, holds: bool, socket: Path, double: ChatDouble
) -> None:
    double.script = lambda body: whole(said, step=3)
    grammar = Grammar(kind=kind, text=SCHEMA if kind == "json_schema" else "")
    events, fault = once(socket, ask(grammar=grammar))
    assert (fault is None) == holds == any(isinstance(event, Usage) for event in events), fault
    asked = double.bodies[0]["response_format"]
    assert asked["type"] == kind and (kind == "json_object" or asked["json_schema"]["schema"] == json.loads(SCHEMA))


def test_a_schema_that_is_none_is_refused(socket: Path, double: ChatDouble) -> None:
    _, fault = once(socket, ask(grammar=Grammar(kind="json_schema", text='{"type": 5}')))
    assert fault is not None and fault.http_status == 400 and not double.bodies


def test_a_stop_string_that_the_server_ignores_ends_the_answer_here(socket: Path, double: ChatDouble) -> None:
    double.script = lambda body: [*map(piece, "one STOP two"), 5.0, *whole("never")]
    events, fault = once(socket, ask(stop=("STOP",)))
    assert fault is None and text_of(events) == "one " and end_of(events).stop_string == "STOP"
    eventually(lambda: double.aborted == 1)


def test_reasoning_is_told_apart_by_field_and_by_mark(socket: Path, double: ChatDouble) -> None:
    for said in (
        [piece(reasoning_content="hm"), piece(reasoning="m"), *whole("so")],
        whole("<think>hmm</think>so", step=2),
    ):
        double.script = lambda body, said=said: said  # type: ignore[misc]
        events, fault = once(socket, ask())
        assert fault is None and text_of(events) == "so"
        assert "".join(event.reasoning for event in events if isinstance(event, Delta)) == "hmm"


# --- what is broken never looks whole


GARBAGE: dict[str, list[Item]] = {
    "cut": [piece("a"), piece("b")],
    "cut inside a line": [piece("a"), b'data: {"choices": [{"in'],
    "nothing at all": [],
    "only the end mark": ["[DONE]"],
    "error event": [piece("a"), {"error": {"message": "CUDA out of memory"}}],
    "error in words": [piece("a"), {"error": "out of memory"}],
    "overloaded": [piece("a"), piece(end="insufficient_system_resource"), "[DONE]"],
    "another answer's piece": [piece("a"), {**piece("b"), "id": "c2"}, *whole("c")],
    "another choice": [piece("a"), {"choices": [{"index": 1, "delta": {"content": "b"}}]}, *whole("c")],
    "no JSON": [piece("a"), "{", *whole("c")],
    "JSON of another form": [piece("a"), '{"choices": "none"}', *whole("c")],
    "a text that is a number": [piece("a"), piece(5), *whole("c")],  # type: ignore[arg-type]
    "a tool call far away": [piece(tool_calls=[called(10**6, name="look")]), *whole("c")],
    "a negative tool call": [piece(tool_calls=[called(-1, name="look")]), *whole("c")],
    "usage that is not a number": [piece("a"), b'data: {"usage": {"prompt_tokens": NaN}}\n\n', *whole("c")],
    "an endless line": [piece("a"), *([b"x" * (1 << 20)] * 10)],
    "a piece of ten megabytes": [piece("x" * (10 << 20)), *whole("c")],
    "a piece that would hold up the others": [piece("x" * (257 << 10)), *whole("c")],
    "more text than its tokens can be": [*([piece("x" * 20_000)] * 3), *whole("c")],
    "half a character": [b'data: {"choices": [{"delta": {"content": "\xe4\xbd"}}]}\n\n', *whole("c")],
    "a lone surrogate": [b'data: {"choices": [{"delta": {"content": "\\ud800"}}]}\n\n', *whole("c")],
    "compressed": [b"\x1f\x8b\x08\x00" + b"\x00" * 1000],
}


@pytest.mark.parametrize("name", GARBAGE)
def test_what_is_broken_never_looks_whole(name: str, socket: Path, double: ChatDouble) -> None:
    double.script = lambda body: GARBAGE[name]
    events, fault = once(socket, ask())
    assert fault is not None and fault.code in ("engine_failed", "kills_hosts"), fault
    assert not any(isinstance(event, ChoiceEnded | Usage) for event in events)
    double.script = echo
    assert text_of(once(socket, ask("and on"))[0]) == "and on", "the next one is well"


@pytest.mark.parametrize(
    ("told", "charged"),
    [
        ([usage(9, 5)], (9, 5)),
        ([usage(0, 0)], (1, 1)),
        ([usage(-5, -5)], (1, 1)),
        ([usage(2**63, 2**63)], ("bound", 50)),
        ([usage(10**9, 10**9)], ("bound", 50)),
        ([], ("bound", 5)),
        ([usage(None, None)], ("bound", 5)),
        ([usage(9, 5), usage(9, 6)], (9, 6)),
        ([usage(9, 5, prompt_tokens_details={"cached_tokens": 10**9})], (9, 5)),
    ],
)
def test_usage_is_believed_within_what_can_be(
    told: list[Item], charged: tuple[Any, int], socket: Path, double: ChatDouble
) -> None:
    double.script = lambda body: [*map(piece, "hello"), piece(end="stop"), *told, "[DONE]"]
    events, fault = once(socket, ask("hello", max_tokens=50))
    assert fault is None
    used, started = usage_of(events), events[0]
    assert isinstance(started, Started)
    prompt = started.prompt_tokens if charged[0] == "bound" else charged[0]
    assert (used.prompt_tokens, used.completion_tokens) == (prompt, charged[1])
    assert 0 <= used.cached_tokens <= used.prompt_tokens
    assert started.prompt_tokens < 150, "a bound, and not a wide one"


def test_a_long_text_counts_as_what_its_bytes_imply(socket: Path, double: ChatDouble) -> None:
    double.script = lambda body: [piece("x" * 12_800), piece(end="stop"), usage(1, 1), "[DONE]"]
    assert usage_of(once(socket, ask())[0]).completion_tokens == 100


def test_a_client_that_leaves_ends_its_stream_at_the_server(socket: Path, double: ChatDouble) -> None:
    double.script = lambda body: [piece("a"), 30.0, *whole("b")]

    async def work(service: ServingService) -> None:
        stream = service.generate(ask(), ANYONE)
        async for event in stream:
            if isinstance(event, Delta):
                break
        left_at = time.monotonic()
        await stream.aclose()
        await asyncio.to_thread(eventually, lambda: double.aborted == 1)
        print(f"closed {1e3 * (double.aborted_at - left_at):.0f} ms after the client left")

    with_service(socket, work)


def test_a_server_that_hangs_ends_with_the_deadline(socket: Path, double: ChatDouble) -> None:
    double.script = lambda body: [30.0]
    _, fault = once(socket, ask(deadline_s=0.3))
    assert fault is not None and fault.code == "deadline_exceeded"
    double.script = lambda body: [piece("a"), *([b": ping\n\n", 0.01] * 3000)]
    events, fault = once(socket, ask(deadline_s=0.5))
    assert fault is None and end_of(events).cut_by == "deadline" and text_of(events) == "a", "comments are no answer"
    eventually(lambda: double.aborted == 2)


def test_refusals_of_the_server(socket: Path, double: ChatDouble) -> None:
    words = json.dumps({"error": {"message": "max_tokens is too large"}}).encode()
    for status, code in ((400, "invalid_request"), (401, "remote_refused"), (402, "remote_refused")):
        double.refuses = [(status, {"Location": "http://127.0.0.1:9/"}, words)] * 4
        _, fault = once(socket, ask())
        assert fault is not None and fault.code in (code, "kills_hosts"), (status, fault)
    double.refuses = [(429, {"Retry-After": "7"}, words)] * 4
    _, fault = once(socket, ask())
    assert fault is not None and fault.code == "overloaded" and fault.retry_after_s == 7
    double.refuses = []


# --- masking, budgets, audit


ID, PHONE, CARD = "11010519491231002X", "13812345678", "4111 1111 1111 1111"


def test_values_that_were_masked_come_back_to_the_client(socket: Path, double: ChatDouble) -> None:
    secret = f"我的身份证是{ID}，电话{PHONE}，卡{CARD}。"
    masker = PrivacyMasker(Privacy(PrivacyPolicy(prompts={"*": "mask"}), secret=b"s" * 32), Metrics())

    async def work(service: ServingService) -> None:
        assert text_of(await answer(service, ask(secret))) == secret

    with_service(socket, work, Guards(masker=masker))
    assert "[ID_CARD_1]" in json.dumps(double.bodies)


@pytest.mark.parametrize("num_answers", [400, pytest.param(10_000, marks=pytest.mark.full)])
def test_the_ledger_is_what_the_server_said_of_many_answers_and_faults(
    num_answers: int, socket: Path, double: ChatDouble
) -> None:
    """Whole answers cost what the server says. Of one that is cut, lied about or left, the bound is charged."""
    ledger = a_ledger(SystemClock())
    rule = BudgetRule(kind="tokens", window="total", cap=CAP)
    budgets = LedgerBudgets(ledger, MemoryRecorder(), rules=[rule])
    owed, bounded = [0], [0]

    def script(body: dict[str, Any]) -> list[Item]:
        number = int(body["messages"][-1]["content"])
        long = number // 10 % 5 + 1
        pieces: list[Item] = [*map(piece, "x" * long)]
        match number % 10:
            case 9:
                return pieces  # cut
            case 8:
                return [*pieces, RESET]
            case 7:
                return [*pieces, piece(end="stop"), "[DONE]"]  # says nothing
            case 6:
                return [*pieces, piece(end="stop"), usage(10**9, 10**9), "[DONE]"]
            case 5:
                return [*pieces, 30.0]  # the client leaves
            case _:
                owed[0] += 7 + long
                return [*pieces, piece(end="stop"), usage(7, long), "[DONE]"]

    double.script = script

    async def work(service: ServingService) -> None:
        async def one(number: int) -> None:
            prompt = made = 0
            stream = service.generate(ask(str(number), max_tokens=50), ANYONE)
            with contextlib.suppress(EngineFailed, SourceUnreachable):
                async for event in stream:
                    if isinstance(event, Started):
                        prompt = event.prompt_tokens
                    made += len(event.text) if isinstance(event, Delta) else 0
                    if number % 10 == 5 and made == number // 10 % 5 + 1:
                        break
            await stream.aclose()
            if number % 10 > 4:
                bounded[0] += prompt + (50 if number % 10 == 6 else made)

        for batch in range(0, num_answers, 20):
            await asyncio.gather(*map(one, range(batch, batch + 20)))
        standing = budgets.standing(ANYONE, "chat")
        assert standing is not None and standing.tokens is not None
        assert CAP - standing.tokens.left == owed[0] + bounded[0]

    with_service(socket, work, Guards(budgets=budgets))
    assert sum(one.prompt_tokens + one.completion_tokens for one in usages(ledger)) == owed[0] + bounded[0]


def test_a_budget_bounds_what_the_server_is_asked_for(socket: Path, double: ChatDouble) -> None:
    budgets = LedgerBudgets(
        a_ledger(SystemClock()), MemoryRecorder(), rules=[BudgetRule(kind="tokens", window="total", cap=150)]
    )
    double.script = lambda body: [*map(piece, "x" * body["max_tokens"]), piece(end="length"), usage(9, 10**9), "[DONE]"]

    async def work(service: ServingService) -> None:
        events = await answer(service, ask(max_tokens=None))
        most = double.bodies[0]["max_tokens"]
        assert 16 <= most < 150 and end_of(events).cut_by == "budget"
        assert usage_of(events).completion_tokens == most

    with_service(socket, work, Guards(budgets=budgets))


# --- what hostile servers and old ones send


def sse(*chunks: str) -> list[Item]:
    """Return events as they stand on the wire."""
    return [f"data: {chunk}\n\n".encode() for chunk in chunks]


OLLAMA = '{"id":"chatcmpl-7","object":"chat.completion.chunk","model":"m","system_fingerprint":"fp_ollama","choices":['
TGI = '{"object":"chat.completion.chunk","id":"","created":1,"model":"m","system_fingerprint":"3.0","choices":['
MINDIE = '{"id":"endpoint_common_8","object":"chat.completion.chunk","created":1,"model":"m",'
OLLAMA_CALL = OLLAMA + '{"index":0,"delta":{"role":"assistant","content":"","tool_calls":['
A_LOOK = '"type":"function","function":{"name":"look","arguments":"{\\"at\\":1}"}}'
WIRES: dict[str, tuple[list[Item], str, list[str], str, tuple[int, int]]] = {
    "Ollama, thinking": (
        sse(
            OLLAMA + '{"index":0,"delta":{"role":"assistant","content":"","reasoning":"hm"},"finish_reason":null}]}',
            OLLAMA + '{"index":0,"delta":{"role":"assistant","content":"so"},"finish_reason":null}]}',
            OLLAMA + '{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"stop"}]}',
            OLLAMA + '],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17}}',
            "[DONE]",
        ),
        "so", [], "stop", (12, 5),
    ),
    "Ollama, calls that all have the number 0": (
        sse(
            OLLAMA_CALL + '{"id":"call_aaaaaaaa","index":0,'
            + A_LOOK + "]},\"finish_reason\":null}]}",
            OLLAMA_CALL + '{"id":"call_bbbbbbbb","index":0,'
            + A_LOOK + "]},\"finish_reason\":null}]}",
            OLLAMA + '{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"tool_calls"}]}',
            OLLAMA + '],"usage":{"prompt_tokens":90,"completion_tokens":30,"total_tokens":120}}',
            "[DONE]",
        ),
        "", ['{"at":1}', '{"at":1}'], "tool_calls", (90, 30),
    ),
    "Ollama before 0.4.7, calls without a number and an end with each": (
        sse(
            OLLAMA_CALL + '{"id":"call_aaaaaaaa",' + A_LOOK
            + "]},\"finish_reason\":\"tool_calls\"}]}",
            OLLAMA_CALL + '{"id":"call_bbbbbbbb",' + A_LOOK
            + "]},\"finish_reason\":\"tool_calls\"}]}",
            OLLAMA + '{"index":0,"delta":{"content":""},"finish_reason":"stop"}]}',
            "[DONE]",
        ),
        "", ['{"at":1}', '{"at":1}'], "tool_calls", (0, 2),
    ),
    "TGI, at a stop string": (
        sse(
            TGI + '{"index":0,"delta":{"role":"assistant","content":"so"},"logprobs":null,'
            '"finish_reason":null}],"usage":null}',
            TGI + '{"index":0,"delta":{"role":"assistant","content":" STOP"},"logprobs":null,'
            '"finish_reason":"stop_sequence"}],"usage":null}',
            TGI + '],"usage":{"prompt_tokens":20,"completion_tokens":3,"total_tokens":23}}',
            "[DONE]",
        ),
        "so STOP", [], "stop", (20, 3),
    ),
    "TGI, a call in pieces that is a list": (
        sse(
            TGI + '{"index":0,"delta":{"role":"assistant","tool_calls":[{"index":0,"id":"0","type":"function",'
            '"function":{"name":"look","arguments":"{"}}]},"logprobs":null,"finish_reason":null}],"usage":null}',
            TGI + '{"index":0,"delta":{"role":"assistant","tool_calls":[{"index":0,"id":"0","type":"function",'
            '"function":{"name":null,"arguments":"}"}}]},"logprobs":null,"finish_reason":"stop"}],"usage":null}',
            TGI + '],"usage":{"prompt_tokens":90,"completion_tokens":9,"total_tokens":99}}',
            "[DONE]",
        ),
        "", ["{}"], "tool_calls", (90, 9),
    ),
    "TGI 1.4 to 2, a call that is no list": (
        sse(
            TGI + '{"index":0,"delta":{"role":"assistant","tool_calls":{"index":0,"id":"","type":"function",'
            '"function":{"name":"look","arguments":"{"}}},"logprobs":null,"finish_reason":null}]}',
            TGI + '{"index":0,"delta":{"role":"assistant","tool_calls":{"index":0,"id":"","type":"function",'
            '"function":{"name":null,"arguments":"}"}}},"logprobs":null,"finish_reason":"eos_token"}]}',
        ),
        "", ["{}"], "tool_calls", (0, 2),
    ),
    "MindIE, what it cost with its last piece": (
        sse(
            MINDIE + '"choices":[{"index":0,"delta":{"role":"assistant","content":"so"},"finish_reason":null}]}',
            MINDIE + '"usage":{"prompt_tokens":31,"completion_tokens":4,"total_tokens":35,"prefill_time":200,'
            '"decode_time_arr":[56,28]},"choices":[{"index":0,"delta":{"role":"assistant","content":"\\t"},'
            '"finish_reason":"length"}]}',
            "[DONE]",
        ),
        "so\t", [], "length", (31, 4),
    ),
    "DeepSeek": (
        sse(
            '{"id":"d","choices":[{"index":0,"delta":{"role":"assistant","content":null,"reasoning_content":"hm"},'
            '"logprobs":null,"finish_reason":null}]}',
            '{"id":"d","choices":[{"index":0,"delta":{"content":"so","reasoning_content":null},"finish_reason":null}]}',
            '{"id":"d","choices":[{"index":0,"delta":{"content":"","reasoning_content":null},"finish_reason":"stop"}],'
            '"usage":{"prompt_tokens":14,"completion_tokens":6,"total_tokens":20,"prompt_cache_hit_tokens":8,'
            '"prompt_cache_miss_tokens":6,"completion_tokens_details":{"reasoning_tokens":4}}}',
            "[DONE]",
        ),
        "so", [], "stop", (14, 6),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WIRES)
def test_the_forms_of_servers_are_read(name: str, socket: Path, double: ChatDouble) -> None:
    items, text, arguments, reason, cost = WIRES[name]
    double.script = lambda body: items
    events, fault = once(socket, ask("x" * 30, tools=(TOOL,)))
    assert fault is None and text_of(events) == text and end_of(events).reason == reason
    calls = [call for event in events if isinstance(event, Delta) for call in event.tool_calls]
    places = sorted({call.index for call in calls})
    assert ["".join(one.arguments for one in calls if one.index == place) for place in places] == arguments
    begun = [call for call in calls if call.name]
    assert [call.name for call in begun] == ["look"] * len(arguments)
    ids = {call.id for call in calls if call.id}
    assert len(ids) == len(arguments) and all(len(one) >= 6 for one in ids)
    used = usage_of(events)
    assert used.completion_tokens == cost[1] and used.prompt_tokens == (cost[0] or used.prompt_tokens)


def test_calls_that_are_named_alike_or_unreadably_get_ids_of_their_own(socket: Path, double: ChatDouble) -> None:
    named = [
        {**called(at, name="look", arguments=""), "id": "call_same" if at < 2 else "\x1b[2Jcall"} for at in range(3)
    ]
    double.script = lambda body: [piece(tool_calls=named), piece(end="tool_calls"), usage(9, 9), "[DONE]"]
    events, fault = once(socket, ask(tools=(TOOL,)))
    calls = [call for event in events if isinstance(event, Delta) for call in event.tool_calls]
    assert fault is None and [call.index for call in calls] == [0, 1, 2] and calls[0].id == "call_same"
    assert len({call.id for call in calls}) == 3 and all(call.id.isprintable() for call in calls)


LIES: dict[str, tuple[list[Item], str]] = {
    "says it called a tool": ([piece("a"), piece(end="tool_calls"), usage(9, 1), "[DONE]"], "engine_failed"),
    "an end in the middle": ([piece("a", end="stop"), piece("b"), "[DONE]"], "engine_failed"),
    "arguments that break off": (
        [piece(tool_calls=[called(0, name="look", arguments='{"at": "se')]), piece(end="tool_calls"), "[DONE]"],
        "engine_failed",
    ),
    "arguments that are a list": (
        [piece(tool_calls=[called(0, name="look", arguments="[1]")]), piece(end="stop"), "[DONE]"], "engine_failed",
    ),
    "a call without a name": (
        [piece(tool_calls=[called(0, arguments="{}")]), piece(end="tool_calls"), "[DONE]"], "engine_failed",
    ),
    "too many calls": (
        [piece(tool_calls=[called(0, name="look") for _ in range(1025)]), piece(end="stop")], "engine_failed",
    ),
    "more pieces than tokens": ([b"".join(sse(json.dumps(piece("x")))) * 500, *whole("")], "engine_failed"),
    "filtered": ([piece(end="content_filter"), "[DONE]"], "content_filter"),
    "filtered after a piece": ([piece("a"), piece(end="content_filter"), usage(1, 1), "[DONE]"], "content_filter"),
    "refused in an event": ([{"error": {"code": 400, "message": "too long"}}], "invalid_request"),
    "a function call of old": ([piece(end="function_call"), "[DONE]"], "kills_hosts"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_ends_that_lie_never_look_whole(name: str, socket: Path, double: ChatDouble) -> None:
    items, code = LIES[name]
    double.script = lambda body: items
    events, fault = once(socket, ask(tools=(TOOL,)))
    assert fault is not None and fault.code == code, fault
    assert not any(isinstance(event, ChoiceEnded | Usage) for event in events)
    assert len(double.bodies) == 1 + (code == "kills_hosts"), "what is the request's fault goes to no other server"


def test_a_call_of_a_tool_where_none_was_offered_is_a_failure(socket: Path, double: ChatDouble) -> None:
    double.script = lambda body: [piece(tool_calls=[called(0, name="rm")]), piece(end="stop"), "[DONE]"]
    assert isinstance(once(socket, ask())[1], EngineFailed)


def test_a_server_that_keeps_its_stream_open_holds_up_no_answer(socket: Path, double: ChatDouble) -> None:
    double.script = lambda body: [*whole("abc"), 60.0]
    began_s = time.monotonic()
    events, fault = once(socket, ask())
    assert fault is None and text_of(events) == "abc" and usage_of(events).completion_tokens == 3
    assert time.monotonic() - began_s < 30


def charged(socket: Path, request: GenerationRequest, *, leaves: bool = False) -> tuple[int, int]:
    """Return the most that the prompt may cost, and what was charged in all."""
    found = [0, 0]
    budgets = LedgerBudgets(
        a_ledger(SystemClock()), MemoryRecorder(), rules=[BudgetRule(kind="tokens", window="total", cap=CAP)]
    )

    async def work(service: ServingService) -> None:
        stream = service.generate(request, ANYONE)
        with contextlib.suppress(AshoreError):
            async for event in stream:
                if isinstance(event, Started):
                    found[0] = event.prompt_tokens
                if leaves and isinstance(event, Delta) and text_of([event]).endswith("!"):
                    await stream.aclose()
                    break
        standing = budgets.standing(ANYONE, "chat")
        assert standing is not None and standing.tokens is not None
        found[1] = CAP - int(standing.tokens.left)

    with_service(socket, work, Guards(budgets=budgets))
    return found[0], found[1]


def test_what_does_not_fit_costs_what_the_server_says(socket: Path, double: ChatDouble) -> None:
    double.script = lambda body: [piece(end="stop"), usage(9, 50), "[DONE]"]
    assert charged(socket, ask(tools=(TOOL,), tool_choice="required"))[1] == 59
    double.script = lambda body: [piece("no JSON"), piece(end="stop"), usage(9, 50), "[DONE]"]
    assert charged(socket, ask(grammar=Grammar(kind="json_object")))[1] == 59


def test_what_is_cut_costs_what_its_bytes_and_its_limit_imply(socket: Path, double: ChatDouble) -> None:
    double.script = lambda body: [piece("x" * 12_800 + "STOP"), *whole("")]
    most, all_of_it = charged(socket, ask(stop=("STOP",)))
    assert all_of_it == most + 101
    double.script = lambda body: [b"".join(sse(json.dumps(piece("x")))) * 60, piece("!"), 60.0]
    most, all_of_it = charged(socket, ask(max_tokens=40), leaves=True)
    assert all_of_it == most + 40


def test_words_of_a_server_reach_the_caller_alone_and_without_its_key(
    double: ChatDouble, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key, prompt = "sk-0123456789abcdef", "the plan is secret"
    words = json.dumps({"error": {"message": f"Bearer {key} cannot say {prompt!r}"}}).encode()
    seen: list[AshoreError] = []
    caplog.set_level("INFO")
    with chat_host(tmp_path, double.url, key=key) as path:
        for status in (400, 401, 404, 422, 429, 500):
            double.refuses = [(status, {}, words)] * 4
            fault = once(path, ask(prompt))[1]
            assert fault is not None
            seen.append(fault)
            double.refuses = []
        for items in ([json.loads(words)], [{"error": {**json.loads(words)["error"], "code": 400}}]):
            double.script = lambda body, items=items: items  # type: ignore[misc]
            fault = once(path, ask(prompt))[1]
            assert fault is not None
            seen.append(fault)
            double.script = echo
        status_of = asyncio.run(_stats(path))
    told = caplog.text + str(status_of) + "".join(fault.message for fault in seen)
    assert prompt not in told and key not in told + "".join(fault.hint for fault in seen)
    assert prompt in seen[0].hint and prompt not in seen[1].hint, "an account is the operator's matter"


async def _stats(socket: Path) -> Any:
    client = HostClient(socket)
    await client.connect(10)
    try:
        return await client.stats()
    finally:
        await client.close()


@pytest.mark.parametrize("num_requests", [200, pytest.param(1000, marks=pytest.mark.full)])
def test_masked_requests_show_the_server_nothing(num_requests: int, socket: Path, double: ChatDouble) -> None:
    """In every field that is sent on, also escaped, also in ids."""
    masker = PrivacyMasker(Privacy(PrivacyPolicy(prompts={"*": "mask"}), secret=b"s" * 32), Metrics())
    escaped = "".join(f"\\u{ord(one):04x}" for one in PHONE)
    double.script = lambda body: [piece("{}"), piece(end="stop"), usage(99, 2), "[DONE]"]
    tool = ToolSpec(
        name="look", description=f"Calls {PHONE}", parameters=f'{{"type":"object","description":"{escaped}"}}'
    )
    places: list[dict[str, Any]] = [
        {"messages": (Message(role="system", content=f"卡{CARD}"), Message(role="user", content=ID, name=PHONE))},
        {"messages": (
            Message(role="user", content="go"),
            Message(role="assistant", content=PHONE, tool_calls=(
                ToolCall(id=f"call {PHONE}", name="look", arguments=f'{{"at": "{escaped}", "{ID}": 1}}'),
            )),
            Message(role="tool", content=f"{{\"card\": \"{CARD}\"}}", tool_call_id=f"call {PHONE}"),
        ), "tools": (tool,)},
        {"stop": (PHONE, f"and {ID}")},
        {"grammar": Grammar(kind="json_schema", text=f'{{"type":"object","description":"{escaped} {CARD}"}}')},
    ]  # fmt: skip

    async def work(service: ServingService) -> None:
        async def one(number: int) -> None:
            await answer(
                service, ask(**{"messages": (Message(role="user", content=f"{ID} {number}"),), **places[number % 4]})
            )

        for batch in range(0, num_requests, 50):
            await asyncio.gather(*map(one, range(batch, batch + 50)))

    with_service(socket, work, Guards(masker=masker))
    assert len(double.bodies) == num_requests
    seen = json.dumps(double.bodies, ensure_ascii=False)
    assert not any(value in seen for value in (ID, PHONE, CARD, CARD.replace(" ", "")))
    assert all("_1]" in json.dumps(body) for body in double.bodies)


@pytest.mark.parametrize(
    "models",
    [
        b"\x1f\x8b\x08\x00" + bytes(100),
        b'{"data":' + b"[" * 100_000,
        b'{"data": [{"id": "the-model", "max_model_len": -5}]}',
        b'{"data": [{"id": "the-model", "max_model_len": 1000000000000000000}]}',
        json.dumps({"data": [{"id": "x" * 1_000_000}]}).encode(),
        bytes(5 << 20),
    ],
    ids=["compressed", "deep", "negative context", "endless context", "long name", "long"],
)
def test_a_server_that_says_nonsense_of_itself_is_out_until_it_is_well(
    models: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ashore.data.engines.vllm.servers.PROBE_S", 0.05)
    with ChatDouble() as double:
        well, double.models = double.models, models
        with chat_host(tmp_path, double.url, context=0) as path:
            (one,) = asyncio.run(_stats(path)).backends
            assert one.state == "out" and one.reason and len(one.reason) < 1000
            double.models = well
            eventually(lambda: asyncio.run(_stats(path)).backends[0].state == "ready")
            assert text_of(once(path, ask())[0]) == "hello"
