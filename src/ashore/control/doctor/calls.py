"""What the doctor finds, its rules, and the changes that it makes and undoes: over HTTP, and in a home itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Protocol

import msgspec
from msgspec.structs import replace

from ashore.control.doctor.changes import OwnHands, Remedies
from ashore.control.doctor.journal import Entry, Journal
from ashore.control.doctor.model import Area, Diagnosis, Finding, Severity, Unknown, worst_of
from ashore.core.errors import InvalidRequest, NotFound
from ashore.core.nearest import did_you_mean
from ashore.kit.call import Actor, Call, Nothing, Rights
from ashore.kit.fieldmarks import COMMAS
from ashore.kit.recorder import BEGIN_S, Recorder

if TYPE_CHECKING:
    from ashore.control.doctor.rule import Rule

LOOK: Final = "doctor:read"
APPLY: Final = "doctor:apply"
UNDO: Final = "doctor:undo"
Names = Annotated[str, msgspec.Meta(max_length=200, extra={COMMAS: True})]
"""Rules or areas, separated by commas."""


class Looks(Protocol):
    """Measures this server and its machine, and asks every rule."""

    async def __call__(self, *, fresh: bool) -> Found:
        """Return what is found. Takes seconds; several callers share one look.

        Args:
            fresh: Look now; otherwise a look of the last seconds is good enough.

        Raises:
            EnvironmentFault: the look failed.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorRound:
    """Who looks, and where changes are written down: what reading takes, with or without a server."""

    look: Looks
    home: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorDesk(DoctorRound):
    """The same, with who decides and who is told."""

    rights: Rights
    recorder: Recorder


class FindingsIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rules are asked."""

    only: Names = ""
    """Rules or areas, separated by commas: `D301,disk`; empty: all."""
    ignore: Names = ""
    """Rules or areas to leave out, separated by commas."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules find."""

    items: tuple[Finding, ...]
    """The worst first; what another finding explains stands right behind it."""
    worst: Severity | None
    """Severity of the worst finding; null: there is none."""
    at_s: float
    """When it was measured, in seconds since 1970."""
    span_s: float
    """Time between the two looks that were compared; 0: there was one."""
    running: bool
    """Whether a server runs from the home; without one, its rules are not asked."""
    rules: int
    """That were judged."""
    unknown: tuple[Unknown, ...]
    """Rules that could not be judged."""


class RuleShown(msgspec.Struct, frozen=True, kw_only=True):
    """One rule."""

    rule: str
    area: Area
    question: str
    """What it asks; a healthy server answers no."""
    source: str
    """Where its threshold or remedy comes from."""


class ApplyIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which changes are made."""

    rules: Names = ""
    """Make the changes of these rules or areas alone: `D405,disk`. A rule that is named by its id may also make a
    change that is not safe by itself, such as a setting of the kernel. Empty: the safe ones of every finding."""
    ignore: Names = ""
    """Rules or areas to leave out, separated by commas."""
    dry_run: bool = False
    """Return what would be changed, and change nothing."""


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What was changed, or would be."""

    items: tuple[Entry, ...]
    """Changes that were tried, with what became of each."""
    would_change: tuple[str, ...] = ()
    """With dry_run: each change, `RULE KIND TARGET VALUE`."""


class UndoIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which change is undone."""

    number: Annotated[str, msgspec.Meta(max_length=9, extra={"positional": True})] = "all"
    """Number of the change, as `ashore doctor changes` shows it; `all`: every one that still holds."""


def found_of(diagnosis: Diagnosis, *, running: bool) -> Found:
    """Return a diagnosis as it is sent. `running`: whether a server runs from the home."""
    told = msgspec.structs.asdict(diagnosis)
    return Found(items=told.pop("findings"), worst=diagnosis.worst, running=running, **told)


async def find(desk: DoctorRound, actor: Actor, asked: FindingsIn) -> Found:
    """Measure the server and its machine, and return what is wrong, why, and what to do. Takes some seconds.

    A server returns a look of the last half minute as it is. `ashore doctor` needs no key and no running server; it
    exits with 0 if there is nothing or advice alone, 3 after a warning, 4 after something critical.
    """
    rules = _asked_rules(asked.only, asked.ignore)
    found = await desk.look(fresh=False)
    ids = {one.id for one in rules}
    items = tuple(one for one in found.items if one.rule in ids)
    unknown = tuple(one for one in found.unknown if one.rule in ids)
    return replace(
        found,
        items=items,
        worst=worst_of(items),
        unknown=unknown,
        rules=sum(one.down or found.running for one in rules) - len(unknown),
    )


def list_rules(desk: DoctorRound, actor: Actor, asked: FindingsIn) -> list[RuleShown]:
    """List the rules of the doctor, and what each asks."""
    rules = _asked_rules(asked.only, asked.ignore)
    return [RuleShown(rule=one.id, area=one.area, question=one.question, source=one.source) for one in rules]


def list_changes(desk: DoctorRound, actor: Actor, asked: Nothing) -> list[Entry]:
    """List the changes that the doctor made, and whether each still holds."""
    return list(Journal(desk.home).entries())


async def apply(desk: DoctorDesk, actor: Actor, asked: ApplyIn) -> Applied:
    """Look, and make the safe changes that findings carry. Each can be undone, and is in the audit log."""
    ids = {one.id for one in _asked_rules(asked.rules, asked.ignore)}
    found = await desk.look(fresh=True)
    remedies = Remedies(Journal(desk.home), OwnHands(), say=lambda entry: _record(desk, actor, APPLY, entry))
    planned = remedies.planned((one for one in found.items if one.rule in ids), named=_chosen(asked.rules))
    for one in planned:
        desk.rights.require(actor.principal, APPLY, f"doctor/{one.rule}")
    if asked.dry_run:
        changes = [(one.rule, one.change) for one in planned if one.change is not None]
        told = (f"{rule} {one.kind} {one.target} {one.value}".rstrip() for rule, one in changes)
        return Applied(items=(), would_change=tuple(told))
    return Applied(items=await asyncio.to_thread(remedies.apply, planned))


def undo(desk: DoctorDesk, actor: Actor, asked: UndoIn) -> list[Entry]:
    """Undo one change of the doctor, or all, the last one first: what was there is put back, and read back."""
    entries, every = Journal(desk.home).entries(), asked.number == "all"
    chosen = [one for one in entries if every or str(one.id) == asked.number]
    if not chosen and not every:
        raise NotFound(f"there is no change {asked.number}", hint="`ashore doctor changes` lists them")
    for one in chosen:
        desk.rights.require(actor.principal, APPLY, f"doctor/{one.rule}")
    remedies = Remedies(Journal(desk.home), OwnHands(), say=lambda one: _record(desk, actor, UNDO, one))
    return list(remedies.undo(None if every else chosen[0].id))


def _record(desk: DoctorDesk, actor: Actor, action: str, entry: Entry) -> None:
    begins = entry.stage == "begun"
    failed = entry.stage == "failed" or (action == UNDO and entry.stage == "made")
    actor.record(
        desk.recorder,
        action,
        f"doctor/{entry.rule}",
        outcome="allowed" if begins else "failed" if failed else "done",
        reason="it begins" if begins else entry.note,
        detail={
            "change": entry.id,
            "kind": entry.kind,
            "target": entry.target,
            "before": entry.before,
            "after": entry.after,
        },
    )
    if begins:
        desk.recorder.settle(BEGIN_S)


def _asked_rules(only: str, ignore: str) -> tuple[Rule, ...]:
    """Return the rules that are asked.

    Raises:
        InvalidRequest: a word is neither a rule nor an area.
    """
    from ashore.control.doctor.rule import load_rules

    wanted, unwanted = _chosen(only), _chosen(ignore)
    return tuple(
        one for one in load_rules() if (not wanted or {one.id, one.area} & wanted) and not {one.id, one.area} & unwanted
    )


def _chosen(text: str) -> frozenset[str]:
    """Return the rules and areas that are named."""
    from ashore.control.doctor.rule import load_rules

    words = frozenset(part.strip() for part in text.split(",") if part.strip())
    known = {name for one in load_rules() for name in (one.id, one.area)}
    for word in sorted(words - known):
        raise InvalidRequest(
            f"{word!r} is neither a rule nor an area",
            hint=did_you_mean(word, sorted(known)) or "`ashore doctor rules` lists them",
        )
    return words


CALLS: Final = (
    Call("doctor", "findings", "GET", "/doctor", LOOK, find, on_server=True, at_home=True, slow=True),
    Call("doctor", "rules", "GET", "/doctor/rules", LOOK, list_rules, on_server=True, at_home=True),
    Call("doctor", "changes", "GET", "/doctor/changes", LOOK, list_changes, on_server=True, at_home=True),
    Call("doctor", "apply", "POST", "/doctor/apply", APPLY, apply, at_home=True, slow=True),
    Call("doctor", "undo", "POST", "/doctor/changes/{number}/undo", APPLY, undo, at_home=True),
)
