"""Changes what a site serves: every alias and every part of ashore.toml of a want is switched, or none is.

A reconcile loop over one journal, `switch.json`. Each step may be repeated, and what the release book says decides; so
a site that lost power at any moment wakes with the old releases or the new ones, and `advance` finishes or undoes the
rest. The former release stays loaded: the way back needs no byte from the centre.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from ashore.control.releases import ReleaseOffice
from ashore.control.sites.model import Serve
from ashore.control.sites.parts import NAME, Parts, SiteParts
from ashore.control.sites.rows import SITE
from ashore.core.clock import Clock
from ashore.core.errors import AshoreError, Conflict, MemoryFull
from ashore.core.ids import Digest
from ashore.data.releases import HOSTED, Book, Course, ReleaseWish, Way
from ashore.kit.recordfile import read_record, write_record
from ashore.kit.store import ModelCopy, ModelStore
from ashore.kit.store.refs import parse_reference

Phase = Literal["idle", "preparing", "switching", "judging", "undoing"]

JUDGE_S: Final = 60
STANDBY_S: Final = 86_400
WARM_S: Final = 1800
"""Longest time for loading a new version and passing its gate, unless the want says until when."""
SHADOW_SHARE: Final = 100
"""Thousandths of the requests that a shadow gets."""
MOST_FAILED: Final = 64
"""Failed versions that are remembered."""

log = logging.getLogger("ashore.sites")


class Item(Serve, frozen=True, kw_only=True):
    """An assignment on its way."""

    release: str
    """Its name here: made of alias, sequence and digest, so that it is created once."""


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """What answered for an alias, by the word of the centre."""

    digest: str
    release: str
    sequence: int


class FailedVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version that this site does not try again before a newer want."""

    digest: str
    """Of the model; `ashore.toml`: the parts of a want."""
    sequence: int
    why: str
    at_s: float
    answered: bool = False
    """Whether it had answered users before the site went back."""


class Journal(msgspec.Struct, frozen=True, kw_only=True):
    """All that a restart needs to know."""

    phase: Phase = "idle"
    sequence: int = 0
    """Of the want that is, or was last, applied."""
    items: tuple[Item, ...] = ()
    parts: Parts | None = None
    """Parts of ashore.toml on their way; None: these stay as they are."""
    parts_before: Parts = {}
    """The way back from these."""
    began_s: float = 0
    until_s: float = 0
    """End of the judging."""
    why: str = ""
    """What it is undone for."""
    culprit: str = ""
    """Digest that it is undone for."""
    answered: bool = False
    """Whether that had gone live."""
    current: Mapping[str, Version] = {}
    """By alias."""
    former: Mapping[str, Version] = {}
    """The way back, by alias."""
    failed: tuple[FailedVersion, ...] = ()


Probe = Callable[[str, str], str]
"""Asks a loaded release something that needs no account; returns what is wrong with its answers, also compared with the
second release, where that is not empty. Raises `NotReady` while its hosts cannot be asked."""


def local_reference(name: str, digest: str) -> str:
    """Return under which name the store of a site has a version: versions of one model lie beside each other."""
    reference = parse_reference(name)
    short = _short(digest)
    variant = f"@{reference.variant}" if reference.variant else ""
    return f"{reference.name[: 127 - len(short)]}-{short}{variant}"


def may_begin(journal: Journal, assigned: Sequence[Serve], sequence: int) -> bool:
    """Return whether nothing is on its way, and nothing of this want has failed."""
    tried = {NAME, *(one.model for one in assigned)}
    return journal.phase == "idle" and not any(f.sequence >= sequence and f.digest in tried for f in journal.failed)


def missing(journal: Journal, assigned: Sequence[Serve]) -> tuple[Serve, ...]:
    """Return the assignments that differ from what is served."""
    now = journal.current
    return tuple(one for one in assigned if one.alias not in now or now[one.alias].digest != one.model)


