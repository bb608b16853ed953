"""Which rung of a ladder computes: down when the objective comes near, up when there is room, no back and forth."""

from __future__ import annotations

import pytest

from ashore.engines.openvino.ladder import HOLD_S, Ladder, Objective

OBJECTIVE = Objective(ttft_s=1.0, tpot_s=0.06)


def ladder(*costs: float) -> Ladder:
    return Ladder(OBJECTIVE, costs or (1.6, 1.0))


def run(one: Ladder, *, from_s: float, to_s: float, top_step_s: float, decoding: int = 8) -> float:
    """Step from one time to another, each step as long as the rung makes it; return the share at the top."""
    now_s, top_s = from_s, 0.0
    while now_s < to_s:
        rung = one.decide(now_s, decoding=decoding, pending_s=0.0, oldest_wait_s=0.0)
        seconds = top_step_s * one.costs[rung] / one.costs[0]
        now_s += seconds
        top_s += seconds * (rung == 0)
        one.note(now_s, seconds=seconds, decoding=decoding)
    return top_s / (to_s - from_s)


def test_in_calm_times_the_top_computes() -> None:
    one = ladder()
    assert run(one, from_s=0, to_s=30, top_step_s=0.03) == pytest.approx(1, abs=0.01)
    assert one.switches == 0


def test_a_burst_goes_down_at_once_and_comes_back_when_it_is_over() -> None:
    one = ladder()
    run(one, from_s=0, to_s=10, top_step_s=0.02, decoding=2)
    assert run(one, from_s=10, to_s=40, top_step_s=0.055) < 0.02, "36 ms of 60 is where it goes down"
    now_s = 40.0
    for _ in range(100):  # an idle engine: a short step now and then
        now_s += 0.2
        one.note(now_s, seconds=0.01, decoding=1)
        one.decide(now_s, decoding=1, pending_s=0.0, oldest_wait_s=0.0)
    assert (one.rung, one.switches) == (0, 2)


def test_who_waits_too_long_for_a_first_token_is_reason_enough() -> None:
    one = ladder()
    assert one.decide(0.0, decoding=0, pending_s=0.3, oldest_wait_s=0.2) == 0
    assert one.decide(0.1, decoding=0, pending_s=0.5, oldest_wait_s=0.2) == 1


def test_it_stays_down_where_the_top_would_be_too_slow_and_goes_one_rung_at_a_time() -> None:
    one = ladder(4.0, 2.0, 1.0)
    assert run(one, from_s=0, to_s=60, top_step_s=0.12) < 0.02
    assert one.rung == 2 and one.switches == 2, "30 ms here; 60 ms one rung up is the whole objective"
    before = one.switches
    run(one, from_s=60, to_s=60 + HOLD_S - 1, top_step_s=0.01, decoding=1)
    assert one.rung == 2, "not before a while"
    run(one, from_s=60 + HOLD_S, to_s=90, top_step_s=0.01, decoding=1)
    assert (one.rung > 0 and one.switches > before) or one.rung == 2


def test_a_load_at_the_edge_does_not_swing() -> None:
    one = ladder()
    run(one, from_s=0, to_s=300, top_step_s=0.036)
    assert one.switches <= 1
