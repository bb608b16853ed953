"""Which server gets an order, when one is put out, how it comes back: the rules alone, with a clock of the test."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashore.data.engines.vllm.pool import FAILURES_OUT, FIRST_PAUSE_S, LONGEST_PAUSE_S, Backend, Pool


@pytest.fixture
def pool() -> Pool:
    found = Pool(["http://a", "http://b", "http://c"])
    for one in found.backends:
        assert found.probed(one, 0.0)
    return found


def put_out(pool: Pool, one: Backend, now_s: float) -> None:
    for number in range(FAILURES_OUT):
        assert pool.failed(one, "broke", now_s, refused=False) == (number == FAILURES_OUT - 1)


def test_no_server_gets_an_order_before_it_has_said_what_it_serves() -> None:
    pool = Pool(["http://a"])
    assert pool.pick(0.0) is None and pool.next_trial_s() is None
    pool.probed(pool.backends[0], 0.0, why="503")
    assert pool.pick(99.0) is None, "a server that never was ready gets no trial"
    pool.probed(pool.backends[0], 1.0)
    assert pool.pick(1.0) is pool.backends[0]


def test_the_least_loaded_server_is_taken_and_equals_in_turn(pool: Pool) -> None:
    a, b, c = pool.backends
    with pool.running(a), pool.running(b):
        assert pool.pick(0.0) is c
    assert [one.running for one in pool.backends] == [0, 0, 0]
    for _ in range(7):
        one = pool.pick(0.0)
        assert one is not None
        with pool.running(one):
            pass
    assert [one.sent for one in pool.backends] == [3, 3, 3]


def test_an_order_goes_back_to_a_server_that_failed_it_only_where_there_is_no_other(pool: Pool) -> None:
    a, b, c = pool.backends
    assert pool.pick(0.0, {a.url, b.url}) is c
    assert pool.pick(0.0, {a.url, b.url, c.url}) is a
    put_out(pool, b, 0.0)
    put_out(pool, c, 0.0)
    assert pool.pick(0.0, {a.url}) is a


def test_one_refusal_puts_a_server_out_and_several_failures_do(pool: Pool) -> None:
    a, b, _ = pool.backends
    assert pool.failed(a, "refused", 0.0, refused=True)
    assert (a.state, a.reason, a.times_out) == ("out", "refused", 1)
    put_out(pool, b, 0.0)
    pool.answered(b)
    assert b.state == "ready", "an order that was sent before may still bring it back"


def test_a_token_between_two_failures_keeps_a_server_in(pool: Pool) -> None:
    a = pool.backends[0]
    for _ in range(3 * FAILURES_OUT):
        assert not pool.failed(a, "broke", 0.0, refused=False)
        pool.answered(a)
    assert a.state == "ready" and a.last_error == "broke"


def test_a_server_that_orders_put_out_comes_back_by_one_trial_and_by_no_probe(pool: Pool) -> None:
    a, *others = pool.backends
    put_out(pool, a, 0.0)
    assert not pool.probed(a, 0.1), "a server may answer probes and no orders"
    assert pool.pick(0.5) in others
    assert pool.pick(FIRST_PAUSE_S) is a
    with pool.running(a):
        assert pool.pick(FIRST_PAUSE_S) in others, "one trial at a time"
    assert pool.pick(FIRST_PAUSE_S, {a.url}) in others, "not by the order that it failed"
    for other in others:
        pool.failed(other, "refused", 0.0, refused=True)
    assert pool.pick(FIRST_PAUSE_S, {a.url}) is a, "but where there is no other"
    assert pool.answered(a)
    assert (a.state, a.reason) == ("ready", "")


def test_pauses_double_up_to_a_limit_and_begin_anew_after_a_success(pool: Pool) -> None:
    a = pool.backends[0]
    put_out(pool, a, 0.0)
    now_s, pauses = 0.0, []
    for _ in range(8):
        pauses.append(a.due_s - now_s)
        now_s = a.due_s
        assert not pool.failed(a, "broke", now_s, refused=False)
    assert pauses == [1, 2, 4, 8, 16, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    pool.answered(a)
    put_out(pool, a, now_s)
    assert a.due_s - now_s == FIRST_PAUSE_S


def test_orders_that_fail_together_make_no_longer_pause(pool: Pool) -> None:
    a = pool.backends[0]
    for _ in range(50):
        pool.failed(a, "broke", 0.0, refused=False)
    assert (a.due_s, a.times_out) == (FIRST_PAUSE_S, 1)


def test_a_server_that_was_out_of_reach_comes_back_when_a_probe_finds_it(pool: Pool) -> None:
    a = pool.backends[0]
    pool.failed(a, "refused", 0.0, refused=True)
    assert pool.pick(99.0) is not a, "no order is risked on it"
    assert pool.probed(a, 0.0) and a.state == "ready"


def test_probes_put_a_server_out_at_the_second_and_bring_it_back_at_the_first(pool: Pool) -> None:
    a = pool.backends[0]
    assert not pool.probed(a, 0.0, why="503")
    assert pool.probed(a, 0.0, why="503 again")
    assert (a.state, a.reason) == ("out", "503 again")
    assert pool.next_trial_s() is None and pool.pick(999.0) is not a, "no order is risked on it"
    assert not pool.probed(a, 0.0, why="timeout")
    assert a.reason == "timeout", "the reason is the last one"
    assert pool.probed(a, 0.0)
    assert a.state == "ready" and a.last_error == "timeout"


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["fail", "refuse", "answer", "well", "ill", "wait"])), max_size=60
    )
)
def test_whatever_happens_a_server_that_is_well_again_gets_orders_again(events: list[tuple[int, str]]) -> None:
    pool = Pool(["http://a", "http://b", "http://c"])
    now_s = 0.0
    for number, what in events:
        one = pool.backends[number]
        match what:
            case "fail" | "refuse":
                if one.state != "new":
                    pool.failed(one, what, now_s, refused=what == "refuse")
            case "answer":
                if one.state != "new":
                    pool.answered(one)
            case "well" | "ill":
                pool.probed(one, now_s, why="" if what == "well" else "ill")
            case "wait":
                now_s += 1.0
        assert all(bool(one.reason) == (one.state != "ready") for one in pool.backends)
        chosen = pool.pick(now_s)
        assert chosen is None or chosen.state != "new"
        assert chosen is not None or not pool.ready
    for one in pool.backends:
        pool.probed(one, now_s)
        if one.state == "out":
            now_s = max(now_s, one.due_s)
            assert pool.pick(now_s, {other.url for other in pool.backends if other is not one}) is one
            pool.answered(one)
        assert one.state == "ready"


def test_a_server_that_drains_gets_no_order_and_no_trial_and_is_as_it_was_afterwards(pool: Pool) -> None:
    a, b, c = pool.backends
    put_out(pool, b, 0.0)
    pool.set({a.url: True, b.url: True, c.url: False, "http://d": False})
    assert pool.backends[:3] == (a, b, c) and pool.ready == (c,)
    assert pool.pick(99.0) is c and pool.next_trial_s() is None
    assert pool.pick(99.0, {c.url}) is c, "another one is drained, or was never ready"
    pool.set({a.url: False, b.url: False})
    assert pool.backends == (a, b) and pool.ready == (a,) and pool.pick(99.0) is b
