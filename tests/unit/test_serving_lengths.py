"""What cannot fit the context is refused by its length: neither masked nor tokenised, on no thread of somebody else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from memory_replica import ECHO_INFO, MemoryReplica

from ashore.core.chat import Message, ToolCall, ToolSpec
from ashore.core.clock import SystemClock
from ashore.core.errors import ContextTooLong
from ashore.core.ids import RequestId
from ashore.data.authority import OpenDoor
from ashore.data.cache import AnswerCache, CachePolicy, FixedEpochs, KeptAnswer
from ashore.data.engines import Grammar, Sampling
from ashore.data.path import (
    BytesText,
    GenerationRequest,
    Guards,
    SeesNothing,
    ServedModel,
    ServingEvent,
    ServingService,
    Topology,
    Usage,
)
from ashore.data.path.guards import Unmasked
from ashore.kit.metrics import Metrics

ANYONE = OpenDoor().authenticate(None)
CONTEXT = ECHO_INFO.context_tokens
FAR_TOO_LONG = "1-" * 500_000


class Reads(SeesNothing, BytesText):
    """Text side and masker that remember who called them, and on which threads."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []
        self.threads: set[str] = set()

    def _note(self, what: str) -> None:
        self.read.append(what)
        self.threads.add(threading.current_thread().name.partition("_")[0])

    def mask(self, *given: Any) -> Any:
        self._note("mask")
        return super().mask(*given)

    def mask_inputs(self, *given: Any) -> Any:
        self._note("mask")
        return super().mask_inputs(*given)

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        self._note("encode")
        return super().encode(text, allow_special=allow_special)


def serve(reads: Reads, scenario: Callable[[ServingService], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        clock = SystemClock()
        model = ServedModel(alias="echo", release="echo-1", kind="fake", sockets=("/s/0",))
        service = ServingService(
            Topology(models=(model,)),
            make_replica=lambda socket: MemoryReplica(),
            load_text=lambda served: reads,
            check_grammar=lambda grammar: None,
            clock=clock,
            metrics=Metrics(),
            guards=Guards(masker=reads),
            cache=AnswerCache(CachePolicy(mode="exact"), secret=b"s" * 32, epochs=FixedEpochs(), clock=clock),
        )
        await service.start()
        assert await service.connected(10)
        try:
            await scenario(service)
        finally:
            await service.close()

    asyncio.run(whole())


def ask(**fields: Any) -> GenerationRequest:
    return GenerationRequest(request_id=RequestId("req_1"), model="echo", **fields)


def chat(text: str, **fields: Any) -> GenerationRequest:
    return ask(messages=(Message(role="user", content=text),), **fields)


async def answer(service: ServingService, request: GenerationRequest) -> list[ServingEvent]:
    return [event async for event in service.generate(request, ANYONE)]


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(chat(FAR_TOO_LONG), id="chat"),
        pytest.param(ask(prompt=FAR_TOO_LONG), id="text"),
        pytest.param(ask(prompt=(1,) * 1_000_000), id="ids"),
    ],
)
def test_a_prompt_that_cannot_fit_is_refused_before_it_is_read(request_: GenerationRequest) -> None:
    async def scenario(service: ServingService) -> None:
        with pytest.raises(ContextTooLong, match=rf"at least 1000000 tokens.*is {CONTEXT} tokens"):
            await answer(service, request_)

    reads = Reads()
    serve(reads, scenario)
    assert reads.read == []


@pytest.mark.parametrize("inputs", [["a", FAR_TOO_LONG], ["a", (1,) * 1_000_000]], ids=["text", "ids"])
def test_an_input_to_embed_that_cannot_fit_is_refused_before_it_is_read(inputs: Sequence[Any]) -> None:
    async def scenario(service: ServingService) -> None:
        with pytest.raises(ContextTooLong, match=rf"at least 1000000 tokens.*is {CONTEXT} tokens") as caught:
            await service.embeddings.embed("echo", inputs, ANYONE, request_id=RequestId("req_1"))
        assert caught.value.param == "input[1]"

    reads = Reads()
    serve(reads, scenario)
    assert reads.read == []


def test_tokens_are_counted_beyond_the_context_and_not_without_bound() -> None:
    async def scenario(service: ServingService) -> None:
        assert await service.tokens.count(chat("a" * (2 * CONTEXT)), ANYONE) == 2 * CONTEXT
        read = list(reads.read)
        with pytest.raises(ContextTooLong, match="counted up to 8 times that"):
            await service.tokens.count(chat(FAR_TOO_LONG), ANYONE)
        assert reads.read == read

    reads = Reads()
    serve(reads, scenario)


@pytest.mark.parametrize(
    "more",
    [
        {"messages": (Message(role="assistant", tool_calls=(ToolCall(id="1", name="f", arguments="x" * 20_000),)),)},
        {"messages": (Message(role="user", content="a"),) * 300},
        {"tools": (ToolSpec(name="f", description="x" * 20_000),)},
        {"tools": (ToolSpec(name="f", parameters='{"a":"' + "x" * 20_000 + '"}'),)},
        {"grammar": Grammar(kind="json_schema", text='{"description":"' + "x" * 20_000 + '"}')},
        {"template_options": {"a": "x" * 20_000}},
    ],
    ids=["arguments", "messages", "description", "parameters", "grammar", "options"],
)  # fmt: skip
def test_whatever_makes_a_request_long_is_read_on_a_thread_of_its_own(more: dict[str, Any]) -> None:
    async def scenario(service: ServingService) -> None:
        asked = chat("hello") if "messages" not in more else ask(messages=())
        given = {name: getattr(asked, name) for name in asked.__struct_fields__} | more
        given["messages"] = (*given["messages"], Message(role="user", content="hello"))
        await answer(service, GenerationRequest(**given))

    reads = Reads()
    serve(reads, scenario)
    assert reads.threads == {"texts"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched(Unmasked):
    """A request whose answers are searched, and on which threads."""

    threads: set[str]

    def may_keep(self, answer: KeptAnswer) -> bool:
        self.threads.add(threading.current_thread().name.partition("_")[0])
        return True


class Searches(Reads):
    """Masks nothing, and remembers on which threads answers were searched."""

    def __init__(self) -> None:
        super().__init__()
        self.searched_on: set[str] = set()

    def mask(self, request: GenerationRequest, *given: Any) -> Any:
        return Searched(request=request, threads=self.searched_on)


@pytest.mark.parametrize(("choices", "thread"), [(9, "texts"), (1, threading.main_thread().name)])
def test_a_long_answer_is_searched_on_a_thread_before_it_is_kept(choices: int, thread: str) -> None:
    async def scenario(service: ServingService) -> None:
        asked = chat("x" * 2000, num_choices=choices, sampling=Sampling(temperature=0.0))
        await answer(service, asked)
        assert service.cache.stats().stored == 1

    reads = Searches()
    serve(reads, scenario)
    assert reads.searched_on == {thread}


def test_a_short_request_is_read_where_it_is() -> None:
    async def scenario(service: ServingService) -> None:
        assert isinstance((await answer(service, chat("hello " * 100)))[-1], Usage)

    reads = Reads()
    serve(reads, scenario)
    assert reads.threads == {threading.main_thread().name}
