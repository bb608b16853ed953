"""What may be said of budgets from the diaries of those who used them: the oracle of `budgets_exact`.

It knows nothing of the ledger. Every client writes down, before and after each call, what it asked and when
(one monotonic clock, files that outlive their process). From these alone:

* *tokens over budget*: for every budget and window, the tokens that clients were really given, less the cap; and the
  largest sum of settled tokens and of reservations that were surely open at one moment, less the cap.
* *a false refusal*: one that was named for a budget whose cap, less everything that can possibly have been settled or
  open at any moment of the call, still had room for the request. What a dead process held counts as given back, but for
  what it had made, as soon as its death was seen by whoever waited for it.

Where the diary cannot tell, nothing is held against the ledger: a kept answer is charged at once, so one whose process
died before it wrote the end may have been charged; and a call over the end of a window is counted in one of the two.
"""

from __future__ import annotations

import bisect
import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SLACK_MS = 50
"""By so much the time of a ledger and the monotonic clock may be apart for one call."""


@dataclass
class Request:
    """What a client wrote down of one request."""

    asked_at: int
    lines: list[list[Any]]
    """Of each count: rule, part, cap, subject, and from when to when its window runs; 0: it does not end."""
    tokens: int
    hit: bool = False
    """It was charged at once, and never open."""
    asked_ms: int = 0
    """By the ledger's time."""
    opened_at: int = 0
    refused_at: int = 0
    refused_by: str = ""
    undecided: bool = False
    making: int = 0
    """Most that may exist."""
    given: int = 0
    """Most that the client had for sure."""
    began: bool = False
    ending_at: int = 0
    ended_at: int = 0
    spent: int = 0
    counted: int = 0
    dead_from: int = 0
    dead_since: int = 0

    def may_be_counted_after(self, ends_ms: int) -> bool:
        """Return whether the ledger may have looked at it after the window in which it was asked."""
        by = self.opened_at or self.refused_at or self.ended_at or self.dead_since
        return 0 < ends_ms <= self.asked_ms + (by - self.asked_at) // 1_000_000 + SLACK_MS


@dataclass
class Verdict:
    """What the oracle found in one run."""

    requests: int = 0
    answered: int = 0
    undecided: int = 0
    """Neither served nor refused, with `503`: a machine that has a share of the budget was silent."""
    refusals: int = 0
    over_given: int = 0
    over_open: int = 0
    false_refusals: list[dict[str, Any]] = field(default_factory=list)
    by_kind: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("tokens", "requests", "concurrency"), 0))
    doubtful: int = 0
    """Refusals that two calls at the same moment, or the end of a window, keep from being judged to the token."""
    cut_off: int = 0
    tightest: list[float] = field(default_factory=list)
    """For each exhausted count, the share of the cap that was given."""


def read_diaries(home: Path, deaths: dict[str, tuple[int, int]]) -> list[Request]:
    found: list[Request] = []
    for path in sorted(home.glob("diary-*")):
        mine: dict[str, Request] = {}
        for raw in path.read_bytes().split(b"\n"):
            try:
                at, what, *rest = json.loads(raw)
            except ValueError:
                continue  # cut off by the kill
            if what == "ask":
                mine[rest[0]] = Request(at, rest[1], rest[2], hit=rest[3], asked_ms=rest[4])
            elif what != "up":
                one = mine[rest[0]]
                match what:
                    case "open":
                        one.opened_at = at
                    case "refused":
                        one.refused_at, one.refused_by = at, rest[1]
                    case "undecided":
                        one.ended_at, one.ending_at, one.undecided = at, at, True
                    case "making":
                        one.making, one.began = rest[1], True
                    case "given":
                        one.given = rest[1]
                    case "ending":
                        one.ending_at, one.spent, one.counted = at, rest[1], rest[2]
                    case "end":
                        one.ended_at, one.spent, one.counted = at, rest[1], rest[2]
                        one.ending_at = one.ending_at or one.asked_at
        death = deaths.get(path.name.removeprefix("diary-"))
        if death is not None:
            for one in mine.values():
                if not one.ended_at and not one.refused_at:
                    one.dead_from, one.dead_since = death
        found += mine.values()
    return found


