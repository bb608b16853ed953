"""What is live beside what the one before it gave: as much asked or more, an outage of both, a request that kills."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator

import pytest
from memory_replica import MemoryReplica
from test_release_serving import Bench, ask, run

from ashore.core.errors import AshoreError, EngineFailed
from ashore.data.path.canary import HEAR_EVERY_S
from ashore.data.path.differences import Observation
from ashore.data.path.predecessor import KEPT, LEAST, RATE_S, Arrivals, Former
from ashore.data.releases import ALONE, EVERYTHING, AliasRoute, Given, GivenLevel, ReleasePolicy, Slo
from ashore.data.releases.model import KEPT as KEPT_IN_STATE

BEFORE = AliasRoute(weights=(("chat-1", 1000),), live="chat-1", watched=("chat-2", "chat-1"))
"""Each answer of `chat-1` is heard."""
AFTER = AliasRoute(weights=(("chat-2", 1000),), live="chat-2", former="chat-1", standby="chat-1")
SLO = ReleasePolicy(slo=Slo(errors_percent=1.0, ttft_ms=30, window_s=60))


def seen(at_s: float = 0.0, *, failed: bool = False, per_token_s: float = 0.01) -> Observation:
    return Observation(at_s=at_s, failed=failed, per_token_s=per_token_s)


def test_each_answer_is_laid_beside_one_alone_and_old_ones_beside_none() -> None:
    former = Former()
    for number in range(KEPT + 5):
        former.add(3, seen(float(number)), late=False)
    taken = [given.at_s for given in iter(lambda: former.take(3, 100.0), None) if given is not None]
    assert taken == [float(number) for number in range(100, KEPT + 5)]
    assert former.take(3, 0.0) is None


def test_more_than_it_ever_met_says_nothing_and_less_is_held_to_what_it_gave_with_more() -> None:
    former = Former()
    for _ in range(LEAST):
        former.add(4, seen(), late=False)
    assert former.take(5, 0.0) is None and not former.kept_to(5)
    assert former.kept_to(4, failed=0.0, late=0.0) and former.kept_to(2) and former.take(2, 0.0) is not None


def test_few_answers_say_nothing_and_a_promise_that_was_not_kept_before_is_no_fault_now() -> None:
    former = Former()
    for number in range(LEAST - 1):
        former.add(2, seen(failed=number < 2), late=number < 4)
    assert not former.kept_to(2)
    former.add(2, seen(), late=False)
    assert former.kept_to(2, failed=0.1, late=0.2)
    assert not former.kept_to(2, failed=0.05) and not former.kept_to(2, late=0.05)


def test_how_much_is_asked_is_counted_by_arrivals_of_late() -> None:
    arrivals = Arrivals()
    assert [arrivals.add(100.0) for _ in range(8)] == [1, 2, 2, 3, 3, 3, 3, 4]
    assert arrivals.add(100.0 + RATE_S) == 4, "nine in half a minute"
    assert arrivals.add(200.0) == 1


class Fails(MemoryReplica):
    """Fails at every so many tokens, or as `turns` say."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.turns: Iterator[bool] = (n % every == every - 1 for n in itertools.count())

    async def pause(self) -> None:
        if next(self.turns):
            raise EngineFailed("it fails, as asked for")
        await super().pause()


async def asked(bench: Bench, count: int) -> int:
    """Ask so often; return how many failed."""
    failed = 0
    for number in range(count):
        try:
            await bench.answer(ask(f"{number:03}"))
        except AshoreError:
            failed += 1
        await asyncio.sleep(0.002)  # copies have their turn
    return failed


async def before_and_after(bench: Bench, *, count: int = 20) -> int:
    bench.service.trials.take_policy(SLO)
    bench.service.take_routes({"chat": BEFORE})
    assert await asked(bench, 100) == 0, "37 of them at a level of 64 to 127 requests, as those that follow"
    bench.service.trials.take(), bench.service.trials.take_counts()
    bench.service.take_routes({"chat": AFTER})
    return await asked(bench, count)


def sums(bench: Bench, objective: str) -> tuple[int, int]:
    counts = bench.service.trials.take_counts().get("chat-2", [])
    return tuple(sum(getattr(c, of) for c in counts if c.objective == objective) for of in ("total", "bad"))  # type: ignore[return-value]


def test_what_fails_where_the_one_before_does_not_counts_against_it() -> None:
    async def scenario(bench: Bench) -> None:
        failed = await before_and_after(bench)
        assert 3 <= failed < 20
        found = bench.service.trials.take()["chat-2", "live"]["errors", EVERYTHING]
        assert found.count == 20 and found.total == failed
        assert sums(bench, "errors" + ALONE) == (20, failed)
        assert bench.orders("1")[-1].prompt_ids, "it was asked whether it fails too"

    run(scenario, Bench(second=Fails(every=13)))


def test_an_outage_of_both_counts_against_neither() -> None:
    async def scenario(bench: Bench) -> None:
        first = bench.replicas["1"]
        assert isinstance(first, Fails)
        first.turns = itertools.chain([False] * 100 * len("000"), itertools.repeat(True))
        assert await before_and_after(bench) == 20
        assert bench.service.trials.take() == {}
        assert sums(bench, "errors" + ALONE) == (0, 0)

    run(scenario, Bench(first=Fails(every=10_000), second=Fails(every=1)))


