"""What shadows cost: nothing at the live host, a fifth of the time, and what is dropped is told."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace

import pytest
from memory_replica import MemoryReplica
from msgspec import structs
from test_release_serving import ALICE, Bench, ask, run, until

from ashore.core.clock import ManualClock
from ashore.data.engines import ScoredText, ScoreText, TokenLogprob
from ashore.data.path import Delta, Usage, answer_listener
from ashore.data.path.admission import Load
from ashore.data.path.background import FRESH_S, QUEUE, REST, Aside
from ashore.data.path.canary import DROPPED
from ashore.data.releases import EVERYTHING, AliasRoute, Shadowing

SHADOWED = AliasRoute(weights=(("chat-1", 1000),), live="chat-1", shadow=Shadowing(release="chat-2", share=1000))


class Scores(MemoryReplica):
    """Finds each token as likely as it is told, and keeps what it was asked."""

    def __init__(self, logprob: float) -> None:
        super().__init__()
        self.asked: list[ScoreText] = []
        self._logprob = logprob

    async def score(self, texts: list[ScoreText], *, top_logprobs: int = 0, tenant: str = "") -> list[ScoredText]:
        self.asked += texts
        return [[(TokenLogprob(one, self._logprob),) for one in text.ids[text.start :]] for text in texts]


def told(bench: Bench, number: str) -> list[int | None]:
    return [order.top_logprobs for order in bench.orders(number)]


def test_how_likely_a_live_answer_was_is_told_while_it_is_made_and_its_host_computes_nothing_more() -> None:
    async def scenario(bench: Bench) -> None:
        one, two = bench.replicas["1"], bench.replicas["2"]
        assert isinstance(one, Scores) and isinstance(two, Scores)
        bench.service.take_routes({"chat": SHADOWED})
        events = await bench.answer()
        assert not any(event.logprobs for event in events if isinstance(event, Delta)), "nobody asked for them"
        means = await bench.observed("shadow")
        assert means["likelihood", EVERYTHING] == pytest.approx(0.4), "0.5 here, 0.1 there"
        assert not one.asked and len(two.asked) == 1
        (usage,) = [event for event in events if isinstance(event, Usage)]
        assert usage.scored is not None and tuple(two.asked[0].ids[two.asked[0].start :]) == usage.scored.ids
        assert told(bench, "1") == [0] and told(bench, "2") == [None]

    run(scenario, Bench(first=Scores(-9.0), second=Scores(-0.5)))


def test_a_request_that_is_not_copied_is_asked_of_the_engine_as_its_client_asked() -> None:
    async def scenario(bench: Bench) -> None:
        bench.service.take_routes({"chat": replace(SHADOWED, shadow=None)})
        await bench.answer()
        bench.service.take_routes({"chat": SHADOWED})
        await bench.answer(structs.replace(ask("how likely?"), top_logprobs=2))
        assert told(bench, "1") == [None, 2]
        assert (await bench.observed("shadow"))["likelihood", EVERYTHING] == pytest.approx(0)

    run(scenario)


class Gate:
    load_of_all = Load()


class Model:
    gate = Gate()


class Bunch:
    """Copies of one model, whose comparing takes so long."""

    def __init__(self, took_s: float) -> None:
        self.clock, self.took_s = ManualClock(), took_s
        self.runs: list[list[int]] = []
        self.idle = 0.0
        self.dropped: list[int] = []
        self._together: list[int] = []
        self.aside = Aside(
            self.clock,
            compare=self.compare,
            drop=lambda copy: self.dropped.append(copy.number),
            idle_part=lambda: self.idle,
        )  # type: ignore[attr-defined]

    async def compare(self, copy: object) -> None:
        if not self._together:
            self.runs.append(self._together)
        self._together.append(copy.number)  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        if self._together:
            self._together = []
            self.clock.advance(self.took_s)

    def add(self, *numbers: int) -> None:
        for number in numbers:
            copy = type("Copy", (), {"number": number, "trial": Trial, "live": Live(self.clock.monotonic_s())})
            self.aside.copy(copy)  # type: ignore[arg-type]


class Trial:
    model = Model()


class Live:
    def __init__(self, at_s: float) -> None:
        self.at_s = at_s


def test_copies_rest_while_anybody_is_answered_and_processors_are_short() -> None:
    async def scenario() -> None:
        bunch = Bunch(took_s=0.25)
        Gate.load_of_all = Load(running=3)
        bunch.add(*range(6))
        await until(lambda: len(bunch.runs) == 1)
        assert bunch.runs[0] == [0], "one alone"
        await asyncio.sleep(0.05)
        bunch.clock.advance(REST * 0.25 - 8)
        await asyncio.sleep(0.05)
        assert len(bunch.runs) == 1, "they rest"
        bunch.clock.advance(8.0)
        await until(lambda: len(bunch.runs) == 2)
        bunch.idle = 0.5
        await until(lambda: len(bunch.runs) == 3)
        assert bunch.runs[2] == [2, 3, 4, 5], "there is room for all of them"
        bunch.idle = 0.0
        Gate.load_of_all = Load()
        bunch.add(6)
        await until(lambda: len(bunch.runs) == 4)
        await bunch.aside.close()

    asyncio.run(scenario())


def test_a_copy_whose_turn_does_not_come_is_dropped_and_so_is_what_finds_no_room() -> None:
    async def scenario() -> None:
        bunch = Bunch(took_s=1.0)
        Gate.load_of_all = Load(running=1, waiting=1)
        bunch.add(*range(QUEUE))
        assert not bunch.aside.takes_copies
        await asyncio.sleep(0.05)
        assert not bunch.runs, "somebody waits for an answer"
        bunch.clock.advance(FRESH_S + 1)
        await until(lambda: len(bunch.dropped) == QUEUE)
        Gate.load_of_all = Load()
        await bunch.aside.close()

    asyncio.run(scenario())


def test_the_part_that_was_dropped_is_told() -> None:
    async def scenario(bench: Bench) -> None:
        bench.service.take_routes({"chat": SHADOWED})
        for number in range(QUEUE + 12):
            await bench.answer(ask(f"question {number}"))
        await until(lambda: bench.service.trials.dropped > 0)
        found: dict[str, tuple[int, float]] = {}
        for (name, part), tally in bench.service.trials.take()["chat-2", "shadow"].items():
            if not part:
                found[name] = (tally.count, tally.total)
        assert found[DROPPED][1] == bench.service.trials.dropped

    run(scenario, Bench(second=MemoryReplica(token_s=0.2)))


def test_a_live_answer_is_scored_for_its_own_client_alone() -> None:
    async def scenario(bench: Bench) -> None:
        bench.service.take_routes({"chat": SHADOWED})
        same = [bench.service.generate(structs.replace(ask("at once"), top_logprobs=None), ALICE) for _ in range(2)]

        async def whole(number: int) -> list[object]:
            return [event async for event in same[number]]

        first, second = await asyncio.gather(whole(0), whole(1))
        assert len(bench.orders("1")) == 1, "they share one generation"
        assert first[1:] == second[1:]

    run(scenario)


def test_what_a_candidate_was_laid_beside_is_forgotten_when_it_is_tried_no_more() -> None:
    """Each of these holds a request, an answer and a loaded model, for as long as the worker lived."""

    def held() -> int:
        gc.collect()
        return sum(isinstance(one, answer_listener.Trial) for one in gc.get_objects())

    async def scenario(bench: Bench) -> None:
        before, plain = held(), replace(SHADOWED, shadow=None)
        for number in range(3):
            bench.service.take_routes({"chat": replace(plain, watched=(f"candidate-{number}", "chat-1"))})
            await bench.answer()
            bench.service.take_routes({"chat": replace(plain, watched=("chat-2", "chat-1"))})
        await bench.answer()
        assert held() == before + 1
        bench.service.take_routes({"chat": plain})
        assert held() == before

    run(scenario)
