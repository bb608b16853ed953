"""Which rung of a ladder computes: down when the objective comes near, up when there is room, no back and forth."""

from __future__ import annotations

import pytest
from ladder_sim import BURST, trace
from ladder_sim import run as simulate

from ashore.data.engines.openvino.ladder import HOLD_S, Cost, Ladder, Objective

OBJECTIVE = Objective(ttft_s=1.0, tpot_s=0.06)


def ladder(*costs: float) -> Ladder:
    return Ladder(OBJECTIVE, tuple(Cost(step=one, prompt=one) for one in costs or (1.6, 1.0)))


def run(one: Ladder, *, from_s: float, to_s: float, top_step_s: float, decoding: int = 8) -> float:
    """Step from one time to another, each step as long as the rung makes it; return the share at the top."""
    now_s, top_s = from_s, 0.0
    while now_s < to_s:
        rung = one.decide(now_s, decoding=decoding, pending_s=0.0, oldest_wait_s=0.0)
        seconds = top_step_s * one.costs[rung].step / one.costs[0].step
        now_s += seconds
        top_s += seconds * (rung == 0)
        one.note(seconds=seconds, decoding=decoding)
    return top_s / (to_s - from_s)


def test_in_calm_times_the_top_computes() -> None:
    one = ladder()
    assert run(one, from_s=0, to_s=30, top_step_s=0.03) == pytest.approx(1, abs=0.01)
    assert one.switches == 0


def test_a_burst_goes_down_and_comes_back_when_it_is_over() -> None:
    one = ladder()
    run(one, from_s=0, to_s=10, top_step_s=0.02, decoding=2)
    assert run(one, from_s=10, to_s=40, top_step_s=0.07) < 0.1
    assert one.rung == 1
    assert run(one, from_s=40, to_s=70, top_step_s=0.02, decoding=1) > 0.6
    assert (one.rung, one.switches) == (0, 2)


def test_who_waits_too_long_for_a_first_token_is_reason_enough() -> None:
    one = ladder()
    assert one.decide(0.0, decoding=0, pending_s=0.4, oldest_wait_s=0.3) == 0
    assert one.decide(0.1, decoding=0, pending_s=0.65, oldest_wait_s=0.3) == 1
    assert one.decide(HOLD_S + 0.2, decoding=0, pending_s=0.0, oldest_wait_s=0.0) == 0


def test_it_goes_one_rung_at_a_time_and_stays_where_the_next_would_be_too_slow() -> None:
    one = ladder(4.0, 2.0, 1.0)
    run(one, from_s=0, to_s=60, top_step_s=0.14)
    assert one.rung == 2 and one.switches == 2, "35 ms here; 70 ms one rung up are more than the objective"
    run(one, from_s=60, to_s=60 + HOLD_S / 2, top_step_s=0.01, decoding=1)
    assert one.rung == 2, "not before a while"
    run(one, from_s=60 + HOLD_S, to_s=120, top_step_s=0.01, decoding=1)
    assert one.rung == 0 and one.switches == 4


def test_prompts_and_steps_are_expected_to_cost_what_each_costs_above() -> None:
    """Products take four times as long above, and reading the weights twice: a small step does not keep it below."""
    one = Ladder(OBJECTIVE, (Cost(step=2.0, prompt=4.0), Cost(step=1.0, prompt=1.0)))
    run(one, from_s=0, to_s=10, top_step_s=0.07)
    assert one.rung == 1
    run(one, from_s=10, to_s=20, top_step_s=0.026, decoding=2)
    assert one.rung == 0, "13 ms here are 26 there, of the 30 that are well within the objective"
    one.decide(20.0, decoding=0, pending_s=0.95, oldest_wait_s=0.0)
    assert one.decide(20 + HOLD_S + 0.1, decoding=0, pending_s=0.15, oldest_wait_s=0.0) == 1, "0.6 s there"
    assert one.decide(20 + HOLD_S + 0.2, decoding=0, pending_s=0.1, oldest_wait_s=0.0) == 0


def test_a_load_at_the_edge_does_not_swing() -> None:
    one = ladder()
    run(one, from_s=0, to_s=300, top_step_s=0.049)
    assert one.switches <= 1


@pytest.mark.parametrize("top", ["bf16", "fp32"])
def test_a_burst_is_answered_as_by_the_lowest_rung_and_calm_times_as_by_the_top(top: str) -> None:
    """At 0.9 of what the lowest rung can do, by a virtual clock; `tests/support/ladder_sim.py` prints more of it."""
    traces = [trace(seed, 4.5) for seed in range(3)]
    ways = {rungs: [simulate(one, rungs) for one in traces] for rungs in ((top,), ("int8",), (top, "int8"))}
    missed = {rungs: sum(one.missed for one in told) / len(told) for rungs, told in ways.items()}
    assert missed[top,] > 0.3
    assert missed[top, "int8"] <= 0.1 * missed[top,] and missed[top, "int8"] <= missed["int8",] + 0.01
    calm = [one.at_the_top(0.0, BURST[0] - 5) for one in ways[top, "int8"]]
    assert sum(calm) / len(calm) >= 0.6