def test_a_slower_one_is_seen_and_a_first_token_that_comes_late() -> None:
    async def scenario(bench: Bench) -> None:
        bench.service.trials.take_policy(SLO)
        bench.service.take_routes({"chat": BEFORE})
        for number in range(55):
            await bench.answer(ask(f"{number:02} and so on"))
        bench.service.trials.take(), bench.service.trials.take_counts()
        bench.service.take_routes({"chat": AFTER})
        for number in range(5):
            await bench.answer(ask(f"{number:02} and so on"))
        found = bench.service.trials.take()["chat-2", "live"]["slower", EVERYTHING]
        assert found.count == 5 and found.mean == 1.0
        assert sums(bench, "ttft" + ALONE) == (5, 5)

    run(scenario, Bench(first=MemoryReplica(token_s=0.001), second=MemoryReplica(token_s=0.05)))


def test_a_surge_beyond_what_the_one_before_met_says_nothing() -> None:
    async def scenario(bench: Bench) -> None:
        bench.service.trials.take_policy(SLO)
        bench.service.take_routes({"chat": BEFORE})
        assert await asked(bench, 5) == 0
        bench.service.trials.take()
        bench.service.take_routes({"chat": AFTER})
        await asyncio.gather(*(bench.answer(ask(f"question {n}")) for n in range(60)))
        assert bench.service.trials.take()["chat-2", "live"]["errors", EVERYTHING].count <= 2, "the first two"
        assert sums(bench, "ttft" + ALONE) == (0, 0)

    run(scenario, Bench(second=MemoryReplica(token_s=0.05)))


def test_where_nothing_is_tried_some_answers_are_heard() -> None:
    async def scenario(bench: Bench) -> None:
        bench.service.trials.take_policy(SLO)
        bench.service.take_routes({"chat": AliasRoute(weights=(("chat-1", 1000),), live="chat-1")})
        began_s = time.monotonic()
        await asyncio.gather(*(bench.answer(ask(f"question {n}")) for n in range(30)))
        took_s = time.monotonic() - began_s
        (count,) = [c for c in bench.service.trials.take_counts()["chat-1"] if c.objective == "errors"]
        assert count.bad == 0 and 1 <= count.total <= 1 + took_s / HEAR_EVERY_S
        await asyncio.sleep(0.11)
        await bench.answer()
        assert bench.service.trials.take_counts() == {}, "in no hurry"

    run(scenario)


@pytest.mark.parametrize("route", [AFTER, BEFORE])
def test_a_request_that_kills_a_host_is_not_given_to_another_one_to_look(route: AliasRoute) -> None:
    async def scenario(bench: Bench) -> None:
        bench.service.take_routes({"chat": AliasRoute(weights=route.weights, live=route.live, former=route.former)})
        with pytest.raises(AshoreError):
            await bench.answer(ask("a long enough answer"))
        await asyncio.sleep(0.05)
        assert len(bench.orders("1")) + len(bench.orders("2")) == 1

    dying = MemoryReplica(die_after=2)
    run(scenario, Bench(second=dying) if route is AFTER else Bench(first=dying))


def test_a_worker_that_begins_after_the_promotion_goes_on_from_what_the_state_kept() -> None:
    kept: dict[str, tuple[GivenLevel, ...]] = {}

    async def before(bench: Bench) -> None:
        bench.service.take_routes({"chat": BEFORE})
        assert await asked(bench, 100) == 0
        kept.update(bench.service.trials.take_given())
        assert bench.service.trials.take_given() == {}, "in no hurry"

    async def after(bench: Bench) -> None:
        trials = bench.service.trials
        bench.service.take_routes({"chat": AFTER})
        assert bench.service.unknown_formers() == ("chat-1",)
        await bench.answer(ask("first"))
        assert trials.take() == {}, "nothing is known of the one before"
        trials.take_former("chat-1", kept["chat-1"])
        assert bench.service.unknown_formers() == ()
        failed = await asked(bench, 20)
        found = trials.take()["chat-2", "live"]["errors", EVERYTHING]
        assert found.count == 20 and found.total == failed >= 3

    run(before)
    assert sum(one.count for one in kept["chat-1"]) == 100
    assert all(len(one.kept) == min(one.count, KEPT_IN_STATE) for one in kept["chat-1"])
    assert abs(kept["chat-1"][-1].kept[-1].at_s - time.time()) < 60, "of the calendar"
    run(after, Bench(second=Fails(every=13)))


def test_what_the_state_kept_is_as_old_as_it_is() -> None:
    former = Former()
    former.add(3, seen(50.0), late=True)
    levels = former.changed(ahead_s=1_000.0)
    assert [given.at_s for given in levels[0].kept] == [1_050.0]
    assert former.changed(ahead_s=1_000.0) == ()
    again = Former.of(levels, ahead_s=990.0)
    assert again.take(3, 61.0) is None
    again = Former.of(levels, ahead_s=990.0)
    assert again.take(3, 59.0) == Given(60.0, False, 0.01)
    assert again.changed(ahead_s=0.0) == (), "the state knows"