def judge(requests: list[Request]) -> Verdict:
    """Judge one run from what its clients wrote down."""
    verdict = Verdict(requests=len(requests))
    by_count: dict[tuple[Any, ...], list[tuple[Request, list[Any], bool]]] = defaultdict(list)
    for one in requests:
        for line in one.lines:
            sure = not one.may_be_counted_after(line[5])
            by_count[line[0], line[3], line[4]].append((one, line, sure))
            if not sure:  # windows follow each other without a gap
                by_count[line[0], line[3], line[5]].append((one, line, False))
        verdict.answered += bool(one.ended_at) and not one.undecided
        verdict.undecided += one.undecided
        verdict.refusals += bool(one.refused_at)
        verdict.cut_off += bool(one.dead_since)
    for (_, _, starts_ms), members in by_count.items():
        part, cap = members[0][1][1], members[0][1][2]
        starts: list[tuple[int, int]] = []  # from when it may be open, how much
        gone: list[tuple[int, int]] = []  # from when that much is surely given back
        surely: list[tuple[int, int]] = []  # surely open from, surely given back from
        given = 0
        for one, _, sure in members:
            if one.refused_at:
                continue
            amount = one.tokens if part == 0 else 1
            if one.dead_since:
                most = one.making if part == 0 else int(one.began or one.hit) if part == 1 else 0
                least = one.given if part == 0 else int(one.given > 0) if part == 1 else 0
                end_from, end_by = one.dead_from, one.dead_since
            else:
                most = least = one.spent if part == 0 else one.counted if part == 1 else 0
                end_from, end_by = one.ending_at, one.ended_at
            starts.append((one.asked_at, amount if one.tokens or part else most))
            gone.append((end_by, amount - most))
            if not sure:
                continue
            given += least
            if one.opened_at:
                surely += [(one.opened_at, amount), (end_from, least - amount)]
            elif one.ended_at:  # a hit: charged at once
                surely.append((one.ended_at, least))
        verdict.over_given = max(verdict.over_given, given - cap) if part != 2 else verdict.over_given
        level = 0
        for _, change in sorted(surely, key=lambda pair: (pair[0], pair[1])):
            level += change
            verdict.over_open = max(verdict.over_open, level - cap)
        starts.sort()
        gone.sort()
        start_times, start_sums = [at for at, _ in starts], _sums(starts)
        gone_times, gone_sums = [at for at, _ in gone], _sums(gone)
        refused_here = 0
        for one, line, sure in members:
            if not one.refused_at or one.refused_by != line[0]:
                continue
            if not sure:
                verdict.doubtful += line[4] == starts_ms
                continue
            refused_here += 1
            verdict.by_kind[("tokens", "requests", "concurrency")[part]] += 1
            wanted = one.tokens if part == 0 else 1
            most_used = (
                start_sums[bisect.bisect_left(start_times, one.refused_at)]
                - gone_sums[bisect.bisect_left(gone_times, one.asked_at)]
            )
            if most_used + wanted <= cap:
                verdict.false_refusals.append(
                    {"budget": line[0], "subject": line[3], "cap": cap, "used": most_used, "wanted": wanted}
                )
            least_used = (
                start_sums[bisect.bisect_left(start_times, one.asked_at)]
                - gone_sums[bisect.bisect_left(gone_times, one.refused_at)]
            )
            verdict.doubtful += least_used + wanted <= cap < most_used + wanted
        if refused_here and part != 2:
            verdict.tightest.append(given / cap)
    verdict.over_given, verdict.over_open = max(0, verdict.over_given), max(0, verdict.over_open)
    return verdict


def _sums(pairs: list[tuple[int, int]]) -> list[int]:
    sums = [0]
    for _, amount in pairs:
        sums.append(sums[-1] + amount)
    return sums
