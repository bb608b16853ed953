"""What a site hands in: usage, checkpoints of its audit log, votes, and how it stands.

Making a report writes it, and how far it reaches, in one step; it is sent until the centre has taken it, which counts
each sequence once. Few wait at a time. So a month without a link, or a kill at any moment, loses nothing and counts
nothing twice: what was not reported yet lies where it always lies, in the usage table and the audit log.

How far requests and answers of a site have moved from those of the week before: the population stability index.

Source: Siddiqi, Credit Risk Scorecards (2006): below 0.1 little has changed, above 0.25 much has. A share of zero
counts as one of 10,000, as is usual.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from ashore.control.sites.identity import SiteKey
from ashore.control.sites.ports import CentreLink
from ashore.control.sites.report import SiteReport, Usage, Vote, sign_report
from ashore.data.audit import SignedLine, read_checkpoints
from ashore.data.authority import budgets
from ashore.data.feedback.sql import votes_on
from ashore.kit.decode import UNDECODABLE
from ashore.kit.recordfile import read_record, write_record
from ashore.kit.state import Database

WEEK: Final = timedelta(days=7)
LEAST: Final = 100
"""Requests that the model has generated in each of the two weeks; with fewer the figure would be chance."""
FLOOR: Final = 1e-4

Lengths = dict[int, float]
"""Requests by the power of two of their length."""
PART_BYTES: Final = 16_000
"""Most bytes of usage, of checkpoints, and of votes in one report; three of them leave room for the rest."""
LINE_BYTES: Final = 16_384
MOST_VOTES: Final = 200
MOST_WAITING: Final = 8
"""Reports that wait for a link or a stick, before no more are made."""
OPEN_DAYS: Final = 3
"""Days whose usage may still grow: a worker writes its counts late, but not as late as that."""
HOUR_US: Final = 3_600_000_000

Totals = tuple[int, int, int]


def drift_of(usages: Iterable[budgets.Usage], today: date) -> float | None:
    """Return the largest index over the aliases, of the lengths of prompts and of answers; None: too few requests.

    Usage knows the mean length of a user's requests in a day, so that is what a request counts with.

    Args:
        usages: Of the last 14 days before today at least.
        today: The last seven days before it are compared with the seven before those.
    """
    weeks = [(today - 2 * WEEK, today - WEEK), (today - WEEK, today)]
    spread: dict[tuple[str, str], list[Lengths]] = defaultdict(lambda: [defaultdict(float), defaultdict(float)])
    for one in usages:
        made = one.requests - one.hits  # cached answers count no tokens
        for at, (first, end) in enumerate(weeks):
            if made > 0 and first.isoformat() <= one.day < end.isoformat():
                for what, tokens in (("prompt", one.prompt_tokens), ("answer", one.completion_tokens)):
                    _add(spread[one.model, what][at], tokens / made, made)
    found = [psi(*both) for both in spread.values() if min(sum(week.values()) for week in both) >= LEAST]
    return round(max(found), 3) if found else None


def psi(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """Return the population stability index of two distributions, each with at least one request."""
    index, num_before, num_after = 0.0, sum(before.values()), sum(after.values())
    for cell in before.keys() | after.keys():
        was, now = max(before.get(cell, 0) / num_before, FLOOR), max(after.get(cell, 0) / num_after, FLOOR)
        index += (now - was) * math.log(now / was)
    return index


def _add(lengths: Lengths, length: float, weight: float) -> None:
    """Share a length between the two powers of two around it, so that a mean near an edge does not jump over it."""
    whole, rest = divmod(math.log2(1 + length), 1)
    lengths[int(whole)] += weight * (1 - rest)
    lengths[int(whole) + 1] += weight * rest


class Spool(msgspec.Struct, frozen=True, kw_only=True):
    """How far the reports reach; the file `reports.json`."""

    sequence: int = 0
    """Of the last report that was made."""
    waiting: tuple[SiteReport, ...] = ()
    """Reports that the centre does not have yet, the oldest first."""
    usage: dict[str, Totals] = {}
    """What was reported of days that may still grow, by day, tenant and model."""
    day: str = ""
    """First day that may not be reported whole."""
    checkpoint: int = 0
    """Number of the last one that was reported."""
    votes_ms: int = 0
    """When the last vote was changed that was reported."""
    votes_ids: tuple[str, ...] = ()
    """The votes of that millisecond that were reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where a report is made of."""

    database: Database
    audit: Path
    models: Sequence[str] = ()
    """Aliases whose votes may be handed in."""


class Reports:
    """Makes the reports of one site, and hands them in. One process has it; not for an event loop."""

    def __init__(self, path: Path, site: str, key: SiteKey) -> None:
        """Create it; `path` is the file, whose folder exists."""
        self._path, self._site, self.key = path, site, key
        self._drift: tuple[str, float | None] = ("", None)
        hint = "restore it from the backup of this home; without it the usage of open days is counted twice"
        self.spool = read_record(path, Spool, if_damaged=hint) or Spool()

    def make(self, told: Mapping[str, Any], sources: Sources, now_s: float) -> bool:
        """Make the next report, unless too many wait; return whether there is more than fits into it.

        Args:
            told: Fields of `SiteReport` that the agent knows.
            sources: Of the others.
            now_s: Unix time. Sequences also rise with it, so that a site restored from a backup repeats none.
        """
        before = self.spool
        if len(before.waiting) >= MOST_WAITING:
            return True
        usage, totals, day, more_usage = _usage(before, sources.database, now_s)
        lines, checkpoint, more_lines = _checkpoints(before, sources.audit)
        votes, votes_ms, votes_ids, more_votes = _votes(before, sources)
        sequence = max(before.sequence + 1, int(now_s))
        report = SiteReport(
            site=self._site, sequence=sequence, at_s=now_s, usage=usage, checkpoints=lines, votes=votes,
            drift=self._drift_on(datetime.fromtimestamp(now_s, UTC).date(), sources.database), **told
        )  # fmt: skip
        self._note(
            Spool(
                sequence=sequence, waiting=(*before.waiting, report), usage=totals, day=day,
                checkpoint=checkpoint, votes_ms=votes_ms, votes_ids=votes_ids,
            )
        )  # fmt: skip
        return more_usage or more_lines or more_votes

    def hand_in(self, link: CentreLink, *, acknowledges: bool = True) -> None:
        """Sign and send the reports that wait, also those of before this home joined again. May be called again: the
        centre counts each once.

        Args:
            link: To the centre.
            acknowledges: Whether the centre has it once it is written; a stick still has to arrive there.

        Raises:
            SourceUnreachable, RemoteRefused: as the link; what was not taken still waits.
        """
        for one in self.spool.waiting:
            signed = sign_report(msgspec.structs.replace(one, site=self._site), self.key.private)
            link.put(f"reports/{self._site}/{one.sequence}.json", signed)
            if acknowledges:
                self.taken(one.sequence)

    def taken(self, sequence: int) -> None:
        """Note that the centre has the reports up to a sequence. The next one is above it, also in a home that was
        restored and whose clock is behind."""
        waiting = tuple(one for one in self.spool.waiting if one.sequence > sequence)
        if waiting != self.spool.waiting or sequence > self.spool.sequence:
            highest = max(sequence, self.spool.sequence)
            self._note(msgspec.structs.replace(self.spool, waiting=waiting, sequence=highest))

    def _drift_on(self, today: date, database: Database) -> float | None:
        """Return the drift of the last full days; read once a day."""
        if self._drift[0] != today.isoformat():
            usages = budgets.SqlAuthority(database).usage(
                first_day=(today - 2 * WEEK).isoformat(), last_day=today.isoformat()
            )
            self._drift = (today.isoformat(), drift_of(usages, today))
        return self._drift[1]

    def _note(self, spool: Spool) -> None:
        write_record(self._path, spool)
        self.spool = spool


def _usage(before: Spool, database: Database, now_s: float) -> tuple[tuple[Usage, ...], dict[str, Totals], str, bool]:
    """Return what was used since the last report, the totals then reported, the first open day, and whether there is
    more."""
    today = datetime.fromtimestamp(now_s, UTC).date()
    totals: dict[str, list[int]] = {}
    for one in budgets.SqlAuthority(database).usage(first_day=before.day, last_day="9999"):
        sums = totals.setdefault(f"{one.day}\0{one.tenant[:200]}\0{one.model[:200]}", [0, 0, 0])
        for place, number in enumerate((one.requests, one.prompt_tokens, one.completion_tokens)):
            sums[place] += number
    found: list[Usage] = []
    reported, open_from = dict(before.usage), (today - timedelta(days=OPEN_DAYS)).isoformat()
    num_bytes, last_day = 0, ""
    for key, sums in sorted(totals.items()):
        day, tenant, model = key.split("\0")
        known = reported.get(key, (0, 0, 0))
        fresh = [max(0, now - then) for now, then in zip(sums, known, strict=True)]
        if any(fresh):
            row = Usage(
                day=day, tenant=tenant, model=model, requests=fresh[0], prompt_tokens=fresh[1],
                completion_tokens=fresh[2],
            )  # fmt: skip
            num_bytes += len(msgspec.json.encode(row))
            if num_bytes > PART_BYTES:
                open_from = min(open_from, day)
                last_day = day
                break
            found.append(row)
            reported[key] = (sums[0], sums[1], sums[2])
    kept = {key: sums for key, sums in reported.items() if key.partition("\0")[0] >= open_from}
    return tuple(found), kept, max(open_from, before.day), bool(last_day)


def _checkpoints(before: Spool, audit: Path) -> tuple[tuple[str, ...], int, bool]:
    """Return lines since the last reported one, the number of the last, and whether there are more.

    Each line vouches for all that came before it, so one of each hour is enough, with those that change the key, and
    the newest.
    """
    found: list[str] = []
    number, num_bytes = before.checkpoint, 0
    for line, reached in _hourly(read_checkpoints(audit / "checkpoints.log"), after=before.checkpoint):
        num_bytes += len(line.raw)
        if found and num_bytes > PART_BYTES:
            return tuple(found), number, True
        if len(line.raw) <= LINE_BYTES:
            found.append(line.raw.decode())
        number = reached
    return tuple(found), number, False


def _hourly(lines: Iterator[SignedLine], *, after: int) -> Iterator[tuple[SignedLine, int]]:
    held: tuple[SignedLine, int, int] | None = None
    for line in lines:
        try:
            checkpoint = line.checkpoint()
        except UNDECODABLE:
            return  # it is being written
        if checkpoint.number <= after or not line.whole:
            continue
        hour = checkpoint.at_us // HOUR_US
        if held is not None and held[2] != hour:
            yield held[0], held[1]
        held = (line, checkpoint.number, hour)
        if checkpoint.next_key:
            yield line, checkpoint.number
            held = None
    if held is not None:
        yield held[0], held[1]


def _votes(before: Spool, sources: Sources) -> tuple[tuple[Vote, ...], int, tuple[str, ...], bool]:
    """Return votes since the last reported one: rating and tags, and no text of a person."""
    rows = sorted(
        (
            one
            for model in sources.models
            for one in votes_on(sources.database, model, since_ms=before.votes_ms)
            if one.feedback_id not in before.votes_ids
        ),
        key=lambda one: (one.changed_ms, one.feedback_id),
    )
    found: list[Vote] = []
    ms, ids, num_bytes = before.votes_ms, before.votes_ids, 0
    for at, row in enumerate(rows):
        vote = Vote(model=row.model[:200], rating="up" if row.rating == "up" else "down", reason=", ".join(row.tags))
        num_bytes += len(msgspec.json.encode(vote))
        if len(found) == MOST_VOTES or num_bytes > PART_BYTES:
            return tuple(found), ms, ids, at < len(rows)
        if row.rating in ("up", "down"):
            found.append(vote)
        ids = (*(ids if row.changed_ms == ms else ()), row.feedback_id)
        ms = row.changed_ms
    return tuple(found), ms, ids, False
