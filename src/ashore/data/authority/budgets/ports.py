"""Ports of budgets: the machine's ledger, and the authority behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum


class Part(IntEnum):
    """The quantity that a line counts."""

    TOKENS = 0
    REQUESTS = 1
    CONCURRENCY = 2


@dataclass(slots=True, kw_only=True)
class Line:
    """One count that applies to a request. A ledger caches its cell in it."""

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
    """The usage record of a request."""

    day: str
    tenant: str
    user: str
    model: str
    ends_ms: int
    cell: int = -1
    birth: int = 0


@dataclass(slots=True, kw_only=True)
class Hold:
    """A ledger's reservation for one request. Ends with one `settle`; later calls do nothing."""

    lines: Sequence[Line]
    usage: UsageLine
    tokens: int
    slots: list[int] = field(default_factory=list)
    """Where a ledger keeps it."""
    made: tuple[int, int] = (0, 0)
    """Tokens of prompt and answer that exist already."""
    begun: bool = False
    """Whether generation began: if so it is charged and counts as a request."""
    left: bool = False
    """Whether its place among the concurrent ones is free."""
    over: bool = False


class Short(Exception):
    """A count has less left than a request needs. Internal to this room."""

    def __init__(self, line: Line, left: int, wanted: int, *, leased: bool = False) -> None:
        super().__init__(f"{line.rule_id}: {left} of {line.cap} left")
        self.line = line
        self.left = left
        self.wanted = wanted
        self.leased = leased
        """The cap has room, but not within this machine's share."""


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
    """A machine's share of a count."""

    granted: int
    others: bool
    """Whether other machines may have something of it that they do not use: they did not say otherwise since asked."""
