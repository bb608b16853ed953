"""The loop of a site: read what the centre wants, fetch it, switch to it, and report.

Every turn is short but for a fetch, and may be cut off anywhere: what counts lies in files, each replaced whole.
Without a link the site serves on; `until` tells the workers until when the centre allows that.
"""

from __future__ import annotations

import logging
import random
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from ashore import __version__
from ashore.control.releases import ReleaseOffice
from ashore.control.sites.fetch import Have, NotNow, Puller, have_in, is_open, model_copy
from ashore.control.sites.links import FolderLink
from ashore.control.sites.model import NO_MODEL, ModelParts, Want
from ashore.control.sites.parts import NAME
from ashore.control.sites.ports import CentreLink
from ashore.control.sites.report import Served, Status
from ashore.control.sites.reports import MOST_WAITING, Reports, Sources
from ashore.control.sites.rows import SITE
from ashore.control.sites.section import SitesSection
from ashore.control.sites.switch import Switch, local_reference, may_begin, missing
from ashore.control.sites.trust import CentreRefused, Trusted, last_trusted, refresh
from ashore.core.addresses import split_url
from ashore.core.clock import Clock
from ashore.core.errors import AshoreError, InvalidSpec, NotFound, RemoteRefused, SourceUnreachable
from ashore.kit.folders import make_folder
from ashore.kit.recordfile import read_record, write_record
from ashore.kit.store import ModelCopy, ModelStore, disk_errors
from ashore.kit.throttle import Throttle
from ashore.kit.wholefile import write_whole

log = logging.getLogger("ashore.sites")

TURN_S: Final = 1.0
LONGEST_S: Final = 900.0
"""Longest pause between two polls, however often the link failed."""
MOST_REPORTS: Final = 50
"""Reports that are handed in in one turn."""
DAY_S: Final = 86_400


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """`joined.json`: whose site this is."""

    site: str
    centre: str
    """Its address; empty: it is reached by sticks alone."""
    joined_s: float


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """`agent.json`: what the loop knows beyond its files of journal and reports."""

    news_s: float = 0
    """When the centre was last heard."""
    hold_until_s: float = 0
    """Nothing is fetched and switched before; an operator asked for it."""
    attacks: dict[str, int] = {}
    rate: int = 0
    reported_s: float = 0
    reported: str = ""
    """What the last report said of the served models: a change is reported at once."""


