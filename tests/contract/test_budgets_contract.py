"""One contract for every ledger, and one for every authority of budgets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from postgres_server import fresh_state

from ashore.core.clock import ManualClock
from ashore.data.authority.budgets import (
    Asker,
    BudgetRule,
    Count,
    CountRow,
    MappedLedger,
    RuleBook,
    Short,
    SqlAuthority,
    Usage,
)
from ashore.kit.state import Database, EpochWatch, open_state

ALICE = Asker("ash_1", "alice", "acme", "chat")
BOB = Asker("ash_2", "bob", "acme", "chat")
NOW_MS = 1_700_000_000_000
SUBJECT = ("", "alice", "", "")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now_s=NOW_MS / 1000)


@pytest.fixture
def ledger(tmp_path: Path, clock: ManualClock) -> Iterator[MappedLedger]:
    one = MappedLedger(tmp_path / "budgets", clock)
    yield one
    one.close()


def book(*rules: BudgetRule) -> RuleBook:
    return RuleBook(rules)


class TestLedger:
    """What every `Ledger` does."""

    def test_what_is_set_aside_is_not_there_for_others_and_comes_back(self, ledger: MappedLedger) -> None:
        sheet = book(BudgetRule(kind="tokens", window="total", cap=100, tenant="acme")).sheet(ALICE, ledger.now_ms())
        hold = ledger.reserve(sheet.lines, sheet.usage, 80)
        with pytest.raises(Short) as short:
            ledger.reserve(sheet.lines, sheet.usage, 21)
        assert short.value.left == 20
        ledger.settle(hold, 10, 15, 0, counts=True)
        ledger.settle(hold, 10, 15, 0, counts=True)
        assert ledger.used(sheet.lines[0]) == 25
        ledger.reserve(sheet.lines, sheet.usage, 75)
        assert ledger.used(sheet.lines[0]) == 100

    def test_a_request_fits_all_of_its_budgets_or_takes_nothing(self, ledger: MappedLedger) -> None:
        rules = book(
            BudgetRule(kind="tokens", window="day", cap=1000, tenant="acme"),
            BudgetRule(kind="tokens", window="minute", cap=10, user="*"),
        )
        sheet = rules.sheet(ALICE, ledger.now_ms())
        with pytest.raises(Short):
            ledger.reserve(sheet.lines, sheet.usage, 11)
        assert [ledger.used(line) for line in sheet.lines] == [0, 0]
        ledger.reserve(sheet.lines, sheet.usage, 10)
        bob = rules.sheet(BOB, ledger.now_ms())
        assert sorted(ledger.used(line) for line in bob.lines) == [0, 10]

    def test_of_several_the_one_that_resets_last_is_named(self, ledger: MappedLedger) -> None:
        rules = [BudgetRule(kind="requests", window=window, cap=0) for window in ("minute", "day", "hour")]
        sheet = book(*rules).sheet(ALICE, ledger.now_ms())
        with pytest.raises(Short) as short:
            ledger.charge(sheet.lines, sheet.usage, 0)
        assert short.value.line.rule_id == rules[1].rule_id

    def test_a_new_window_begins_empty_and_an_old_one_takes_what_it_began(
        self, ledger: MappedLedger, clock: ManualClock
    ) -> None:
        rules = book(BudgetRule(kind="tokens", window="minute", cap=100))
        sheet = rules.sheet(ALICE, ledger.now_ms())
        hold = ledger.reserve(sheet.lines, sheet.usage, 100)
        clock.advance(60)
        later = rules.sheet(ALICE, ledger.now_ms())
        assert ledger.used(later.lines[0]) == 0
        other = ledger.reserve(later.lines, later.usage, 100)
        ledger.settle(hold, 40, 0, 0, counts=True)
        assert (ledger.used(sheet.lines[0]), ledger.used(later.lines[0])) == (40, 100)
        ledger.settle(other, 0, 0, 0, counts=False)

    def test_a_place_among_the_concurrent_ones_is_free_when_the_client_leaves(self, ledger: MappedLedger) -> None:
        sheet = book(
            BudgetRule(kind="concurrency", window="now", cap=1), BudgetRule(kind="tokens", window="total", cap=10)
        ).sheet(ALICE, ledger.now_ms())
        hold = ledger.reserve(sheet.lines, sheet.usage, 5)
        with pytest.raises(Short):
            ledger.reserve(sheet.lines, sheet.usage, 5)
        ledger.leave(hold)
        ledger.leave(hold)
        other = ledger.reserve(sheet.lines, sheet.usage, 5)
        ledger.settle(hold, 0, 5, 0, counts=True)
        with pytest.raises(Short):
            ledger.reserve(sheet.lines, sheet.usage, 0)
        ledger.settle(other, 0, 5, 0, counts=True)
        assert sorted(ledger.used(line) for line in sheet.lines) == [0, 10]

    def test_a_lowered_cap_holds_at_once(self, ledger: MappedLedger) -> None:
        sheet = book(BudgetRule(kind="tokens", window="total", cap=100)).sheet(ALICE, ledger.now_ms())
        ledger.settle(ledger.reserve(sheet.lines, sheet.usage, 60), 0, 60, 0, counts=True)
        lower = book(BudgetRule(kind="tokens", window="total", cap=50)).sheet(ALICE, ledger.now_ms())
        with pytest.raises(Short) as short:
            ledger.reserve(lower.lines, lower.usage, 1)
        assert short.value.left == -10

    def test_time_does_not_go_back_with_the_clock(self, ledger: MappedLedger, clock: ManualClock) -> None:
        clock.advance(3600)
        before = ledger.now_ms()
        clock._now_s -= 7200
        assert ledger.now_ms() == before
        clock.advance(5)
        assert ledger.now_ms() == before + 5000

    def test_more_rules_than_a_slot_has_references(self, ledger: MappedLedger) -> None:
        rules = [BudgetRule(kind="tokens", window="day", cap=100, offset_min=offset) for offset in range(-60, 60, 2)]
        sheet = book(*rules).sheet(ALICE, ledger.now_ms())
        assert len(sheet.lines) == 60
        hold = ledger.reserve(sheet.lines, sheet.usage, 7)
        assert {ledger.used(line) for line in sheet.lines} == {7}
        ledger.settle(hold, 1, 2, 0, counts=True)
        assert {ledger.used(line) for line in sheet.lines} == {3}

    def test_names_of_any_length_and_script_are_told_apart(self, ledger: MappedLedger) -> None:
        rules = book(BudgetRule(kind="requests", window="total", cap=1, user="*", tenant="*", key="*", model="*"))
        for name in ("a", "a" * 5000, "a" * 5001, "王" * 300, '"; DROP TABLE budget_rule; --', "\ud800\x00\n"):
            sheet = rules.sheet(Asker(name, name, name, name), ledger.now_ms())
            ledger.charge(sheet.lines, sheet.usage, 0)
            with pytest.raises(Short):
                ledger.charge(sheet.lines, sheet.usage, 0)


@pytest.fixture(params=["sqlite", "postgres"])
def authority(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[SqlAuthority]:
    database = open_one(request, tmp_path, clock)
    yield SqlAuthority(database)
    database.close()


def open_one(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Database:
    url = ""
    if request.param == "postgres":
        url = fresh_state(request.getfixturevalue("postgres_url"))
    return open_state(url, default=tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=clock)


def row(settled: int, open_: int = 0, *, starts_ms: int = 0, ends_ms: int = 0, rule_id: str = "b-1") -> CountRow:
    return CountRow(rule_id=rule_id, subject=SUBJECT, starts_ms=starts_ms, ends_ms=ends_ms, settled=settled, open=open_)


class TestAuthority:
    """What every `Authority` does."""

    def test_rules_are_set_changed_and_removed(self, authority: SqlAuthority) -> None:
        one = BudgetRule(kind="tokens", window="day", cap=5, tenant="acme", user="*", offset_min=480)
        two = BudgetRule(kind="concurrency", window="now", cap=2, model="chat", key="ash_1")
        assert authority.put_rule(one) and authority.put_rule(two)
        changed = BudgetRule(kind="tokens", window="day", cap=9, tenant="acme", user="*", offset_min=480)
        assert not authority.put_rule(changed)
        assert set(authority.rules()) == {changed, two}
        assert authority.remove_rule(two.rule_id) and not authority.remove_rule(two.rule_id)
        assert authority.rules() == (changed,)

    def test_a_repeated_report_changes_nothing(self, authority: SqlAuthority) -> None:
        usage = Usage(day="2026-11-24", tenant="acme", user="alice", model="chat", requests=3, prompt_tokens=7)
        for _ in range(2):
            authority.report("one", [row(5, 2)], [usage])
        authority.report("two", [row(10)], [usage])
        assert authority.counts("b-1", NOW_MS) == (Count(subject=SUBJECT, starts_ms=0, ends_ms=0, settled=15, open=2),)
        found = authority.usage(first_day="2026-11-24", last_day="2026-11-24")
        assert [(one.requests, one.prompt_tokens) for one in found] == [(6, 14)]
        assert authority.usage(first_day="2026-11-25", last_day="2026-11-26") == ()
        assert authority.usage(first_day="2026-11-24", last_day="2026-11-24", tenant="other") == ()

    def test_what_earlier_ledgers_counted_is_settled_once(self, authority: SqlAuthority) -> None:
        ended, running = (0, NOW_MS), (NOW_MS, NOW_MS + 1)
        authority.report("one", [row(5, 2), row(1, starts_ms=ended[0], ends_ms=ended[1], rule_id="b-2")], [])
        authority.report("two", [row(10), row(4, 1, starts_ms=running[0], ends_ms=running[1], rule_id="b-3")], [])
        for _ in range(2):
            found = {one.rule_id: one for one in authority.earlier(NOW_MS)}
            assert {name: (one.settled, one.open) for name, one in found.items()} == {"b-1": (17, 0), "b-3": (5, 0)}
        authority.report("three", [row(3)], [])
        assert [count.settled for count in authority.counts("b-1", NOW_MS)] == [20]
        used = sum(count.settled + count.open for count in authority.counts("b-1", NOW_MS))
        assert authority.counts("b-1", NOW_MS, least=used - 0.5) and not authority.counts(
            "b-1", NOW_MS, least=used + 0.5
        )

    def test_ended_windows_are_forgotten(self, authority: SqlAuthority) -> None:
        authority.report("one", [row(5), row(1, ends_ms=NOW_MS - 10, rule_id="b-2")], [])
        authority.forget(NOW_MS)
        assert authority.counts("b-2", 0) == ()
        assert len(authority.counts("b-1", 0)) == 1


@pytest.mark.parametrize("request_", ["sqlite", "postgres"])
def test_a_changed_rule_is_told_to_every_process(
    request_: str, request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock
) -> None:
    request.param = request_
    database = open_one(request, tmp_path, clock)
    authority, watch = SqlAuthority(database), EpochWatch(database).start()
    try:
        seen: list[str] = []
        wait = told(watch, seen)
        rule = BudgetRule(kind="tokens", window="day", cap=5)
        authority.put_rule(rule)
        wait(1)
        authority.remove_rule(rule.rule_id)
        wait(2)
        assert set(seen) == {"budgets"}
    finally:
        watch.close()
        database.close()


def told(watch: EpochWatch, seen: list[str]) -> Callable[[int], None]:
    import threading

    changed = threading.Condition()

    def hear(kind: str, value: int) -> None:
        with changed:
            seen.append(kind)
            changed.notify_all()

    watch.on_change(hear)

    def wait(count: int) -> None:
        with changed:
            assert changed.wait_for(lambda: len(seen) >= count, timeout=5)

    return wait
