"""Equal refusals: one record at the first, then one with their number each minute, in bounded memory and on a bounded
disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from audit_notes import a_log, records

from ashore.data.audit.knocks import MOST_KINDS, MOST_KNOWN, Knocks
from ashore.kit.recorder import Act

KNOCK = Act(action="access:authenticate", actor="-", outcome="denied", origin="203.0.113.7", reason="invalid_api_key")
MINUTE_US = 60_000_000


def test_the_first_is_new_and_the_rest_are_counted_until_they_stop() -> None:
    knocks = Knocks()
    assert [knocks.is_new(KNOCK, second * 1_000_000) for second in range(60)] == [True, *[False] * 59]
    (minute,) = knocks.take()
    assert (minute.origin, minute.reason) == (KNOCK.origin, KNOCK.reason)
    assert dict(minute.detail) == {"count": 59, "first": "1970-01-01T00:00:01.000Z", "last": "1970-01-01T00:00:59.000Z"}
    assert not knocks.is_new(KNOCK, MINUTE_US)
    assert [act.detail["count"] for act in knocks.take()] == [1]
    assert knocks.take() == []
    assert knocks.is_new(KNOCK, 9 * MINUTE_US), "after a quiet minute it is the first again"


@pytest.mark.parametrize(
    "other",
    [
        replace(KNOCK, origin="203.0.113.8"),
        replace(KNOCK, reason="too_many_attempts"),
        replace(KNOCK, actor="alice", tenant="bank-a"),
        replace(KNOCK, resource="role/x"),
        replace(KNOCK, detail={"key": "ash_0a1b2c3d"}),
    ],
)
def test_what_differs_is_new(other: Act) -> None:
    knocks = Knocks()
    assert knocks.is_new(KNOCK, 1)
    assert knocks.is_new(other, 2)


def test_one_network_of_ipv6_is_one_address() -> None:
    knocks = Knocks()
    news = [knocks.is_new(replace(KNOCK, origin=f"2001:db8::{number:x}"), 1) for number in range(1, 100)]
    assert news.count(True) == 1
    (counted,) = knocks.take()
    assert (counted.origin, counted.detail["count"]) == ("2001:db8::/64", 98)


def test_one_address_that_varies_what_it_asks_leaves_room_for_others() -> None:
    knocks = Knocks()
    news = sum(knocks.is_new(replace(KNOCK, resource=f"role/{number}"), 1) for number in range(1_000))
    assert news == MOST_KINDS
    assert knocks.is_new(replace(KNOCK, origin="203.0.113.8"), 1)
    (rest,) = knocks.take()
    assert (rest.action, rest.origin, rest.detail["count"]) == (KNOCK.action, KNOCK.origin, 1_000 - MOST_KINDS)


def test_many_addresses_fill_neither_memory_nor_the_room_of_callers_with_a_key() -> None:
    knocks = Knocks()
    strangers = [replace(KNOCK, origin=f"10.{number >> 8}.{number & 255}.1") for number in range(5_000)]
    assert sum(knocks.is_new(one, 1) for one in strangers) == MOST_KNOWN
    assert knocks.is_new(replace(KNOCK, actor="alice", tenant="bank-a", origin="10.9.9.9"), 1)
    told = knocks.take()
    assert sum(int(act.detail["count"]) for act in told) == 5_000 - MOST_KNOWN
    assert len(told) == 1


def test_knocks_hide_no_guess_at_an_account_and_no_caller_hides_another_behind_one_address() -> None:
    knocks = Knocks()
    for number in range(1_000):
        knocks.is_new(replace(KNOCK, origin=f"10.{number >> 8}.{number & 255}.1"), 1)
    for action in ("session:refuse", "account:lock", "address:lock", "access:lock-out"):
        guess = Act(action=action, actor="sec", resource="account/sec", outcome="denied", origin="10.9.9.9")
        assert knocks.is_new(guess, 1), "guesses are another action"
    mallory, alice = (Act(action="access:read", actor=name, tenant="bank-a", outcome="denied") for name in ("m", "a"))
    news = sum(knocks.is_new(replace(mallory, resource=f"tenant/{number}"), 1) for number in range(100))
    assert news == MOST_KINDS
    assert knocks.is_new(replace(alice, resource="tenant/bank-b"), 1)
    rest = {(act.action, act.actor, act.origin): act.detail["count"] for act in knocks.take()}
    assert rest == {(KNOCK.action, "system", ""): 1_000 - MOST_KNOWN, ("access:read", "m", ""): 100 - MOST_KINDS}


def test_ten_thousand_refusals_are_few_records_and_all_of_them_are_counted_at_the_end(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    for number in range(10_000):
        log.record(replace(KNOCK, request_id=f"req-{number}"))
    log.close()
    told = [one for one in records(tmp_path) if one.action == KNOCK.action]
    assert [one.detail.get("count", 1) for one in told] == [1, 9_999]
    assert (told[0].request_id, told[1].request_id) == ("req-0", "")


def test_changes_that_fail_are_counted_and_changes_that_are_done_never(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    failed = Act(action="key:create", actor="alice", tenant="bank-a", outcome="failed", reason="conflict: 20 keys")
    for _ in range(1_000):
        log.record(failed)
        log.record(replace(failed, outcome="done", reason=""))
    log.close()
    told = [one for one in records(tmp_path) if one.action == failed.action]
    assert [one.detail.get("count", 1) for one in told if one.outcome == "failed"] == [1, 999]
    assert sum(one.outcome == "done" for one in told) == 1_000