class Switch:
    """Applies wants to the releases of this site. One process has it; not for an event loop."""

    def __init__(
        self,
        office: ReleaseOffice,
        store: ModelStore,
        journal: Path,
        *,
        clock: Clock,
        probe: Probe,
        ready: Callable[[str], str] = lambda reference: reference,
        in_use: Callable[[], Collection[str]] = frozenset,
        judge_s: float = JUDGE_S,
        parts: SiteParts,
    ) -> None:
        """Create it; reads the journal.

        Args:
            office: Of this server's releases.
            store: Of this home.
            journal: File; its folder exists.
            clock: Time.
            probe: Asks releases.
            ready: Makes what the engine needs of a stored model, and returns the reference of that.
            in_use: Returns the digests that releases refer to.
            judge_s: How long a new version is watched.
            parts: Gives parts of ashore.toml to the server.
        """
        self._office, self._store, self._path, self._clock = office, store, journal, clock
        self._probe, self._ready, self._in_use, self._judge_s = probe, ready, in_use, judge_s
        self._parts = parts
        hint = "delete it: the site compares with its releases, and begins again"
        self.journal = read_record(journal, Journal, if_damaged=hint) or Journal()

    # --- commands

    def other_parts(self, parts: Parts) -> Parts | None:
        """Return the parts of a want where they are not those in force; else None.

        Raises:
            InvalidSpec: this site does not take them. NotReady: its server cannot be asked now.
        """
        before = self._parts.now()
        if not (parts or before):
            return None
        self._parts.check(parts)
        return None if parts == before else parts

    def begin(
        self,
        assigned: Sequence[Serve],
        sequence: int,
        staged: Callable[[str], tuple[ModelCopy, Path]],
        parts: Parts | None = None,
    ) -> None:
        """Put the models of a want into the store, and begin to switch to them. May be called again after a kill.

        Args:
            assigned: From `missing`.
            sequence: Of the want.
            staged: Returns what to register for a digest under its local reference, and the folder of its blobs, whose
                files are named by their hashes. Called for what the store lacks.
            parts: From `other_parts`.

        Raises:
            AshoreError: the disk is full, a name is taken. Nothing has changed but the store.
        """
        for one in assigned:
            reference = local_reference(one.name, one.model)
            if not self._has(reference, one.model):
                copy, folder = staged(one.model)
                self._store.put_back([copy], partial(_blob_in, folder))
        items = tuple(
            Item(**msgspec.structs.asdict(one), release=f"{one.alias}-{_short(one.model)[:8]}-{sequence}")
            for one in assigned
        )
        self._note(
            phase="preparing", sequence=sequence, items=items, began_s=self._clock.now_s(), why="", culprit="",
            parts=parts, parts_before={} if parts is None else self._parts.now(),
        )  # fmt: skip

    def advance(self) -> bool:
        """Do what can be done now; return whether there is more to do later. May be called at any time.

        Raises:
            AshoreError: the state cannot be used now; call again.
        """
        before = None
        while self.journal.phase != "idle" and self.journal != before:
            before = self.journal
            phases = {"preparing": self._prepare, "switching": self._switch, "judging": self._judge}
            phases.get(before.phase, self._undo)()
        return self.journal.phase != "idle"

    # --- phases

    def _prepare(self) -> None:
        """Load every release and let it pass its gate; then switch."""
        book, passed = self._office.book(SITE), 0
        for item in self.journal.items:
            try:
                passed += self._passes(item, book)
            except MemoryFull:
                passed += 1  # no memory for two: it is loaded in place of the live one, and probed then
            except AshoreError as fault:
                may_pass = fault.retryable or isinstance(fault, Conflict)  # an operator's own candidate ends one day
                if may_pass and not self._is_late(item):
                    raise
                self._give_up(item, fault.message)
                return
            if self.journal.phase == "undoing":
                return
        if passed == len(self.journal.items):
            self._note(phase="switching")

    def _passes(self, item: Item, book: Book) -> bool:
        course = book.courses.get(item.release) or self._create(item)
        match course.state:
            case "created":
                goal: Literal["shadow", "standby"] = "shadow" if item.gate == "shadow" else "standby"
                share = SHADOW_SHARE if goal == "shadow" else 0
                self._office.roll_out(SITE, item.release, Way(goal=goal, share=share), why=self._why())
                return False
            case "warming" if self._is_late(item):
                self._give_up(item, "it was not loaded in time")
                return False
            case "warming":
                return False
            case "failed" | "retired":
                self._give_up(item, course.why or f"it is {course.state}")
                return False
            case "shadow":
                verdict = next((one.verdict for stage, one in self._office.evidence(SITE, item.release)
                                if stage == "shadow"), "go on")  # fmt: skip
                if verdict == "go on" and not self._is_late(item):
                    return False
                if verdict == "worse":
                    self._give_up(item, "its shadow was found worse")
                    return False
            case "standby" | "canary" | "live":
                pass
        return item.gate == "none" or self._answers(item, book)

    def _answers(self, item: Item, book: Book) -> bool:
        live = next((one.release for one in book.live_of(item.alias)), "")
        wrong = self._probe(item.release, live if live != item.release else "")
        if wrong:
            self._give_up(item, wrong)
        return not wrong

    def _create(self, item: Item) -> Course:
        reference = self._ready(local_reference(item.name, item.model))
        wish = ReleaseWish(model=reference, alias=item.alias)
        return self._office.create(SITE, wish, name=item.release, override=self._why()).course

    def _switch(self) -> None:
        """Put the parts in force, and promote every release that is not live yet."""
        if not self._takes_parts():
            return
        book = self._office.book(SITE)
        for item in self.journal.items:
            course = book.courses[item.release]
            if _answers_alone(book, item):
                continue
            if course.state in ("failed", "retired") or self._is_late(item):
                self._give_up(item, course.why or f"it is {course.state}")
                return
            if course.state == "warming" and course.goal == "live":
                return  # it loads in place of the live one
            try:
                self._promote(item, cold=False)
            except MemoryFull:
                self._promote(item, cold=True)
            if not _answers_alone(self._office.book(SITE), item):
                return
        self._note(phase="judging", until_s=self._clock.now_s() + self._judge_s)

    def _takes_parts(self) -> bool:
        now = self.journal
        if now.parts is None:
            return True
        try:
            self._parts.apply(now.parts, now.sequence, instead_of=now.parts_before)
        except AshoreError as fault:
            if fault.retryable and self._clock.now_s() < now.began_s + WARM_S:
                raise
            self._fail(NAME, fault.message)
            return False
        return True

    def _promote(self, item: Item, *, cold: bool) -> None:
        way = Way(goal="live", standby_s=STANDBY_S, cold=cold)
        self._office.roll_out(SITE, item.release, way, why=self._why(), override=f"gate at this site: {item.gate}")

    def _judge(self) -> None:
        """Watch the new releases: the release room takes back what fails; one that is back takes all back."""
        book = self._office.book(SITE)
        for item in self.journal.items:
            course = book.courses[item.release]
            if course.state != "live" or not _answers_alone(book, item):
                self._give_up(item, course.why or f"it is {course.state}")
                return
            if course.cold and item.gate != "none" and not self._answers(item, book):
                return
        if not 0 < self.journal.until_s - self._clock.now_s() <= self._judge_s:  # also where the clock was set back
            self._settle()

    def _settle(self) -> None:
        now, items = self.journal, self.journal.items
        fresh = {i.alias: Version(digest=i.model, release=i.release, sequence=now.sequence) for i in items}
        former = {**now.former, **{alias: one for alias, one in now.current.items() if alias in fresh}}
        self._note(phase="idle", items=(), parts=None, current={**now.current, **fresh}, former=former)
        self.free()

    def _give_up(self, item: Item, why: str) -> None:
        log.warning("%s does not stay on %s: %s", item.alias, item.model, why)
        self._fail(item.model, why)

    def _fail(self, culprit: str, why: str) -> None:
        self._note(phase="undoing", why=why[:500], culprit=culprit, answered=self.journal.phase == "judging")

    def _undo(self) -> None:
        """Point every alias back, put the parts of before in force, and end what was begun."""
        why = f"site: {self.journal.why}"[:300]
        for item in self.journal.items:
            book = self._office.book(SITE)
            course = book.courses.get(item.release)
            if course is None or course.state in ("created", "failed", "retired"):
                continue
            if item.release in (alias := book.aliases[item.alias]).releases:
                self._office.roll_back(SITE, item.alias, to=alias.before, why=why)
                if _leads_to(self._office.book(SITE), item):
                    return  # the one before loads first
                book = self._office.book(SITE)
            if book.courses[item.release].state in HOSTED and not book.named_by(item.release):
                self._office.retire(SITE, item.release, why=why)
        now = self.journal
        if now.parts is not None:
            self._parts.apply(now.parts_before, now.sequence, instead_of=now.parts)
        failed = FailedVersion(
            digest=now.culprit, sequence=now.sequence, why=now.why, at_s=self._clock.now_s(), answered=now.answered
        )  # fmt: skip
        others = [one for one in now.failed if one.digest != now.culprit]
        self._note(phase="idle", items=(), parts=None, failed=(*others, failed)[-MOST_FAILED:])
        self.free()

    def free(self) -> int:
        """Delete the versions from the centre that are neither current nor the way back; return the freed bytes."""
        now = self.journal
        kept = {one.digest for one in (*now.current.values(), *now.former.values())} | {one.model for one in now.items}
        book, old = self._office.book(SITE), set()
        for release in book.releases.values():
            ours = release.created_by == SITE.principal.id and book.courses[release.name].state not in HOSTED
            if ours and not any(_is_of(release.plan.name, digest) for digest in kept):
                old.add(release.plan.name)
        digests = {one.digest for one in self._store.list() if one.name in old}
        if not digests:
            return 0
        for name in sorted({one.name for one in self._store.list() if one.name in old}):
            self._store.remove(name, variants=True)
        return self._store.gc(keep=frozenset(self._in_use()) - digests).freed_bytes

    # --- pieces

    def _has(self, reference: str, digest: str) -> bool:
        try:
            return self._store.resolve(reference).digest == digest
        except AshoreError:
            return False

    def _is_late(self, item: Item) -> bool:
        return self._clock.now_s() >= (item.deadline or self.journal.began_s + WARM_S)

    def _why(self) -> str:
        return f"the centre's want {self.journal.sequence}"

    def _note(self, **changes: Any) -> None:
        journal = msgspec.structs.replace(self.journal, **changes)
        write_record(self._path, journal)
        self.journal = journal


def _blob_in(folder: Path, digest: Digest) -> Path:
    return folder / digest.removeprefix("sha256:")


def _is_of(name: str, digest: str) -> bool:
    return name.endswith(f"-{_short(digest)}")


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def _leads_to(book: Book, item: Item) -> bool:
    return item.release in book.aliases[item.alias].releases


def _answers_alone(book: Book, item: Item) -> bool:
    alias = book.aliases.get(item.alias)
    return alias is not None and alias.releases == (item.release,) and book.courses[item.release].state == "live"
