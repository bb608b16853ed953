"""The guard of a canary's objectives: burn rates over two windows, and what it takes to fire."""

from __future__ import annotations

import asyncio

import pytest
from memory_replica import MemoryReplica
from test_release_serving import Bench, ask, run

from ashore.core.errors import AshoreError, InvalidSpec
from ashore.data.releases import AliasRoute, Count, ReleasePolicy, Slo, burning
from ashore.machine.config import parse_spec

NOW = 1_000_000
HOUR = Slo(errors_percent=1.0)


def counts(*parts: tuple[int, int, int], objective: str = "errors") -> list[Count]:
    """Counts from (seconds ago, requests, bad ones)."""
    return [Count(objective=objective, at_s=NOW - ago, total=total, bad=bad) for ago, total, bad in parts]


@pytest.mark.parametrize(
    ("seen", "fires"),
    [
        (counts((60, 30, 5)), True),  # young: what there is counts for both windows
        (counts((60, 30, 4)), False),  # too few bad ones to say anything
        (counts((60, 100, 5)), False),  # 5 times, and 6 is the bar of the slow rule
        (counts((60, 100, 6)), True),
        (counts((1800, 100, 20), (60, 100, 15)), True),
        (counts((1800, 1000, 20), (60, 100, 15)), False),  # a short spike in a long quiet hour
        (counts((4000, 200, 100), (60, 100, 0)), False),  # over by now
        (counts((4000, 200, 100)), False),  # nobody asks any more
        (counts((4000, 500, 500), (60, 100, 1)), False),  # older than the window
        (counts((20_000, 1000, 80), (1000, 300, 20), (60, 50, 3)), True),  # slow: 6 over six hours and half an hour
        (counts((20_000, 1000, 80), (1000, 300, 10), (60, 50, 1)), False),
        (counts((22_000, 1000, 900), (1000, 300, 10)), False),
        ([], False),
    ],
)
def test_both_windows_must_burn(seen: list[Count], fires: bool) -> None:
    assert (burning(HOUR, seen, NOW) is not None) == fires


def test_what_it_says_is_what_was_seen() -> None:
    found = burning(HOUR, counts((1800, 100, 20), (60, 100, 30)), NOW)
    assert found is not None
    assert found.evidence == {
        "objective": "errors", "allowed_percent": 1.0, "long_window_s": 3600, "short_window_s": 300,
        "burn_rate_long": 25.0, "burn_rate_short": 30.0, "bad": 50, "requests": 200,
    }  # fmt: skip


def test_the_fast_rule_is_told_before_the_slow_one() -> None:
    fast, slow = (burning(HOUR, counts((1000, 100, bad), (60, 100, bad)), NOW) for bad in (15, 14))
    assert fast is not None and slow is not None and (fast.long_s, slow.long_s) == (3600, 21_600)


def test_windows_scale_with_the_one_that_is_given() -> None:
    slo = Slo(errors_percent=1.0, window_s=60)
    assert burning(slo, counts((3, 50, 20)), NOW) is not None
    assert burning(slo, counts((9, 50, 20)), NOW) is not None, "the slow rule: 360 s and 30 s"
    assert burning(slo, counts((40, 50, 20)), NOW) is None
    assert (slo.bucket_s, slo.longest_s, HOUR.bucket_s) == (1, 360, 30)


def test_a_late_first_token_is_an_objective_of_its_own() -> None:
    slo = Slo(ttft_ms=500, ttft_percent=95)
    seen = counts((10, 40, 30), objective="ttft")
    found = burning(slo, [*seen, *counts((10, 40, 40))], NOW)
    assert found is not None and found.objective == "ttft" and found.long_rate == pytest.approx(15.0)
    assert burning(slo, counts((10, 40, 10), objective="ttft"), NOW) is None
    assert burning(Slo(), seen, NOW) is None, "nothing is promised"


def test_requests_of_a_canary_and_of_what_is_live_are_counted() -> None:
    async def scenario(bench: Bench) -> None:
        bench.service.trials.take_policy(ReleasePolicy(slo=Slo(errors_percent=1.0, ttft_ms=15, window_s=60)))
        both = AliasRoute(weights=(("chat-1", 500), ("chat-2", 500)), watched=("chat-2", "chat-1"))
        bench.service.take_routes({"chat": both})
        failed = 0
        for number in range(16):
            try:
                await bench.answer(ask(f"q{number}"))
            except AshoreError:
                failed += 1
        found = bench.service.trials.take_counts()
        assert bench.service.trials.take_counts() == {}
        sums = {
            (name, objective): (
                sum(c.total for c in found[name] if c.objective == objective),
                sum(c.bad for c in found[name] if c.objective == objective),
            )
            for name in found
            for objective in ("errors", "ttft")
        }
        total, bad = sums["chat-1", "ttft"]
        assert total > 0 and bad == total, "each first token of it takes 20 ms"
        assert sums["chat-1", "errors"][1] == 0
        assert sums["chat-2", "ttft"][0] > 0 and sums["chat-2", "ttft"][1] < sums["chat-2", "ttft"][0]
        assert failed == 0

    run(scenario, Bench(first=MemoryReplica(token_s=0.02)))


def test_nothing_is_counted_where_nothing_is_promised() -> None:
    async def scenario(bench: Bench) -> None:
        both = AliasRoute(weights=(("chat-1", 500), ("chat-2", 500)), watched=("chat-2", "chat-1"))
        bench.service.take_routes({"chat": both})
        for number in range(5):
            await bench.answer(ask(f"question {number}"))
        assert bench.service.trials.take_counts() == {}
        await asyncio.sleep(0)

    run(scenario)


def test_the_part_of_ashore_toml() -> None:
    text = "[release.slo]\nerrors_percent = 1\nttft_ms = 800\nttft_percent = 96.5\nwindow_s = 600\n"
    assert parse_spec(text).release.slo == Slo(errors_percent=1.0, ttft_ms=800, ttft_percent=96.5, window_s=600)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("errors_percent = 8", "at most 6.9 %"),
        ("ttft_ms = 100\nttft_percent = 90", "at most 6.9 %"),
        ("ttft_ms = 100\nttft_percent = 100", "more than 0"),
        ("errors_percent = -1", "expected 0 to 100"),
        ("window_s = 3", "expected 24"),
        ("eror_percent = 1", "unknown key"),
    ],
)
def test_what_can_never_fire_is_refused(text: str, told: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        parse_spec(f"[release.slo]\n{text}\n")
    assert told in refused.value.message + refused.value.hint and "[slo]" in refused.value.message
