"""A release that refuses what the one beside it answers: found, as a shadow, as a canary and when it is live."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from memory_replica import ECHO_INFO, MemoryReplica
from msgspec import structs
from test_release_serving import Bench, ask, run

from ashore.core.errors import ContextTooLong, UnsupportedByEngine
from ashore.data.path import GenerationRequest
from ashore.data.releases import EVERYTHING, AliasRoute, Shadowing

NARROW = structs.replace(ECHO_INFO, context_tokens=230)
WIDE = "a question that is longer than all of a narrow context, so that no room is left for an answer. " * 3
SHADOWED = AliasRoute(weights=(("chat-1", 1000),), shadow=Shadowing(release="chat-2", share=1000))
CANARY = AliasRoute(weights=(("chat-1", 500), ("chat-2", 500)), live="chat-1", watched=("chat-2", "chat-1"))
PROMOTED = AliasRoute(weights=(("chat-2", 1000),), live="chat-2", former="chat-1", standby="chat-1")


def narrow(*, both: bool = False) -> Bench:
    first = MemoryReplica(NARROW if both else ECHO_INFO)
    return Bench(first=first, second=MemoryReplica(NARROW))


async def errors(bench: Bench, stage: str) -> float:
    """Wait for a failure that counts against the candidate; return how many there were until then, 0: none comes."""
    total = 0.0
    for _ in range(100):
        found = bench.service.trials.take().get(("chat-2", stage), {})
        total += found["errors", EVERYTHING].total if ("errors", EVERYTHING) in found else 0.0
        if total > 0:
            break
        await asyncio.sleep(0.005)
    return total


async def asked(bench: Bench, count: int, *, every: int = 4, text: str = WIDE) -> int:
    """Ask short questions, and each so many one that is too long; return how many were refused."""
    refused = 0
    for number in range(count):
        said = f"{number} {text}" if number % every == every - 1 else f"short {number}"
        try:
            await bench.answer(ask(said))
        except ContextTooLong:
            refused += 1
        await asyncio.sleep(0.003)  # what is asked again has its turn, so that there is room for the next
    return refused


def test_a_shadow_that_refuses_a_copy_has_failed_at_it() -> None:
    async def scenario(bench: Bench) -> None:
        bench.service.take_routes({"chat": SHADOWED})
        await bench.answer(ask(WIDE))
        assert await errors(bench, "shadow") == 1 and bench.orders("2") == []

    run(scenario, narrow())


def test_a_canary_that_refuses_what_is_answered_elsewhere_has_failed_at_it() -> None:
    async def scenario(bench: Bench) -> None:
        bench.service.take_routes({"chat": CANARY})
        refused = await asked(bench, 40)
        assert 1 <= refused < 10
        assert await errors(bench, "canary") > 0
        assert max(len(order.prompt_ids) for order in bench.orders("1")) > 30, "it was asked whether it refuses too"

    run(scenario, narrow())


def test_what_both_refuse_is_no_fault_of_the_canary() -> None:
    async def scenario(bench: Bench) -> None:
        bench.service.take_routes({"chat": CANARY})
        assert await asked(bench, 40) == 10
        assert await errors(bench, "canary") == 0

    run(scenario, narrow(both=True))


def test_what_was_promoted_and_refuses_what_the_one_before_answers_has_failed_at_it() -> None:
    async def scenario(bench: Bench) -> None:
        bench.service.take_routes({"chat": replace(CANARY, weights=(("chat-1", 1000),))})
        assert await asked(bench, 100) == 0, "as much as is asked after it"
        bench.service.trials.take()
        bench.service.take_routes({"chat": PROMOTED})
        assert await asked(bench, 8) == 2
        assert await errors(bench, "live") > 0

    run(scenario, narrow())


@pytest.mark.parametrize("both", [True, False])
def test_a_canary_whose_engine_cannot_do_what_is_asked_has_failed_at_it(both: bool) -> None:
    plain = structs.replace(ECHO_INFO, features=tuple(one for one in ECHO_INFO.features if one != "min_p"))

    def picky(number: int) -> GenerationRequest:
        request = ask(f"question {number}")
        return structs.replace(request, sampling=structs.replace(request.sampling, min_p=0.1, temperature=1.0))

    async def scenario(bench: Bench) -> None:
        bench.service.take_routes({"chat": CANARY})
        refused = 0
        for number in range(20):
            try:
                await bench.answer(picky(number))
            except UnsupportedByEngine:
                refused += 1
            await bench.answer(ask(f"plain {number}"))
            await asyncio.sleep(0.003)
        assert refused == 20 if both else 1 <= refused < 20
        assert (await errors(bench, "canary") > 0) is not both

    run(scenario, Bench(first=MemoryReplica(plain if both else ECHO_INFO), second=MemoryReplica(plain)))
