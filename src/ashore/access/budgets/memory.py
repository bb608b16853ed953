"""The ledger of a single process, in plain dictionaries: for tests, and for a server without a state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ashore.access.budgets.model import BudgetRule, Count, Usage
from ashore.access.budgets.ports import CountRow, Hold, Line, Part, Short, UsageLine
from ashore.access.budgets.rulebook import resets_later
from ashore.access.budgets.usage import merged_counts, merged_usage
from ashore.core import Clock

_Key = tuple[str, tuple[str, str, str, str], int]


@dataclass(slots=True)
class _Count:
    settled: int = 0
    open: int = 0


class MemoryLedger:
    """A `Ledger` that dies with its process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: dict[_Key, _Count] = {}
        self._usages: dict[tuple[str, str, str, str], dict[str, int]] = {}
        self._holds: dict[int, Hold] = {}
        self._floor_ms, self._floor_mono_ms = int(clock.now_s() * 1000), int(clock.monotonic_s() * 1000)

    def now_ms(self) -> int:
        wall_ms, mono_ms = int(self._clock.now_s() * 1000), int(self._clock.monotonic_s() * 1000)
        self._floor_ms = max(wall_ms, self._floor_ms + mono_ms - self._floor_mono_ms)
        self._floor_mono_ms = mono_ms
        return self._floor_ms

    def reserve(self, lines: Sequence[Line], usage: UsageLine, tokens: int) -> Hold:
        self._check(lines, tokens)
        for line in lines:
            self._count(line).open += _amount(line, tokens)
        hold = Hold(lines=lines, usage=usage, tokens=tokens)
        self._holds[id(hold)] = hold
        return hold

    def charge(self, lines: Sequence[Line], usage: UsageLine, tokens: int) -> None:
        self._check(lines, tokens)
        for line in lines:
            self._count(line).settled += _amount(line, tokens)
        self._add(usage, requests=1, hits=1)

    def made(self, hold: Hold, prompt_tokens: int, completion_tokens: int) -> None:
        hold.made, hold.begun = (prompt_tokens, completion_tokens), prompt_tokens + completion_tokens > 0

    def leave(self, hold: Hold) -> None:
        if not (hold.over or hold.left):
            hold.left = True
            for line in hold.lines:
                if line.part is Part.CONCURRENCY:
                    self._count(line).open -= 1

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
        if hold.over:
            return
        self.leave(hold)
        hold.over = True
        del self._holds[id(hold)]
        for line in hold.lines:
            count = self._count(line)
            if line.part is Part.TOKENS:
                count.open -= hold.tokens
                count.settled += prompt_tokens + completion_tokens
            elif line.part is Part.REQUESTS:
                count.open -= 1
                count.settled += counts
        self._add(
            hold.usage, requests=int(counts), prompt_tokens=prompt_tokens, completion_tokens=completion_tokens,
            cached_tokens=cached_tokens, hits=int(hit),
        )  # fmt: skip

    def refused(self, usage: UsageLine) -> None:
        self._add(usage, refused=1)

    def used(self, line: Line) -> int:
        count = self._counts.get((line.rule_id, line.subject, line.starts_ms), _Count())
        return count.settled + count.open

    def reclaim(self) -> int:
        return 0

    def close(self) -> None:
        for hold in list(self._holds.values()):
            self.settle(hold, *hold.made, 0, counts=hold.begun)

    def usages(self) -> tuple[Usage, ...]:
        """Return what was used."""
        return tuple(
            Usage(day=day, tenant=tenant, user=user, model=model, **numbers)
            for (day, tenant, user, model), numbers in sorted(self._usages.items())
        )

    def _add(self, usage: UsageLine, **more: int) -> None:
        numbers = self._usages.setdefault((usage.day, usage.tenant, usage.user, usage.model), {})
        for name, value in more.items():
            numbers[name] = numbers.get(name, 0) + value

    def _count(self, line: Line) -> _Count:
        return self._counts.setdefault((line.rule_id, line.subject, line.starts_ms), _Count())

    def _check(self, lines: Sequence[Line], tokens: int) -> None:
        short: Short | None = None
        for line in lines:
            left = line.cap - self.used(line)
            if left < _amount(line, tokens) and (short is None or resets_later(line, short.line)):
                short = Short(line, left, _amount(line, tokens))
        if short is not None:
            raise short


def _amount(line: Line, tokens: int) -> int:
    return tokens if line.part is Part.TOKENS else 1


class MemoryAuthority:
    """An `Authority` that dies with its process."""

    def __init__(self) -> None:
        self._rules: dict[str, BudgetRule] = {}
        self._counts: dict[tuple[str, _Key], CountRow] = {}
        self._usages: dict[tuple[str, str, str, str, str], Usage] = {}

    def spent(self, source: str, line: Line) -> tuple[int, int]:
        """Return what a ledger last reported of a count, settled and open."""
        row = self._counts.get((source, (line.rule_id, line.subject, line.starts_ms)))
        return (0, 0) if row is None else (row.settled, row.open)

    def sources(self, line: Line) -> set[str]:
        """Return the ledgers that reported something of a count."""
        key = line.rule_id, line.subject, line.starts_ms
        return {source for source, found in self._counts if found == key}

    def rules(self) -> tuple[BudgetRule, ...]:
        return tuple(rule for _, rule in sorted(self._rules.items()))

    def put_rule(self, rule: BudgetRule) -> bool:
        new = rule.rule_id not in self._rules
        self._rules[rule.rule_id] = rule
        return new

    def remove_rule(self, rule_id: str) -> bool:
        return self._rules.pop(rule_id, None) is not None

    def earlier(self, now_ms: int) -> tuple[CountRow, ...]:
        merged: dict[_Key, CountRow] = {}
        for (_, key), row in self._counts.items():
            if row.ends_ms == 0 or row.ends_ms > now_ms:
                before = merged.get(key)
                settled = row.settled + row.open + (before.settled if before else 0)
                merged[key] = CountRow(
                    rule_id=row.rule_id, subject=row.subject, starts_ms=row.starts_ms, ends_ms=row.ends_ms,
                    settled=settled, open=0,
                )  # fmt: skip
        self._counts = {("", key): row for key, row in merged.items()}
        return tuple(merged.values())

    def report(self, source: str, counts: Iterable[CountRow], usages: Iterable[Usage]) -> None:
        for row in counts:
            self._counts[source, (row.rule_id, row.subject, row.starts_ms)] = row
        for usage in usages:
            self._usages[source, usage.day, usage.tenant, usage.user, usage.model] = usage

    def forget(self, before_ms: int) -> None:
        for key in [key for key, row in self._counts.items() if 0 < row.ends_ms < before_ms]:
            del self._counts[key]

    def counts(self, rule_id: str, now_ms: int) -> tuple[Count, ...]:
        return merged_counts(
            row
            for (_, key), row in sorted(self._counts.items())
            if key[0] == rule_id and (row.ends_ms == 0 or row.ends_ms > now_ms)
        )

    def usage(self, *, first_day: str, last_day: str, tenant: str = "") -> tuple[Usage, ...]:
        return merged_usage(
            usage
            for usage in self._usages.values()
            if first_day <= usage.day <= last_day and tenant in ("", usage.tenant)
        )
