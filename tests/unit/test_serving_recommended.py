"""What a model's makers recommend: applied where the client said nothing, whichever protocol it spoke."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from direct import Direct
from memory_replica import MemoryReplica

from ashore.core.chat import Message
from ashore.core.clock import SystemClock
from ashore.core.ids import RequestId
from ashore.core.sampling import SamplingIn, left_out
from ashore.data.authority import OpenDoor
from ashore.data.engines import Sampling
from ashore.data.grpc.gen import inference_pb2 as pb
from ashore.data.grpc.parse import chat_request
from ashore.data.http.anthropic.parse import to_generation as from_anthropic
from ashore.data.http.anthropic.types import MessagesRequest
from ashore.data.http.exchange import Exchange
from ashore.data.http.openai.chat import to_generation as from_chat
from ashore.data.http.openai.completions import to_generations as from_completions
from ashore.data.http.openai.embeddings import model_out
from ashore.data.http.openai.responses_parse import to_generation as from_responses
from ashore.data.http.openai.responses_types import ResponsesRequest
from ashore.data.http.openai.types import ChatRequest, CompletionRequest
from ashore.data.path import BytesText, GenerationRequest, ServedModel, ServingService, Topology
from ashore.data.path.recommended import recommendations, with_recommended
from ashore.kit.metrics import Metrics

ALL = left_out(SamplingIn())
QWEN = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}
INFO = MemoryReplica().info


def ask(**fields: Any) -> GenerationRequest:
    return GenerationRequest(
        request_id=RequestId("r"), model="m", messages=(Message(role="user", content="hello"),), **fields
    )


def test_only_what_the_client_left_out_is_filled_in() -> None:
    said = SamplingIn(temperature=1.0, top_k=0)
    request = ask(sampling=Sampling(temperature=1.0, top_p=1.0), left_out=left_out(said))
    filled = with_recommended(request, QWEN, INFO)
    assert filled.sampling == Sampling(temperature=1.0, top_p=0.8, top_k=0, repetition_penalty=1.05)
    assert filled.left_out == {"min_p"}
    assert request.sampling == Sampling()  # the caller's own is as it was
    assert with_recommended(ask(), QWEN, INFO).sampling == Sampling()  # a caller of ours that left nothing out
    assert with_recommended(request, {}, INFO) is request


def test_nobody_is_refused_for_what_nobody_asked_for() -> None:
    plain = msgspec.structs.replace(INFO, features=("top_k",))
    assert with_recommended(ask(left_out=ALL), QWEN, plain).sampling == Sampling(top_k=20)
    assert with_recommended(ask(left_out=ALL), {"temperature": 0.0}, plain).sampling == Sampling(temperature=0.0)


@pytest.mark.parametrize(
    ("defaults", "expected"),
    [
        (QWEN, QWEN),
        ({"temperature": 0}, {"temperature": 0.0}),
        ({"temperature": None, "top_p": "0.9", "top_k": True}, {}),
        ({"temperature": -1, "top_p": 0, "top_k": -1, "min_p": 2, "repetition_penalty": 0}, {}),
        ({"temperature": float("nan"), "top_p": float("inf")}, {}),
        ({"max_new_tokens": 5, "do_sample": False}, {}),
        ({"top_k": 20.0}, {"top_k": 20}),
    ],
)
def test_nonsense_in_the_file_is_passed_over(defaults: dict[str, object], expected: dict[str, float]) -> None:
    usable = recommendations(defaults)
    assert usable == expected
    assert isinstance(usable.get("top_k", 0), int)


def exchange() -> Exchange:
    async def nothing(*_: Any) -> Any:
        raise AssertionError

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "ashore.direct": Direct()}
    return Exchange(scope, nothing, nothing)


TURN = [{"role": "user", "content": "hello"}]


def parse(route: str, body: dict[str, Any]) -> GenerationRequest:
    """Return what a route makes of `body`."""
    raw = json.dumps({"model": "m", **body}).encode()
    if route == "chat":
        return from_chat(msgspec.json.decode(raw, type=ChatRequest), exchange())
    if route == "completions":
        return from_completions(msgspec.json.decode(raw, type=CompletionRequest), exchange())[0]
    if route == "anthropic":
        return from_anthropic(msgspec.json.decode(raw, type=MessagesRequest), exchange())
    return from_responses(msgspec.json.decode(raw, type=ResponsesRequest), exchange(), ())


@pytest.mark.parametrize(
    ("route", "body", "given"),
    [
        ("chat", {"messages": TURN}, {"temperature", "top_p", "top_k", "min_p", "repetition_penalty"}),
        ("completions", {"prompt": "x"}, {"temperature", "top_p", "top_k", "min_p", "repetition_penalty"}),
        ("anthropic", {"messages": TURN, "max_tokens": 5}, {"temperature", "top_p", "top_k"}),
        ("responses", {"input": "x"}, {"temperature", "top_p"}),
    ],
)
def test_every_route_tells_what_was_left_out(route: str, body: dict[str, Any], given: set[str]) -> None:
    assert parse(route, body).left_out == ALL
    neutral = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
    said = {name: neutral[name] for name in given if not (route == "anthropic" and name == "top_k")}
    assert parse(route, body | said).left_out == ALL - said.keys()


def test_grpc_tells_it_too() -> None:
    wire = pb.ChatRequest(model="m", messages=[pb.Message(role=pb.ROLE_USER, content="x")])
    assert chat_request(wire, request_id=RequestId("r"), deadline_s=None).left_out == ALL
    wire.generation.sampling.temperature = 1.0
    wire.generation.sampling.top_k = 0
    assert chat_request(wire, request_id=RequestId("r"), deadline_s=None).left_out == ALL - {"temperature", "top_k"}


def test_the_engine_gets_them_and_the_model_says_so() -> None:
    class Recommending(BytesText):
        def __init__(self) -> None:
            super().__init__()
            self.sampling_defaults = {**QWEN, "top_p": 7}
            self.sampling_defaults_from = "catalogue"

    replica = MemoryReplica()

    async def scenario() -> None:
        service = ServingService(
            Topology(models=(ServedModel(alias="m", release="m-1", kind="fake", sockets=("s",)),)),
            make_replica=lambda socket: replica,
            load_text=lambda served: Recommending(),
            check_grammar=lambda grammar: None,
            clock=SystemClock(),
            metrics=Metrics(),
        )
        await service.start()
        while not service.models()[0].ready:
            await asyncio.sleep(0.001)
        who = OpenDoor().authenticate(None)
        for request in (ask(left_out=ALL), ask(sampling=Sampling(temperature=0.0), left_out=ALL - {"temperature"})):
            async for _ in service.generate(request, who):
                pass
        (card,) = service.models()
        assert card.recommended == {"temperature": 0.7, "top_k": 20, "repetition_penalty": 1.05}
        shown = model_out(card)
        assert (shown.sampling_defaults, shown.sampling_defaults_from) == (dict(card.recommended), "catalogue")
        await service.close()

    asyncio.run(scenario())
    first, second = (order.sampling for order in replica.orders)
    assert first == Sampling(temperature=0.7, top_k=20, repetition_penalty=1.05)
    assert second == Sampling(temperature=0.0, top_k=20, repetition_penalty=1.05)


@pytest.mark.parametrize(
    ("route", "body", "options"),
    [
        ("chat", {"messages": TURN, "reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        (
            "chat",
            {"messages": TURN, "reasoning_effort": "low", "chat_template_kwargs": {"reasoning_effort": "deep", "a": 1}},
            {"reasoning_effort": "deep", "a": 1},
        ),
        ("chat", {"messages": TURN}, {}),
        ("responses", {"input": "x", "reasoning": {"effort": "high"}}, {"reasoning_effort": "high"}),
        ("responses", {"input": "x", "reasoning": {"summary": "auto"}}, {}),
    ],
)
def test_how_long_to_think_is_told_to_the_template(route: str, body: dict[str, Any], options: dict[str, Any]) -> None:
    assert parse(route, body).template_options == options


def test_encrypted_reasoning_asks_for_no_log_probabilities() -> None:
    assert parse("responses", {"input": "x", "include": ["reasoning.encrypted_content"]}).top_logprobs is None
    assert parse("responses", {"input": "x", "include": ["message.output_text.logprobs"]}).top_logprobs == 0
