"""The ledger against a model, with processes that die at any write, clocks that go back, and windows that end."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ashore.core.clock import ManualClock
from ashore.data.authority.budgets import Asker, BudgetRule, Hold, Line, MappedLedger, Part, RuleBook, Short
from ashore.data.authority.budgets.layout import Sizes
from ashore.data.authority.budgets.mapped import Words

SMALL = Sizes(24, 8, 4)
PROCESSES = 3
RULES = (
    BudgetRule(kind="tokens", window="total", cap=400, tenant="acme"),
    BudgetRule(kind="tokens", window="minute", cap=150, user="*"),
    BudgetRule(kind="requests", window="minute", cap=6, tenant="acme", model="chat"),
    BudgetRule(kind="concurrency", window="now", cap=3, user="*"),
)
ASKERS = (Asker("k1", "alice", "acme", "chat"), Asker("k2", "bob", "acme", "code"))


class MovedClock(ManualClock):
    """A clock that somebody sets."""

    def set_wall(self, now_s: float) -> None:
        self._now_s = now_s


class Died(BaseException):
    """The process ends at this write."""


class MortalWords:
    """Memory of a process that dies at its n-th write from now."""

    def __init__(self, view: Words) -> None:
        self._view = view
        self.writes_left: int | None = None

    def __getitem__(self, at: int) -> int:
        return self._view[at]

    def __setitem__(self, at: Any, value: Any) -> None:
        if self.writes_left is not None:
            if isinstance(at, slice):  # not one write for the processor
                for offset, one in enumerate(value):
                    self[at.start + offset] = one
                return
            if self.writes_left <= 0:
                raise Died
            self.writes_left -= 1
        self._view[at] = value


@dataclass
class ModelHold:
    lines: tuple[tuple[str, Part, int], ...]
    tokens: int
    made: tuple[int, int] = (0, 0)
    begun: bool = False
    left: bool = False


@dataclass
class Model:
    """What must be counted: by key of a line, settled tokens, requests, and holds by process."""

    settled: dict[tuple[Any, ...], int] = field(default_factory=dict)
    holds: dict[int, dict[int, ModelHold]] = field(default_factory=lambda: {p: {} for p in range(PROCESSES)})

    def used(self, key: tuple[Any, ...]) -> int:
        open_ = 0
        for holds in self.holds.values():
            for hold in holds.values():
                if key in hold.lines:
                    part = key[2]
                    open_ += hold.tokens if part is Part.TOKENS else 0 if part is Part.CONCURRENCY and hold.left else 1
        return self.settled.get(key, 0) + open_

    def end(self, process: int, number: int, tokens: int, *, counts: bool) -> None:
        hold = self.holds[process].pop(number)
        for key in hold.lines:
            more = tokens if key[2] is Part.TOKENS else int(counts) if key[2] is Part.REQUESTS else 0  # type: ignore[misc]
            self.settled[key] = self.settled.get(key, 0) + more

    def die(self, process: int) -> None:
        for number, hold in list(self.holds[process].items()):
            self.end(process, number, sum(hold.made), counts=hold.begun)


def key_of(line: Line) -> tuple[Any, ...]:
    return line.rule_id, line.subject, line.part, line.starts_ms


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="ledger-"))
        self.clock = MovedClock(now_s=1_700_000_000.0)
        self.mortal: list[MortalWords] = [MortalWords([]) for _ in range(PROCESSES)]  # type: ignore[arg-type]
        self.ledgers = [self.start(process) for process in range(PROCESSES)]
        self.books = [RuleBook(RULES) for _ in range(PROCESSES)]
        self.holds: dict[tuple[int, int], Hold] = {}
        self.model = Model()
        self.serial = 0
        self.last_ms = 0

    def start(self, process: int) -> MappedLedger:
        def wrap(view: Any) -> Words:
            self.mortal[process] = MortalWords(view)
            return self.mortal[process]

        return MappedLedger(self.folder, self.clock, sizes=SMALL, wrap=wrap)

    def teardown(self) -> None:
        for ledger in self.ledgers:
            ledger.close()
        shutil.rmtree(self.folder)

    def do(
        self, process: int, act: Callable[[MappedLedger], Any], *outcomes: Callable[[Model], None], die_at: int
    ) -> Any:
        """Run an act in a process that may die at a write. Exactly one of the outcomes must be what happened."""
        self.mortal[process].writes_left = die_at if die_at >= 0 else None
        try:
            result = act(self.ledgers[process])
        except Died:
            self.ledgers[process].drop()
            self.settle_which(process, outcomes)
            self.ledgers[process] = self.start(process)
            self.books[process] = RuleBook(RULES)
            return None
        self.mortal[process].writes_left = None
        outcomes[-1](self.model)
        return result

    def settle_which(self, process: int, outcomes: tuple[Callable[[Model], None], ...]) -> None:
        survivor = (process + 1) % PROCESSES
        self.ledgers[survivor].reclaim()
        candidates = []
        for outcome in (lambda model: None, *outcomes):
            model = deepcopy(self.model)
            outcome(model)
            model.die(process)
            candidates.append(model)
        self.holds = {key: hold for key, hold in self.holds.items() if key[0] != process}
        for candidate in candidates:
            if self.differences(candidate, survivor) == []:
                self.model = candidate
                return
        raise AssertionError([self.differences(candidate, survivor) for candidate in candidates])

    def differences(self, model: Model, process: int) -> list[tuple[Any, int, int]]:
        ledger, found = self.ledgers[process], []
        for asker in ASKERS:
            for line in self.lines(process, asker):
                if ledger.used(line) != model.used(key_of(line)):
                    found.append((key_of(line), ledger.used(line), model.used(key_of(line))))
        return found

    def lines(self, process: int, asker: Asker) -> tuple[Line, ...]:
        return self.books[process].sheet(asker, self.ledgers[process].now_ms()).lines

    processes = st.integers(0, PROCESSES - 1)
    deaths = st.one_of(st.just(-1), st.integers(0, 40))

    @rule(process=processes, who=st.sampled_from(ASKERS), tokens=st.integers(0, 160), die_at=deaths)
    def reserve(self, process: int, who: Asker, tokens: int, die_at: int) -> None:
        sheet = self.books[process].sheet(who, self.ledgers[process].now_ms())
        keys = tuple(key_of(line) for line in sheet.lines)
        fits = all(
            self.model.used(key_of(line)) + (tokens if line.part is Part.TOKENS else 1) <= line.cap
            for line in sheet.lines
        )
        room = sum(len(holds) for holds in self.model.holds.values()) < SMALL.slots
        self.serial += 1
        number = self.serial

        def happened(model: Model) -> None:
            if fits and room:
                model.holds[process][number] = ModelHold(keys, tokens)

        def act(ledger: MappedLedger) -> Hold | None:
            try:
                return ledger.reserve(sheet.lines, sheet.usage, tokens)
            except Short as short:
                assert not fits
                assert self.model.used(key_of(short.line)) == short.line.cap - short.left
                return None

        if not room and fits:
            return
        hold = self.do(process, act, happened, die_at=die_at)
        if hold is not None:
            assert fits
            self.holds[process, number] = hold

    @rule(process=processes, who=st.sampled_from(ASKERS), die_at=deaths)
    def hit(self, process: int, who: Asker, die_at: int) -> None:
        sheet = self.books[process].sheet(who, self.ledgers[process].now_ms())
        fits = all(self.model.used(key_of(line)) < line.cap for line in sheet.hit_lines)

        def happened(model: Model) -> None:
            if fits:
                for line in sheet.hit_lines:
                    model.settled[key_of(line)] = model.settled.get(key_of(line), 0) + 1

        def act(ledger: MappedLedger) -> None:
            try:
                ledger.charge(sheet.hit_lines, sheet.usage, 0)
                assert fits
            except Short:
                assert not fits

        self.do(process, act, happened, die_at=die_at)

    def chosen(self, data: st.DataObject) -> tuple[tuple[int, int], Hold]:
        key = data.draw(st.sampled_from(sorted(self.holds)))
        return key, self.holds[key]

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), share=st.floats(0, 1), die_at=deaths)
    def settle(self, data: st.DataObject, share: float, die_at: int) -> None:
        (process, number), hold = self.chosen(data)
        tokens = int(hold.tokens * share)
        del self.holds[process, number]
        self.do(
            process,
            lambda ledger: ledger.settle(hold, 0, tokens, 0, counts=True),
            lambda model: model.end(process, number, tokens, counts=True),
            die_at=die_at,
        )

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), share=st.floats(0, 1), die_at=deaths)
    def make(self, data: st.DataObject, share: float, die_at: int) -> None:
        (process, number), hold = self.chosen(data)
        prompt = hold.tokens // 4
        completion = int((hold.tokens - prompt) * share)
        completion = max(completion, hold.made[1])

        def step(words: int) -> Callable[[Model], None]:
            def happened(model: Model) -> None:
                one = model.holds[process][number]
                one.made = (prompt, completion if words > 1 else one.made[1])
                one.begun = prompt + completion > 0 if words > 2 else one.begun

            return happened

        self.do(process, lambda ledger: ledger.made(hold, prompt, completion), *map(step, (1, 2, 3)), die_at=die_at)

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), die_at=deaths)
    def leave(self, data: st.DataObject, die_at: int) -> None:
        (process, number), hold = self.chosen(data)

        def happened(model: Model) -> None:
            model.holds[process][number].left = True

        self.do(process, lambda ledger: ledger.leave(hold), happened, die_at=die_at)

    @rule(process=processes)
    def kill(self, process: int) -> None:
        self.ledgers[process].drop()
        self.settle_which(process, ())
        self.ledgers[process] = self.start(process)
        self.books[process] = RuleBook(RULES)

    @rule(process=processes, die_at=deaths)
    def reclaim(self, process: int, die_at: int) -> None:
        victim = (process + 1) % PROCESSES
        self.ledgers[victim].drop()
        self.mortal[process].writes_left = die_at if die_at >= 0 else None
        try:
            self.ledgers[process].reclaim()
        except Died:
            self.ledgers[process].drop()
            self.model.die(process)
            self.holds = {key: hold for key, hold in self.holds.items() if key[0] != process}
            self.ledgers[process] = self.start(process)
            self.books[process] = RuleBook(RULES)
        self.mortal[process].writes_left = None
        self.settle_which(victim, ())
        self.ledgers[victim] = self.start(victim)
        self.books[victim] = RuleBook(RULES)

    @rule(seconds=st.sampled_from((1.0, 20.0, 61.0, 200.0)))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from((-100_000.0, -30.0, 30.0)))
    def set_clock(self, seconds: float) -> None:
        self.clock.set_wall(self.clock.now_s() + seconds)

    @rule(process=processes)
    def free(self, process: int) -> None:
        ledger = self.ledgers[process]
        ledger.free_cells(ledger.numbers(), ledger.now_ms())

    @invariant()
    def counts_what_the_model_counts(self) -> None:
        for process in range(PROCESSES):
            assert self.differences(self.model, process) == []

    @invariant()
    def never_over_a_cap(self) -> None:
        for asker in ASKERS:
            for line in self.lines(0, asker):
                assert self.ledgers[0].used(line) <= line.cap

    @invariant()
    def time_never_goes_back(self) -> None:
        now_ms = self.ledgers[0].now_ms()
        assert now_ms >= self.last_ms
        self.last_ms = now_ms


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
