"""What the budgets of one process need: a ledger on its machine, and the authority behind it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from ashore.access.budgets.model import BudgetRule, Count, Usage


class Part(IntEnum):
    """What a line counts."""

    TOKENS = 0
    REQUESTS = 1
    CONCURRENCY = 2


@dataclass(slots=True, kw_only=True)
class Line:
    """One count that a request is under. Whose cell it is in, a ledger remembers in it."""

    rule_id: str
    subject: tuple[str, str, str, str]
    part: Part
    cap: int
    starts_ms: int
    ends_ms: int
    cell: int = -1
    birth: int = 0


@dataclass(slots=True, kw_only=True)
class UsageLine:
    """Where what was used is added up."""

    day: str
    tenant: str
    user: str
    model: str
    ends_ms: int
    cell: int = -1
    birth: int = 0


@dataclass(slots=True, kw_only=True)
class Hold:
    """What a ledger set aside for one request. Ends with `settle`, once; later calls do nothing."""

    lines: Sequence[Line]
    usage: UsageLine
    tokens: int
    slots: list[int] = field(default_factory=list)
    """Where a ledger keeps it."""
    made: tuple[int, int] = (0, 0)
    """Tokens of prompt and answer that exist already."""
    begun: bool = False
    """Whether they were made: what ends now is charged, and counts as a request."""
    left: bool = False
    """Whether its place among the concurrent ones is free."""
    over: bool = False


class Short(Exception):
    """A count does not have what a request needs. Seen inside this room alone."""

    def __init__(self, line: Line, left: int, wanted: int, *, leased: bool = False) -> None:
        super().__init__(f"{line.rule_id}: {left} of {line.cap} left")
        self.line = line
        self.left = left
        self.wanted = wanted
        self.leased = leased
        """The cap has room, but not in what this machine was granted of it."""


class Ledger(Protocol):
    """Counts that all processes of one machine share. Every method returns within microseconds and waits for nobody.

    What a method does is done whole or not at all, whenever its process dies.
    """

    def now_ms(self) -> int:
        """Return the time by which windows run. Never goes back, whatever happens to the clock."""
        ...

    def reserve(self, lines: Sequence[Line], usage: UsageLine, tokens: int) -> Hold:
        """Set aside what a request may need, in all of its counts or in none.

        Raises:
            Short: a count has less left; of several, the one that resets last.
            Overloaded: there is no room for another count or another hold.
        """
        ...

    def charge(self, lines: Sequence[Line], usage: UsageLine, tokens: int) -> None:
        """Charge a request that was answered already (a hit), in all of its counts or in none.

        Raises:
            Short, Overloaded: as `reserve`.
        """
        ...

    def made(self, hold: Hold, prompt_tokens: int, completion_tokens: int) -> None:
        """Say how much of an answer exists: so much is charged when this process dies now. Nothing: it never began."""
        ...

    def leave(self, hold: Hold) -> None:
        """Free its place among the concurrent ones; tokens stay set aside. May be called twice."""
        ...

    def settle(
        self,
        hold: Hold,
        prompt_tokens: int,
        completion_tokens: int,
        cached_tokens: int,
        *,
        counts: bool,
        hit: bool = False,
    ) -> None:
        """Charge what was used and give the rest back. May be called twice; the first call holds.

        Args:
            hold: What was set aside.
            prompt_tokens: Read.
            completion_tokens: Made.
            cached_tokens: Of the prompt, those an engine had already.
            counts: Whether it counts as a request.
            hit: Whether somebody else's generation gave the answer.
        """
        ...

    def refused(self, usage: UsageLine) -> None:
        """Count a refusal."""
        ...

    def used(self, line: Line) -> int:
        """Return what is settled and open in a count; read without the lock."""
        ...

    def reclaim(self) -> int:
        """Settle what dead processes left open; return how many died. Cheap where none did."""
        ...

    def close(self) -> None:
        """Give what is open back as `settle` of what was made would, and leave. May be called twice."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CountRow:
    """One count, as one ledger reports it."""

    rule_id: str
    subject: tuple[str, str, str, str]
    starts_ms: int
    ends_ms: int
    settled: int
    open: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What a machine may use of a count."""

    granted: int
    others: bool
    """Whether other machines may have something of it that they do not use: they did not say otherwise since asked."""


class Leases(Protocol):
    """Shares of windows, for several machines that have one authority. Each call is one transaction."""

    def beat(self, source: str) -> bool:
        """Say that a machine is there; return whether it was, all the time since it last said so."""
        ...

    def lease(self, source: str, line: Line, *, granted: int, wanted: int, asked_ms: int = 0) -> Lease:
        """Give a machine that was granted so much at least `wanted` more of a count; where there is less, nothing.

        Args:
            source: The machine.
            line: The count.
            granted: What it has.
            wanted: More than that.
            asked_ms: When it asked the others by `want`; 0: not yet.
        """
        ...

    def want(self, source: str, line: Line) -> int:
        """Ask the other machines to give back what they do not use of a count; return when, by the authority's time."""
        ...

    def wanted(self, source: str) -> tuple[int, Sequence[Line]]:
        """Return the authority's time, and of which counts other machines asked this one to give back, lately."""
        ...

    def give_back(self, source: str, given: Iterable[tuple[Line, int]], *, heard_ms: int = 0) -> None:
        """Note what a machine keeps of counts, after it stopped using more.

        Args:
            source: The machine.
            given: Of each count, what it keeps.
            heard_ms: The time that `wanted` returned, before it looked at what it uses: whoever asked until then has
                its answer. 0: this is no answer.
        """
        ...


class Authority(Protocol):
    """Rules, counts and usage where they are not lost. Each call is one transaction; all of them may be repeated."""

    def rules(self) -> tuple[BudgetRule, ...]:
        """Return every rule, sorted by name."""
        ...

    def put_rule(self, rule: BudgetRule) -> bool:
        """Set a rule, and tell every process; return whether it is new."""
        ...

    def remove_rule(self, rule_id: str) -> bool:
        """Remove a rule, and tell every process; return whether there was one. Its counts stay on record."""
        ...

    def earlier(self, now_ms: int) -> tuple[CountRow, ...]:
        """Return what ledgers before this one counted in windows that have not ended, open or settled.

        What was open is settled by this: nobody is left who could give it back.
        """
        ...

    def report(self, source: str, counts: Iterable[CountRow], usages: Iterable[Usage]) -> None:
        """Take over what one ledger counts. The figures are totals of that ledger, so a repeated report is harmless."""
        ...

    def forget(self, before_ms: int) -> None:
        """Forget the counts of windows that ended before a moment. Usage stays."""
        ...

    def counts(self, rule_id: str, now_ms: int) -> tuple[Count, ...]:
        """Return the counts of a rule in windows that have not ended, over all ledgers."""
        ...

    def usage(self, *, first_day: str, last_day: str, tenant: str = "") -> tuple[Usage, ...]:
        """Return usage by day, tenant, user and model, both days included."""
        ...
