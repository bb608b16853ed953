"""Shares of one window for several machines: the contract of `Leases`, and machines that ask for and give back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_server import fresh_state

from ashore.core.clock import SystemClock
from ashore.core.errors import BudgetExceeded, EnvironmentFault, NotReady
from ashore.core.ids import TenantId
from ashore.data.authority import Principal
from ashore.data.authority.budgets import (
    BudgetRule,
    CountRow,
    LedgerBudgets,
    Line,
    MappedLedger,
    Part,
    Pulse,
    Reporter,
    SqlAuthority,
)
from ashore.data.authority.budgets.leases import SqlLeases
from ashore.data.authority.budgets.lender import MachineLender
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import open_scratch, open_state

SUBJECT = ("", "", "acme", "")


def line(part: Part = Part.TOKENS, *, cap: int = 100) -> Line:
    return Line(rule_id="b-1", subject=SUBJECT, part=part, cap=cap, starts_ms=0, ends_ms=0)


@pytest.fixture(params=["sqlite", "postgres"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[SqlAuthority, SqlLeases]]:
    clock = SystemClock()
    url = ""
    if request.param == "postgres":
        url = fresh_state(request.getfixturevalue("postgres_url"))
    database = open_state(url, default=tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=clock)
    yield SqlAuthority(database), SqlLeases(database)
    database.close()


class TestLeases:
    """What all `Leases` do."""

    def test_all_machines_together_never_get_more_than_the_cap(self, both: tuple[SqlAuthority, SqlLeases]) -> None:
        _, leases = both
        granted = {"a": 0, "b": 0, "c": 0}
        for source in granted:
            assert not leases.beat(source)
            assert leases.beat(source)
        for _ in range(20):
            for source, before in granted.items():
                granted[source] = leases.lease(source, line(), granted=before, wanted=7).granted
                assert sum(granted.values()) <= 100
        assert sum(granted.values()) > 93

    def test_a_machine_gets_a_block_or_nothing(self, both: tuple[SqlAuthority, SqlLeases]) -> None:
        _, leases = both
        leases.beat("a"), leases.beat("b")
        first = leases.lease("a", line(), granted=0, wanted=10)
        assert first.granted > 10 and not first.others
        second = leases.lease("b", line(), granted=0, wanted=101)
        assert (second.granted, second.others) == (0, True)

    def test_what_is_given_back_is_there_for_others(self, both: tuple[SqlAuthority, SqlLeases]) -> None:
        _, leases = both
        leases.beat("a"), leases.beat("b")
        leases.lease("a", line(), granted=0, wanted=90)
        assert leases.lease("b", line(), granted=0, wanted=50).granted == 0
        leases.want("b", line())
        assert list(leases.wanted("b")[1]) == []
        _, (wanted,) = leases.wanted("a")
        assert (wanted.rule_id, wanted.subject, wanted.part) == ("b-1", SUBJECT, Part.TOKENS)
        leases.give_back("a", [(wanted, 30)])
        assert leases.lease("b", line(), granted=0, wanted=50).granted == 50, "no more than it needs: others wait"

    def test_who_was_asked_and_has_a_share_is_waited_for(self, both: tuple[SqlAuthority, SqlLeases]) -> None:
        authority, leases = both
        leases.beat("a"), leases.beat("b")
        leases.lease("a", line(), granted=0, wanted=90)
        assert leases.lease("b", line(), granted=0, wanted=50).others
        asked_ms = leases.want("b", line())
        assert leases.lease("b", line(), granted=0, wanted=50, asked_ms=asked_ms).others, "it has not answered"
        heard_ms, (wanted,) = leases.wanted("a")
        leases.give_back("a", [(wanted, 80)])
        assert leases.lease("b", line(), granted=0, wanted=50, asked_ms=asked_ms).others, "that was no answer"
        leases.give_back("a", [(wanted, 80)], heard_ms=heard_ms)
        assert not leases.lease("b", line(), granted=0, wanted=50, asked_ms=asked_ms).others
        assert leases.lease("b", line(), granted=0, wanted=50, asked_ms=heard_ms + 1).others, "an answer from before"
        assert leases.lease("a", line(), granted=80, wanted=5, asked_ms=asked_ms).granted == 85
        assert leases.lease("b", line(), granted=0, wanted=50, asked_ms=asked_ms).others, "it took more since"
        row = CountRow(rule_id="b-1", subject=SUBJECT, starts_ms=0, ends_ms=0, settled=85, open=0)
        authority.report("a", [row], [])
        assert not leases.lease("b", line(), granted=0, wanted=50).others, "all of it is used for good"

    def test_what_a_machine_reported_as_open_is_no_more_than_its_share(
        self, both: tuple[SqlAuthority, SqlLeases]
    ) -> None:
        authority, leases = both
        leases.beat("a"), leases.beat("b")
        leases.lease("a", line(), granted=0, wanted=90)
        row = CountRow(rule_id="b-1", subject=SUBJECT, starts_ms=0, ends_ms=0, settled=10, open=80)
        authority.report("a", [row], [])
        leases.give_back("a", [(line(), 15)])
        assert leases.lease("b", line(), granted=0, wanted=85).granted == 85

    def test_a_machine_that_never_said_it_is_there_counts_as_gone(self, both: tuple[SqlAuthority, SqlLeases]) -> None:
        authority, leases = both
        leases.beat("a")
        leases.lease("lost", line(), granted=0, wanted=90)
        row = CountRow(rule_id="b-1", subject=SUBJECT, starts_ms=0, ends_ms=0, settled=20, open=5)
        authority.report("lost", [row], [])
        assert leases.lease("a", line(), granted=0, wanted=75).granted == 75
        assert leases.lease("a", line(), granted=75, wanted=1).granted == 75

    def test_what_a_lost_machine_ran_is_not_counted_as_concurrent(self, both: tuple[SqlAuthority, SqlLeases]) -> None:
        _, leases = both
        leases.beat("a")
        leases.lease("lost", line(Part.CONCURRENCY, cap=3), granted=0, wanted=3)
        assert leases.lease("a", line(Part.CONCURRENCY, cap=3), granted=0, wanted=3).granted == 3

    def test_a_lowered_cap_grants_nothing_more(self, both: tuple[SqlAuthority, SqlLeases]) -> None:
        _, leases = both
        leases.beat("a"), leases.beat("b")
        leases.lease("a", line(), granted=0, wanted=60)
        assert leases.lease("b", line(cap=50), granted=0, wanted=1).granted == 0


class Machine:
    """One machine with one process, sharing leases with others by direct calls."""

    def __init__(self, folder: Path, authority: SqlAuthority, leases: SqlLeases, rules: list[BudgetRule]) -> None:
        clock = SystemClock()
        self.ledger = MappedLedger(folder, clock, shared=True)
        self.hand = lambda: MappedLedger(folder, clock, takes_row=False, shared=True, owner=self.ledger.owner)
        self.lender = MachineLender(folder, self.hand, leases)
        self.budgets = LedgerBudgets(self.ledger, MemoryRecorder(), rules=rules, lender=self.lender)
        self.reporter = Reporter(folder, self.hand, authority)
        Pulse(leases, lease_s=10).beat(self.ledger, now=True)

    def close(self) -> None:
        self.ledger.close()
        self.lender.close()


ALICE = Principal(id="alice", tenant=TenantId("acme"))


class Telling(SqlLeases):
    """Tells the other machines at once that one wants something, as the epoch of the state does."""

    machines: tuple[Machine, ...] = ()

    def want(self, source: str, line: Line) -> int:
        asked_ms = super().want(source, line)
        for machine in self.machines:
            if machine.ledger.source != source:
                machine.lender.give_back_soon()
        return asked_ms


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    database = open_scratch()
    authority, leases = SqlAuthority(database), Telling(database)
    rules = [
        BudgetRule(kind="tokens", window="total", cap=1000, tenant="acme"),
        BudgetRule(kind="concurrency", window="now", cap=4, user="*"),
    ]
    one, other = (Machine(tmp_path / name, authority, leases, rules) for name in ("one", "other"))
    leases.machines = one, other
    yield one, other
    one.close()
    other.close()


def test_the_last_token_is_found_wherever_it_is(machines: tuple[Machine, Machine]) -> None:
    async def scenario() -> None:
        one, other = machines
        used = 0
        for number in range(18):
            machine = machines[number % 2]
            (await machine.budgets.reserve(ALICE, "chat", 100)).settle(50, 0)
            used += 50
        await one.budgets.reserve(ALICE, "chat", 60)
        with pytest.raises(BudgetExceeded):
            await other.budgets.reserve(ALICE, "chat", 41)
        await other.budgets.reserve(ALICE, "chat", 40)

    asyncio.run(scenario())


def test_who_can_do_with_less_gets_what_no_machine_has(machines: tuple[Machine, Machine]) -> None:
    async def scenario() -> None:
        one, other = machines
        await one.budgets.reserve(ALICE, "chat", 950)
        held = await other.budgets.reserve(ALICE, "chat", 100, fewest=20)
        assert 20 <= held.tokens <= 50
        with pytest.raises(BudgetExceeded, match="needs 51"):
            await one.budgets.reserve(ALICE, "chat", 100, fewest=51)

    asyncio.run(scenario())


def test_machines_that_want_at_the_same_moment_never_pass_the_cap(machines: tuple[Machine, Machine]) -> None:
    async def scenario() -> None:
        async def ask(machine: Machine) -> bool:
            try:
                await machine.budgets.reserve(ALICE, "code", 90)
            except BudgetExceeded:
                return False
            return True

        one, other = machines
        got = await asyncio.gather(*(ask(machine) for _ in range(10) for machine in machines))
        assert sum(got) == 4, "four at once, although tokens are left"
        line_ = next(line for line in one.budgets._book.sheet(asker(), 0).lines if line.part is Part.CONCURRENCY)
        assert one.ledger.used(line_) + other.ledger.used(line_) == 4

    asyncio.run(scenario())


def asker():  # type: ignore[no-untyped-def]
    from ashore.data.authority.budgets import Asker

    return Asker("", "alice", "acme", "code")


def test_a_kept_answer_is_charged_at_once_where_something_is_granted(machines: tuple[Machine, Machine]) -> None:
    async def scenario() -> None:
        one, other = machines
        rules = [BudgetRule(kind="requests", window="day", cap=10)]
        for machine in machines:
            machine.budgets.take(rules)
        assert one.budgets.charge_hit_now(ALICE, "chat", 0) is None
        await one.budgets.charge_hit(ALICE, "chat", 0)
        assert one.budgets.charge_hit_now(ALICE, "chat", 0) is not None
        for _ in range(8):
            await other.budgets.charge_hit(ALICE, "chat", 0)
        for machine in machines:
            with pytest.raises(BudgetExceeded):
                await machine.budgets.charge_hit(ALICE, "chat", 0)

    asyncio.run(scenario())


def test_who_stops_waiting_leaves_nothing_set_aside(machines: tuple[Machine, Machine]) -> None:
    async def scenario() -> None:
        one, _ = machines
        waiting = asyncio.ensure_future(one.budgets.reserve(ALICE, "chat", 100))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        for _ in range(200):
            standing = one.budgets.standing(ALICE, "chat")
            assert standing is not None and standing.tokens is not None
            if standing.tokens.left == 1000 and not one.lender._getting._work_queue.qsize():
                break
            await asyncio.sleep(0.005)
        assert standing.tokens.left == 1000

    asyncio.run(scenario())


class Slow(Telling):
    """The others hear late of what one wants, or never."""

    late_s: float | None = None

    def want(self, source: str, line: Line) -> int:
        asked_ms = SqlLeases.want(self, source, line)
        for machine in self.machines:
            if machine.ledger.source != source and self.late_s is not None:
                threading.Timer(self.late_s, machine.lender.give_back_soon).start()
        return asked_ms


def test_nobody_is_refused_before_the_others_have_answered(machines: tuple[Machine, Machine]) -> None:
    async def scenario() -> None:
        one, other = machines
        leases = one.lender._leases
        assert isinstance(leases, Telling)
        leases.__class__ = Slow
        leases.late_s = 0.2  # type: ignore[attr-defined]
        held = await one.budgets.reserve(ALICE, "chat", 800)
        held.settle(100, 0)
        await other.budgets.reserve(ALICE, "chat", 850)  # four rounds later, and not refused
        with pytest.raises(BudgetExceeded):
            await other.budgets.reserve(ALICE, "chat", 51)

    asyncio.run(scenario())


def test_a_machine_that_does_not_answer_is_no_reason_to_refuse(machines: tuple[Machine, Machine]) -> None:
    async def scenario() -> None:
        one, other = machines
        leases = one.lender._leases
        assert isinstance(leases, Telling)
        leases.__class__ = Slow
        (await one.budgets.reserve(ALICE, "chat", 800)).settle(100, 0)
        began = time.monotonic()
        with pytest.raises(NotReady, match="has not reported") as fault:
            await other.budgets.reserve(ALICE, "chat", 850)
        assert fault.value.retry_after_s == 1
        waited_s = time.monotonic() - began
        began = time.monotonic()
        with pytest.raises(NotReady, match="has not reported"):
            await other.budgets.reserve(ALICE, "chat", 850)
        assert time.monotonic() - began < waited_s / 2, "nobody else waits as long for who is silent"
        leases.late_s = 0.0  # type: ignore[attr-defined]
        await other.budgets.reserve(ALICE, "chat", 850)

    asyncio.run(scenario())


class Gone(Telling):
    def lease(self, source, line, *, granted, wanted, asked_ms=0):  # type: ignore[no-untyped-def]
        raise EnvironmentFault("no route to the database")


def test_while_the_authority_is_away_what_was_granted_serves_and_more_is_not_ready(tmp_path: Path) -> None:
    async def scenario() -> None:
        database = open_scratch()
        authority, leases = SqlAuthority(database), Telling(database)
        rules = [BudgetRule(kind="tokens", window="total", cap=1000)]
        machine = Machine(tmp_path / "m", authority, leases, rules)
        await machine.budgets.reserve(ALICE, "chat", 10)
        leases.__class__ = Gone
        await machine.budgets.reserve(ALICE, "chat", 100)
        with pytest.raises(NotReady, match="no route"):
            await machine.budgets.reserve(ALICE, "chat", 700)
        machine.close()

    asyncio.run(scenario())


def test_grants_are_dead_when_the_lease_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        database = open_scratch()
        authority, leases = SqlAuthority(database), Telling(database, lease_s=0.05)
        rules = [
            BudgetRule(kind="tokens", window="total", cap=1000),
            BudgetRule(kind="requests", window="total", cap=1000),
        ]
        machine = Machine(tmp_path / "m", authority, leases, rules)
        machine.ledger.use_grants_for(60, since_s=SystemClock().monotonic_s())
        (await machine.budgets.reserve(ALICE, "chat", 10)).settle(10, 0)
        machine.ledger.use_grants_for(0.05, since_s=SystemClock().monotonic_s())
        threading.Event().wait(0.06)
        assert machine.budgets.charge_hit_now(ALICE, "chat", 1) is None
        with pytest.raises(NotReady, match="has expired"):
            await machine.budgets.reserve(ALICE, "chat", 10)
        Pulse(leases, lease_s=10).beat(machine.ledger, now=True)
        await machine.budgets.reserve(ALICE, "chat", 10)
        machine.close()

    asyncio.run(scenario())