@dataclass(kw_only=True)
class Agent:
    """One site. Not for an event loop; one process has it."""

    folder: Path
    """`sites/` of the home."""
    joined: Joined
    link: Callable[[], CentreLink]
    """Opens the link to the centre."""
    switch: Switch
    reports: Reports
    sources: Sources
    office: ReleaseOffice
    store: ModelStore
    section: Callable[[], SitesSection]
    clock: Clock
    answers: Callable[[str], bool] = lambda release: True
    """Returns whether a release has a host that greets."""
    stopping: Callable[[], bool] = lambda: False
    luck: Callable[[], float] = random.random
    note: str = ""
    done: float = 1.0
    untaken: str = ""
    """Why this site does not take the parts of ashore.toml of its want; empty: it does."""
    _failures: int = 0
    _poll_s: float = 0.0
    """When the centre is asked next, by a clock that nobody sets."""
    _trusted: Trusted | None = None
    _link: CentreLink | None = None
    _has_more: bool = False
    """A fetch stopped for a report, and goes on at once."""
    memory: Memory = field(init=False)

    def __post_init__(self) -> None:
        self.memory = read_record(self.folder / "agent.json", Memory) or Memory()
        self._trusted = last_trusted(self.folder / "trusted")

    @property
    def want(self) -> Want | None:
        """The newest want that is trusted."""
        return None if self._trusted is None else self._trusted.want

    @property
    def _until_s(self) -> float:
        """Until when the centre lets it serve without news; 0: for ever."""
        days = None if self.want is None else self.want.offline_days
        return 0.0 if days is None else self.memory.news_s + days * DAY_S

    def turn(self) -> float:
        """Do what is due; return the seconds until there may be more.

        Raises:
            DiskFull, EnvironmentFault: a file of its own cannot be written. Call again.
        """
        with disk_errors(self.folder):
            self._take_words()
            try:
                self.switch.advance()
            except AshoreError as fault:
                self.note = fault.message
            if self.clock.monotonic_s() >= self._poll_s and self.joined.centre:
                self._link = self._link or self.link()
                self._talk(self._link, is_live=True)
            self._tell()
        busy = self.switch.journal.phase != "idle"
        return TURN_S if busy else max(TURN_S, min(self._poll_s - self.clock.monotonic_s(), 5.0))

    def bring(self, stick: CentreLink) -> str:
        """Take from a stick what the centre wants, and leave the reports that wait on it; return what was not taken,
        and why."""
        self._talk(stick, is_live=False)
        self._tell()
        return self.note

    # --- the centre

    def _talk(self, link: CentreLink, *, is_live: bool) -> None:
        """Hear the centre, fetch, and report. What hinders one does not hinder the report, which says so; but where
        nothing is heard there is no link, or the centre knows this site no more."""
        self.note, self._has_more, faults = "", False, list[AshoreError]()
        for step in (self._refresh, self._fetch, self._report):
            if faults and step == self._fetch:
                continue
            try:
                with disk_errors(self.folder):
                    step(link, is_live)
            except NotNow as fault:
                self.note = "" if self._has_more else fault.message
            except AshoreError as fault:
                faults.append(fault)
                attack = fault.attack if isinstance(fault, CentreRefused) else None
                self.note = self.note or f"{attack or ''}: {fault.message}".removeprefix(": ")
                if attack:
                    self._remember(attacks={**self.memory.attacks, attack: self.memory.attacks.get(attack, 0) + 1})
                elif step == self._refresh and isinstance(fault, (SourceUnreachable, RemoteRefused, NotFound)):
                    break
        if faults and not self._failures:
            log.warning("the site goes on with what it has: %s", self.note)
        self._failures = self._failures + 1 if faults else 0
        self._link = None if faults else self._link
        poll_s = self.section().poll_s
        pause_s = min(poll_s * 2 ** min(self._failures, 10), LONGEST_S) if faults else 0 if self._has_more else poll_s
        retry_s = max((one.retry_after_s or 0.0 for one in faults), default=0.0)
        self._poll_s = self.clock.monotonic_s() + max(retry_s, pause_s * (0.5 + self.luck()))

    def _refresh(self, link: CentreLink, is_live: bool) -> None:
        before = self._trusted
        self._trusted = refresh(
            link, self.folder / "trusted", site=self.joined.site, root=(self.folder / "root.json").read_bytes(),
            now_s=self.clock.now_s(),
        )  # fmt: skip
        heard_s = max(float(self._trusted.signed_s), self.clock.now_s() if is_live else 0)
        self._remember(news_s=max(self.memory.news_s, heard_s))
        want = self._trusted.want
        if want is None:
            self._trusted = before
            raise RemoteRefused(f"the centre has no assignment for {self.joined.site}", hint="ask who runs the centre")
        if want.certificate:
            self._certify(want.certificate)
        self.reports.taken(want.taken)
        _write_if_new(self.folder / "escalate", want.escalate)
        allowed = f"{self._until_s:.0f} {want.offline_days or 0:g} {_host(self.joined.centre)}"
        _write_if_new(self.folder / "until", allowed)

    def _certify(self, certificate: str) -> None:
        """Take the next certificate of this site, once; the next turn opens the link with it."""
        path = self.folder / "site.pem"
        if path.is_file() and path.read_text() == certificate:
            return
        if not self.reports.key.fits(certificate.encode()):
            raise CentreRefused("forged", "the certificate in the assignment is not for the key of this site")
        write_whole(path, certificate.encode())
        self._link = None

    def _fetch(self, link: CentreLink, is_live: bool) -> None:
        """Fetch what is missing, and begin to switch to it. Over a line it stops after `report_s`, so that the centre
        hears of this site and the site of what is wanted now; the next turn goes on where it was."""
        want, trusted = self.want, self._trusted
        if want is None or trusted is None or want.frozen or self.clock.now_s() < self.memory.hold_until_s:
            return
        journal, self.untaken = self.switch.journal, ""
        if not may_begin(journal, want.serve, want.sequence):
            return
        try:
            parts = self.switch.other_parts(want.policies)
        except InvalidSpec as fault:
            self.untaken = self.note = fault.message
            return
        lacking = missing(journal, want.serve)
        self._drop_staged({one.model for one in lacking})
        if not lacking and parts is None:
            return
        until_s = min((one.deadline for one in want.serve if one.deadline is not None), default=0.0)
        section, began_s = self.section(), self.clock.monotonic_s()
        hours, limits = want.hours or section.hours, [one for one in (want.rate, section.rate) if one and is_live]

        def may_fetch() -> bool:
            now_s = self.clock.now_s()
            self._has_more = is_live and self.clock.monotonic_s() - began_s >= section.report_s
            in_hours = not is_live or is_open(hours, datetime.fromtimestamp(now_s)) or (0 < until_s <= now_s)
            return in_hours and not self.stopping() and not self._has_more

        puller = Puller(link, throttle=Throttle(min(limits, default=0)), may_fetch=may_fetch)
        have, staged, wanted = have_in(self.store), dict[str, Path](), {one.model for one in lacking}
        lists = [trusted.parts[one] for one in sorted(wanted)]
        for one in sorted(lists, key=lambda one: sum(delta.base in wanted for delta in one.deltas)):
            staged[one.digest] = self._staged(one, puller, have)
            have = have.also(one, staged[one.digest])  # the next one may differ little from it
        names = {one.model: local_reference(one.name, one.model) for one in lacking}

        def copy_of(digest: str) -> tuple[ModelCopy, Path]:
            created_s = int(self.clock.now_s())
            return model_copy(trusted.parts[digest], name=names[digest], created_s=created_s), staged[digest]

        self.switch.begin(lacking, want.sequence, copy_of, parts)
        self.done = 1.0
        self._drop_staged(())
        self.switch.advance()

    def _drop_staged(self, kept: Collection[str]) -> None:
        """Free the disk of models that were fetched in part and are not wanted any more."""
        for one in (self.folder / "staging").glob("*"):
            if f"sha256:{one.name}" not in kept:
                shutil.rmtree(one, ignore_errors=True)

    def _staged(self, parts: ModelParts, puller: Puller, have: Have) -> Path:
        into = self.folder / "staging" / parts.digest.removeprefix("sha256:")
        began_s, before = self.clock.monotonic_s(), puller.fetched

        def on_progress(share: float) -> None:
            if share - self.done > 0.01 or share < self.done:
                self.done = share
                self._tell()

        make_folder(into.parent, mode=0o700)
        try:
            return puller.fetch(parts, have=have, into=into, on_progress=on_progress)
        finally:
            spent_s = self.clock.monotonic_s() - began_s
            if puller.fetched > before and spent_s > 0:
                self._remember(rate=int((puller.fetched - before) / spent_s))

    # --- reports

    def _report(self, link: CentreLink, is_live: bool) -> None:
        self.reports.hand_in(link, acknowledges=is_live)
        served = self.served()
        said, now_s = msgspec.json.encode(served).decode(), self.clock.now_s()
        if said == self.memory.reported and 0 <= now_s - self.memory.reported_s < self.section().report_s:
            return
        for _ in range(MOST_REPORTS):
            more = self.reports.make(self._told(served), self._sources(), self.clock.now_s())
            self.reports.hand_in(link, acknowledges=is_live)
            if not more or len(self.reports.spool.waiting) >= MOST_WAITING:
                break
        self._remember(reported=said, reported_s=now_s)

    def _sources(self) -> Sources:
        want = self.want
        models = tuple(one.alias for one in want.serve) if want is not None and want.votes else ()
        return Sources(database=self.sources.database, audit=self.sources.audit, models=models)

    def _told(self, served: Sequence[Served]) -> dict[str, Any]:
        went_back = any(one.state in ("went back", "failed") for one in served)
        book = self.office.book(SITE)
        live = [course.release for alias in book.aliases for course in book.live_of(alias)]
        is_failing = not all(self.answers(one) for one in live)
        want, root = self.want, 0 if self._trusted is None else self._trusted.root
        return {
            "version": __version__, "want": 0 if want is None else want.sequence, "root": root,
            "served": tuple(served), "done": self.done, "rate": self.memory.rate, "attacks": self.memory.attacks,
            "health": "failing" if is_failing else "worse" if went_back else "good", "note": self.note[:200],
        }  # fmt: skip

    def served(self) -> tuple[Served, ...]:
        """Return how each alias of the want stands here."""
        want, journal = self.want, self.switch.journal
        if want is None:
            return ()
        found = []
        for one in want.serve:
            now = journal.current.get(one.alias)
            failed = next(
                (f for f in journal.failed if f.digest in (one.model, NAME) and f.sequence >= want.sequence), None
            )
            state: Literal["serving", "trying", "fetching", "went back", "failed"] = "serving"
            why = ""
            if failed is not None:
                state, why = "went back" if failed.answered else "failed", failed.why
            elif self.untaken:
                state, why = "failed", self.untaken
            elif any(item.alias == one.alias for item in journal.items):
                state = "trying"
            elif now is None or now.digest != one.model:
                state = "fetching"
            found.append(
                Served(
                    alias=one.alias, digest=NO_MODEL if now is None else now.digest, state=state, why=why[:200],
                    wanted=None if state == "serving" else one.model,
                )
            )  # fmt: skip
        return tuple(found)

    # --- files

    def _take_words(self) -> None:
        """Do what commands left in `asked.json`."""
        path = self.folder / "asked.json"
        asked = read_record(path, Asked)
        if asked is None:
            return
        path.unlink(missing_ok=True)
        if asked.hold_until_s is not None:
            self._remember(hold_until_s=asked.hold_until_s)
        self._poll_s = 0.0
        if asked.bring:
            why = self.bring(FolderLink(Path(asked.bring)))
            write_record(self.folder / "brought.json", {"from": asked.bring, "why": why})

    def _tell(self) -> None:
        want, journal = self.want, self.switch.journal
        said = Status(
            site=self.joined.site, centre=self.joined.centre, at_s=self.clock.now_s(), phase=journal.phase,
            sequence=0 if want is None else want.sequence,
            serving={alias: one.digest for alias, one in journal.current.items()},
            failed={one.digest: one.why for one in journal.failed}, news_s=self.memory.news_s,
            until_s=self._until_s,
            hold_until_s=self.memory.hold_until_s, frozen=want is not None and want.frozen,
            waiting=len(self.reports.spool.waiting), note=self.note, done=self.done,
        )  # fmt: skip
        write_record(self.folder / "status.json", said, durable=False)

    def _remember(self, **changes: Any) -> None:
        fresh = msgspec.structs.replace(self.memory, **changes)
        if fresh != self.memory:
            self.memory = fresh
            write_record(self.folder / "agent.json", fresh)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """`asked.json`: what a command asks of the loop. Any of it also has it poll at once."""

    hold_until_s: float | None = None
    bring: str = ""
    """Folder of a stick."""


def _host(centre: str) -> str:
    """Return how the centre is named to users."""
    return (split_url(centre).hostname if "://" in centre else "") or "reached by sticks"


def _write_if_new(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text() != text:
        write_whole(path, text.encode())
