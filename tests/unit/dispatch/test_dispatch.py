"""The choice among unlike back ends, its simulator and the bound that it is held against."""

from __future__ import annotations

import pytest
from benchmarks.dispatch.bound import lower_bound
from benchmarks.dispatch.policies import POLICIES
from benchmarks.dispatch.shapes import SHAPES, synthesise
from benchmarks.dispatch.simulate import simulate

from ashore.data.dispatch import Backend, Request, choose
from ashore.data.dispatch.fleet import Device, Fleet
from ashore.data.dispatch.policies import ByCost
from ashore.data.dispatch.program import SLOTS_S

DEAR = Backend(
    name="dear", price_per_hour=7200, prefill_tokens_per_s=1e6, decode_tokens_per_s=1000, stream_tokens_per_s=100
)
CHEAP = Backend(
    name="cheap",
    price_per_hour=360,
    prefill_tokens_per_s=1e6,
    decode_tokens_per_s=100,
    stream_tokens_per_s=50,
    max_running=2,
)
MIXED = (
    Backend(
        name="cpu",
        count=4,
        price_per_hour=0.4,
        prefill_tokens_per_s=1500,
        decode_tokens_per_s=500,
        stream_tokens_per_s=60,
    ),
    Backend(
        name="npu",
        device="npu",
        count=2,
        price_per_hour=0.1,
        prefill_tokens_per_s=800,
        decode_tokens_per_s=40,
        stream_tokens_per_s=40,
        max_running=1,
        max_prompt_tokens=2048,
    ),
    Backend(
        name="gpu",
        device="gpu",
        price_per_hour=1.2,
        prefill_tokens_per_s=20_000,
        decode_tokens_per_s=2_000,
        stream_tokens_per_s=90,
        max_running=64,
    ),
)


def ask(number: int, *, due_s: float, output: int = 100, prompt: int = 10, arrival_s: float = 0.0) -> Request:
    return Request(
        number=number, arrival_s=arrival_s, prompt_tokens=prompt, output_tokens=output, deadline_s=arrival_s + due_s
    )


def free(*backends: Backend) -> list[list[float]]:
    return [[length_s * one.count for length_s in SLOTS_S] for one in backends]


def test_with_room_for_all_the_cheap_one_answers() -> None:
    assert choose([ask(1, due_s=60)], (DEAR, CHEAP), free(DEAR, CHEAP), 0.0).begin == {1: 1}


def test_who_can_wait_leaves_the_cheap_one_to_who_cannot() -> None:
    left = [[float(one) for one in SLOTS_S], [0.55, 0.55, *map(float, SLOTS_S[2:])]]
    urgent, patient = ask(1, due_s=4.6), ask(2, due_s=60)
    assert choose([patient, urgent], (DEAR, CHEAP), left, 0.0).begin == {1: 1}


def test_who_is_short_of_time_goes_where_it_is_dear() -> None:
    solved = choose([ask(1, due_s=1.5)], (DEAR, CHEAP), free(DEAR, CHEAP), 0.0)
    assert solved.begin == {1: 0}
    assert choose([ask(1, due_s=0.5)], (DEAR, CHEAP), free(DEAR, CHEAP), 0.0).missed == (1,)


def test_a_prompt_too_long_goes_elsewhere() -> None:
    short = Backend(
        name="npu",
        price_per_hour=1,
        prefill_tokens_per_s=1e3,
        decode_tokens_per_s=1e3,
        stream_tokens_per_s=1e3,
        max_prompt_tokens=50,
    )
    waiting = [ask(1, due_s=60, prompt=51), ask(2, due_s=60, prompt=50)]
    assert choose(waiting, (DEAR, short), free(DEAR, short), 0.0).begin == {1: 0, 2: 1}


def test_scarce_time_has_a_price_and_free_time_has_none() -> None:
    full = [[float(one) for one in SLOTS_S], [0.0] * len(SLOTS_S)]
    prices = choose([ask(1, due_s=60)], (DEAR, CHEAP), full, 0.0).prices
    assert prices.of(1, 0.0, 2.0) > 0
    assert prices.of(0, 0.0, 2.0) == 0


def test_a_device_shares_its_time_up_to_the_rate_of_one_stream() -> None:
    device = Device(CHEAP)
    device.begin(ask(1, due_s=99), 0.0)
    assert device.next_s() == pytest.approx(2.0, rel=1e-3)  # 100 tokens at 50 a second
    device.begin(ask(2, due_s=99), 0.0)
    assert device.next_s() == pytest.approx(2.0, rel=1e-3)  # both at 50, 100 together
    device.begin(ask(3, due_s=99), 1.0)
    assert device.next_s() == pytest.approx(2.5, rel=1e-3)  # three at a third of 100; half of the first two is left
    assert device.finish(device.next_s())
    assert Fleet((CHEAP,)).room(0) == 2


@pytest.fixture(scope="module", params=["azure-conversation", "burstgpt"])
def load(request: pytest.FixtureRequest) -> list[Request]:
    rate = {"azure-conversation": 5.0, "burstgpt": 4.0}[request.param]
    return synthesise(SHAPES[request.param], number=500, rate_per_s=rate, deadline_s=30, per_token_s=0.04, seed=3)


def test_no_policy_is_below_the_bound_and_the_program_is_nearest(load: list[Request]) -> None:
    outcomes = {name: simulate(load, MIXED, policy()) for name, policy in POLICIES.items()}
    bound, never = lower_bound(load, MIXED, outcomes["cost"].cost)
    assert never == outcomes["cost"].refused
    for name, one in outcomes.items():
        assert one.answered + one.refused == len(load), name
        assert one.cost >= bound * (1 - 1e-9), name
    nearest = min(outcomes, key=lambda name: outcomes[name].cost)
    assert nearest == "cost", {name: one.cost for name, one in outcomes.items()}
    assert outcomes["cost"].cost < 1.1 * bound  # a short trace: the end is not foreseen
    assert outcomes["cost"].missed <= 0.004 * len(load)


def test_grouping_costs_less_than_a_hundredth_of_the_program_that_groups_nothing() -> None:
    load = synthesise(SHAPES["chat"], number=200, rate_per_s=8, deadline_s=25, per_token_s=0.04, seed=5)
    grouped, exact = simulate(load, MIXED, ByCost()), simulate(load, MIXED, ByCost(exact=True))
    assert grouped.cost <= exact.cost * 1.01
    assert grouped.missed <= exact.missed + 1


def test_an_empty_trace_costs_nothing() -> None:
    assert simulate([], MIXED, ByCost()).cost == 0
    assert lower_bound([], MIXED, 1.0) == (0.0, 0)
