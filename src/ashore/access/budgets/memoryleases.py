"""Shares of windows between ledgers of one process: for tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ashore.access.budgets.memory import MemoryAuthority
from ashore.access.budgets.ports import Lease, Line, Part
from ashore.core import Clock

_Key = tuple[str, tuple[str, str, str, str], int]


class MemoryLeases:
    """`Leases` that die with their process."""

    def __init__(self, authority: MemoryAuthority, clock: Clock, *, lease_s: float = 10.0) -> None:
        self._authority = authority
        self._clock = clock
        self._lease_s = lease_s
        self._until: dict[str, float] = {}
        self._granted: dict[tuple[str, _Key], int] = {}
        self._wants: dict[tuple[str, _Key], Line] = {}
        self._answered: dict[tuple[str, _Key], int] = {}

    def beat(self, source: str) -> bool:
        now_s = self._clock.monotonic_s()
        was_there = self._until.get(source, 0.0) > now_s
        self._until[source] = now_s + self._lease_s
        return was_there

    def lease(self, source: str, line: Line, *, granted: int, wanted: int, asked_ms: int = 0) -> Lease:
        key, now_s = _key(line), self._clock.monotonic_s()
        taken, others = 0, False
        names = {name for name, found in self._granted if found == key} | self._authority.sources(line)
        for name in names - {source}:
            settled, opened = self._authority.spent(name, line)
            if self._until.get(name, 0.0) > now_s:
                share = self._granted.get((name, key), 0)
                taken += max(settled, share)
                silent = not asked_ms or self._answered.get((name, key), 0) < asked_ms
                others = others or (silent and share > settled)
            elif line.part is not Part.CONCURRENCY:
                taken += settled + opened
        free = line.cap - taken - granted
        if free >= wanted:
            machines = sum(until > now_s for until in self._until.values())
            tight = any(found == key for _, found in self._wants)
            granted += wanted if tight else max(wanted, free // (2 * max(1, machines)))
            self._answered.pop((source, key), None)
        self._granted[source, key] = granted
        return Lease(granted=granted, others=others)

    def want(self, source: str, line: Line) -> int:
        self._wants[source, _key(line)] = line
        return self._now_ms()

    def wanted(self, source: str) -> tuple[int, Sequence[Line]]:
        return self._now_ms(), [line for (name, _), line in self._wants.items() if name != source]

    def give_back(self, source: str, given: Iterable[tuple[Line, int]], *, heard_ms: int = 0) -> None:
        for line, left in given:
            self._granted[source, _key(line)] = left
            if heard_ms:
                self._answered[source, _key(line)] = heard_ms

    def _now_ms(self) -> int:
        return int(self._clock.monotonic_s() * 1000)


def _key(line: Line) -> _Key:
    return line.rule_id, line.subject, line.starts_ms
