"""Budgets shared by real processes, one of which is killed; and the oracle that judges them."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from benchmarks.budgets_exact import run
from benchmarks.budgets_oracle import Request, judge

from ashore.core.clock import ManualClock, SystemClock
from ashore.core.errors import EnvironmentFault, Overloaded
from ashore.data.authority.budgets import Asker, BudgetRule, MappedLedger, Reporter, RuleBook, Short, SqlAuthority
from ashore.data.authority.budgets.layout import Sizes
from ashore.kit.state import open_scratch, open_state

ALICE = Asker("ash_1", "alice", "acme", "chat")
DAY = BudgetRule(kind="tokens", window="day", cap=100, tenant="acme")

HOLDER = """
import sys, time
from pathlib import Path
from ashore.data.authority.budgets import Asker, BudgetRule, MappedLedger, RuleBook
from ashore.core.clock import SystemClock
ledger = MappedLedger(Path(sys.argv[1]), SystemClock())
rules = [BudgetRule(kind="tokens", window="day", cap=100, tenant="acme")]
sheet = RuleBook(rules).sheet(Asker("ash_1", "alice", "acme", "chat"), ledger.now_ms())
ledger.made(ledger.reserve(sheet.lines, sheet.usage, 60), 10, 5)
ledger.reserve(sheet.lines, sheet.usage, 40)
print("held", flush=True)
time.sleep(60)
"""


def test_one_process_of_three_is_killed_and_nothing_is_given_twice(tmp_path: Path) -> None:
    arguments = argparse.Namespace(clients=24, processes=3, seconds=3.0, state="", no_kill=False, folder=str(tmp_path))
    verdict, told = run(arguments, 1)
    assert verdict.requests > 60 and verdict.refusals > 10, "enough to judge, on a busy machine too"
    assert (verdict.over_given, verdict.over_open, verdict.false_refusals) == (0, 0, [])
    assert told["given_tokens"] <= told["recorded_tokens"] <= told["made_tokens"]


def asked(at: int, tokens: int, *, ended_at: int = 0, spent: int = 0, refused_at: int = 0, cap: int = 100) -> Request:
    one = Request(at, [["b", 0, cap, "", 0, 0]], tokens)
    if refused_at:
        one.refused_at, one.refused_by = refused_at, "b"
    else:
        one.opened_at, one.ending_at, one.ended_at, one.spent, one.counted = at + 1, ended_at - 1, ended_at, spent, 1
    return one


@pytest.mark.parametrize(
    ("requests", "over_given", "over_open", "false"),
    [
        ([asked(0, 60, ended_at=10, spent=60), asked(20, 41, refused_at=21)], 0, 0, 0),
        ([asked(0, 60, ended_at=10, spent=60), asked(20, 40, refused_at=21)], 0, 0, 1),
        ([asked(0, 60, ended_at=10, spent=10), asked(5, 50, refused_at=8)], 0, 0, 0),
        ([asked(0, 60, ended_at=10, spent=10), asked(11, 50, refused_at=12)], 0, 0, 1),
        ([asked(0, 60, ended_at=10, spent=60), asked(0, 60, ended_at=10, spent=50)], 10, 20, 0),
        ([asked(0, 60, ended_at=10, spent=10), asked(2, 60, ended_at=9, spent=10)], 0, 20, 0),
    ],
)
def test_the_oracle_sees_what_is_wrong(requests: list[Request], over_given: int, over_open: int, false: int) -> None:
    verdict = judge(requests)
    assert (verdict.over_given, verdict.over_open, len(verdict.false_refusals)) == (over_given, over_open, false)


def kept(at: int, *, ended_at: int = 0, dead_since: int = 0, refused_at: int = 0, asked_ms: int = 0) -> Request:
    """A kept answer under a budget of one request per window, which ends at 60,000 ms."""
    one = Request(at, [["b", 1, 1, "", 0, 60_000]], 0, hit=True, asked_ms=asked_ms)
    one.ended_at, one.ending_at, one.counted = ended_at, at, 1
    one.dead_from = one.dead_since = dead_since
    one.refused_at, one.refused_by = refused_at, "b" if refused_at else ""
    return one


def test_a_kept_answer_whose_process_died_before_it_wrote_so_may_have_been_charged() -> None:
    assert judge([kept(0, dead_since=10), kept(20, refused_at=21)]).false_refusals == []
    assert judge([kept(0, ended_at=10), kept(20, ended_at=21)]).over_given == 1
    assert judge([kept(0, dead_since=10), kept(20, ended_at=21)]).over_given == 0
    assert len(judge([kept(20, refused_at=21)]).false_refusals) == 1


def test_a_call_over_the_end_of_a_window_is_counted_in_one_of_the_two() -> None:
    early, second = 59_000, 1_000_000_000
    over = kept(0, ended_at=1, asked_ms=59_990)
    inside = kept(0, ended_at=1, asked_ms=early)
    next_window = Request(second, [["b", 1, 1, "", 60_000, 120_000]], 0, hit=True, asked_ms=61_000)
    next_window.refused_at, next_window.refused_by = second + 1, "b"
    assert judge([over, next_window]).false_refusals == []
    assert len(judge([inside, next_window]).false_refusals) == 1
    assert judge([over, kept(2, refused_at=3, asked_ms=early)]).false_refusals == []
    at_the_edge = judge([kept(2, refused_at=3, asked_ms=59_990)])
    assert (at_the_edge.false_refusals, at_the_edge.doubtful) == ([], 1)


def test_what_a_killed_process_held_is_given_back_but_for_what_it_made(tmp_path: Path) -> None:
    folder = tmp_path / "budgets"
    ledger = MappedLedger(folder, SystemClock())
    sheet = RuleBook([DAY]).sheet(ALICE, ledger.now_ms())
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(Short) as short:
            ledger.reserve(sheet.lines, sheet.usage, 1)
        assert short.value.left == 0
        assert ledger.reclaim() == 0
    finally:
        holder.kill()
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()
    assert ledger.reclaim() == 1
    assert ledger.used(sheet.lines[0]) == 15
    ledger.reserve(sheet.lines, sheet.usage, 85)
    ledger.close()


def test_a_count_outlives_its_processes_and_its_file(tmp_path: Path) -> None:
    """Processes end; then the machine is started anew, which another ledger stands for: SQL knows what was used."""
    clock = SystemClock()
    database = open_state("", default=tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=clock)
    authority, folder = SqlAuthority(database), tmp_path / "budgets"
    for left in (100, 75):
        ledger = MappedLedger(folder, clock, earlier=authority.earlier)
        sheet = RuleBook([DAY]).sheet(ALICE, ledger.now_ms())
        assert sheet.lines[0].cap - ledger.used(sheet.lines[0]) == left
        ledger.settle(ledger.reserve(sheet.lines, sheet.usage, 30), 10, 15, 3, counts=True)
        reporter = Reporter(folder, lambda: MappedLedger(folder, clock, takes_row=False), authority)
        ledger.close()
        reporter.start()
        reporter.close()
        (folder / "words").unlink()
    (usage,) = authority.usage(first_day="2026-01-01", last_day="9999-12-31")
    assert (usage.requests, usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (2, 20, 30, 6)
    assert [count.settled for count in authority.counts(DAY.rule_id, ledger_now(clock))] == [50]
    database.close()


def ledger_now(clock: SystemClock) -> int:
    return int(clock.now_s() * 1000)


class Away(SqlAuthority):
    """An authority that cannot be reached for a while."""

    away = True

    def report(self, source, counts, usages) -> None:  # type: ignore[no-untyped-def]
        if self.away:
            raise EnvironmentFault("the server is gone")
        super().report(source, counts, usages)


def test_while_the_authority_is_away_the_ledger_keeps_what_it_counts(tmp_path: Path) -> None:
    clock, authority, folder = SystemClock(), Away(open_scratch()), tmp_path / "budgets"
    ledger = MappedLedger(folder, clock)
    sheet = RuleBook([DAY]).sheet(ALICE, ledger.now_ms())
    reporter = Reporter(folder, lambda: MappedLedger(folder, clock, takes_row=False), authority)
    reporter.start()
    for _ in range(5):
        ledger.settle(ledger.reserve(sheet.lines, sheet.usage, 10), 1, 1, 0, counts=True)
    time.sleep(0.1)
    assert authority.usage(first_day="2026-01-01", last_day="9999-12-31") == ()
    authority.away = False
    ledger.close()
    reporter.close()
    (usage,) = authority.usage(first_day="2026-01-01", last_day="9999-12-31")
    assert (usage.requests, usage.prompt_tokens) == (5, 5)


def test_cells_of_ended_windows_are_used_again_and_those_with_something_open_are_not(tmp_path: Path) -> None:
    clock = ManualClock()
    ledger = MappedLedger(tmp_path / "budgets", clock, sizes=Sizes(8, 4, 4))
    book = RuleBook([BudgetRule(kind="tokens", window="minute", cap=100)])
    first = book.sheet(ALICE, ledger.now_ms())
    hold = ledger.reserve(first.lines, first.usage, 40)
    for _ in range(20):
        clock.advance(120)
        sheet = book.sheet(ALICE, ledger.now_ms())
        ledger.charge(sheet.lines, sheet.usage, 1)
        ledger.free_cells(ledger.numbers(), ledger.now_ms())
    ledger.settle(hold, 0, 30, 0, counts=True)
    assert ledger.used(first.lines[0]) == 30
    assert ledger.used(book.sheet(ALICE, ledger.now_ms()).lines[0]) == 1
    ledger.close()


def test_a_full_ledger_says_so_and_refuses_nobody_it_knows(tmp_path: Path) -> None:
    ledger = MappedLedger(tmp_path / "budgets", ManualClock(), sizes=Sizes(8, 2, 4))
    book = RuleBook([BudgetRule(kind="requests", window="day", cap=100, user="*")])
    with pytest.raises(Overloaded, match="budget ledger is full"):
        for number in range(9):
            sheet = book.sheet(Asker("", f"user{number}", "acme", "chat"), ledger.now_ms())
            ledger.charge(sheet.lines, sheet.usage, 0)
    known = book.sheet(Asker("", "user0", "acme", "chat"), ledger.now_ms())
    holds = [ledger.reserve(known.lines, known.usage, 1) for _ in range(2)]
    with pytest.raises(Overloaded, match="2 requests have tokens reserved"):
        ledger.reserve(known.lines, known.usage, 1)
    assert ledger.used(known.lines[0]) == 3
    ledger.settle(holds[0], 0, 0, 0, counts=False)
    ledger.reserve(known.lines, known.usage, 1)
    ledger.close()


def test_the_file_is_for_its_owner_alone_and_of_this_boot(tmp_path: Path) -> None:
    folder = tmp_path / "budgets"
    ledger = MappedLedger(folder, SystemClock())
    source = ledger.source
    assert (folder.stat().st_mode & 0o777, (folder / "words").stat().st_mode & 0o777) == (0o700, 0o600)
    ledger.close()
    again = MappedLedger(folder, SystemClock())
    assert again.source == source
    again.close()
    with open(folder / "words", "r+b") as file:  # the number of the boot
        file.seek(16)
        file.write(os.urandom(7))
    other = MappedLedger(folder, SystemClock())
    assert other.source != source
    other.close()
