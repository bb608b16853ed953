"""The doctor over HTTP: what is found, the rules, and the changes that it makes and undoes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Protocol

import msgspec

from ashore.core import Actor, Call, Nothing, Recorder, Rights, did_you_mean
from ashore.doctor.changes import OwnHands, Remedies
from ashore.doctor.journal import Entry, Journal
from ashore.doctor.model import Area, Diagnosis, Finding, Severity, Unknown
from ashore.errors import InvalidRequest, NotFound

LOOK: Final = "doctor:read"
APPLY: Final = "doctor:apply"


class Looks(Protocol):
    """Measures this server and its machine, and asks every rule."""

    async def __call__(self, *, fresh: bool) -> Diagnosis:
        """Return what is found. Takes seconds; several callers share one look.

        Args:
            fresh: Look now; otherwise a look of the last seconds is good enough.

        Raises:
            EnvironmentFault: the look failed.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorDesk:
    """Who decides, who is told, who looks, and where changes are written down."""

    rights: Rights
    recorder: Recorder
    look: Looks
    home: Path


class FindingsIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rules are asked."""

    only: Annotated[str, msgspec.Meta(max_length=200)] = ""
    """Rules or areas, separated by commas: `D301,disk`; empty: all."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules find."""

    items: tuple[Finding, ...]
    """The worst first; what another finding explains stands right behind it."""
    worst: Severity | None
    """Severity of the worst finding; null: there is none."""
    at_s: float
    """When it was measured, in seconds since 1970."""
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


class RulesShown(msgspec.Struct, frozen=True, kw_only=True):
    """Every rule."""

    items: tuple[RuleShown, ...]


class ChangesShown(msgspec.Struct, frozen=True, kw_only=True):
    """Changes that the doctor made, the first one first."""

    items: tuple[Entry, ...]


class ApplyIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which changes are made."""

    rules: Annotated[str, msgspec.Meta(max_length=200)] = ""
    """Make the changes of these rules alone, `D909,D205`, also those that are not safe by themselves, such as settings
    of the kernel. Empty: the safe ones of every finding."""
    dry_run: bool = False
    """Return what would be changed, and change nothing."""


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What was changed, or would be."""

    items: tuple[Entry, ...]
    """Changes that were tried, with what became of each."""
    would_change: tuple[str, ...] = ()
    """With dry_run: each change, `RULE KIND TARGET VALUE`."""


class RevertIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which change is undone."""

    number: Annotated[str, msgspec.Meta(max_length=9, extra={"positional": True})]
    """Number of the change, as `ashore doctor changes` shows it."""


async def find(desk: DoctorDesk, actor: Actor, asked: FindingsIn) -> Found:
    """Measure the server and its machine, and return what is wrong, why, and what to do. Takes some seconds.

    A look of the last half minute is returned as it is.
    """
    found = await desk.look(fresh=False)
    wanted = _chosen(asked.only)
    items = [one for one in found.findings if not wanted or one.rule in wanted or one.area in wanted]
    worst = Diagnosis(at_s=0, span_s=0, findings=tuple(items), unknown=(), rules=0).worst
    return Found(items=tuple(items), worst=worst, at_s=found.at_s, rules=found.rules, unknown=found.unknown)


def list_rules(desk: DoctorDesk, actor: Actor, asked: Nothing) -> RulesShown:
    """List the rules of the doctor, and what each asks."""
    from ashore.doctor.rules import RULES

    rows = (RuleShown(rule=one.id, area=one.area, question=one.question, source=one.source) for one in RULES)
    return RulesShown(items=tuple(rows))


def list_changes(desk: DoctorDesk, actor: Actor, asked: Nothing) -> ChangesShown:
    """List the changes that the doctor made, and whether each still holds."""
    return ChangesShown(items=Journal(desk.home).entries())


async def apply(desk: DoctorDesk, actor: Actor, asked: ApplyIn) -> Applied:
    """Look, and make the safe changes that findings carry. Each can be undone, and is in the audit log."""
    named = _chosen(asked.rules)
    found = await desk.look(fresh=True)
    remedies = Remedies(Journal(desk.home), OwnHands(), say=lambda entry: _record(desk, actor, APPLY, entry))
    planned = remedies.planned(found.findings, tuple(named))
    planned = tuple(one for one in planned if not named or one.rule in named)
    for one in planned:
        desk.rights.require(actor.principal, APPLY, f"doctor/{one.rule}")
    if asked.dry_run:
        changes = [(one.rule, one.change) for one in planned if one.change is not None]
        told = (f"{rule} {one.kind} {one.target} {one.value}".rstrip() for rule, one in changes)
        return Applied(items=(), would_change=tuple(told))
    return Applied(items=await asyncio.to_thread(remedies.apply, planned))


def revert(desk: DoctorDesk, actor: Actor, asked: RevertIn) -> ChangesShown:
    """Undo one change of the doctor: what was there before is put back, and read back."""
    entry = next((one for one in Journal(desk.home).entries() if str(one.id) == asked.number), None)
    if entry is None:
        raise NotFound(f"there is no change {asked.number}", hint="GET /admin/v1/doctor/changes lists them")
    desk.rights.require(actor.principal, APPLY, f"doctor/{entry.rule}")
    remedies = Remedies(Journal(desk.home), OwnHands(), say=lambda one: _record(desk, actor, "doctor:undo", one))
    return ChangesShown(items=remedies.undo(entry.id))


def _record(desk: DoctorDesk, actor: Actor, action: str, entry: Entry) -> None:
    failed = entry.stage in ("begun", "failed") or (action == "doctor:undo" and entry.stage == "made")
    actor.record(
        desk.recorder,
        action,
        f"doctor/{entry.rule}",
        outcome="failed" if failed else "done",
        reason=entry.note,
        detail=detail_of(entry),
    )


def detail_of(entry: Entry) -> dict[str, str | int]:
    """Return what the audit log keeps of a change."""
    return {
        "change": entry.id,
        "kind": entry.kind,
        "target": entry.target,
        "before": entry.before,
        "after": entry.after,
    }


def _chosen(text: str) -> Sequence[str]:
    """Return the rules and areas that are named.

    Raises:
        InvalidRequest: a word is neither.
    """
    from ashore.doctor.rules import RULES

    words = [part.strip() for part in text.split(",") if part.strip()]
    known = {one.id for one in RULES} | {one.area for one in RULES}
    for word in words:
        if word not in known:
            raise InvalidRequest(
                f"{word!r} is neither a rule nor an area",
                hint=did_you_mean(word, sorted(known)) or "GET /admin/v1/doctor/rules lists them",
            )
    return words


CALLS: Final = (
    Call("doctor", "findings", "GET", "/doctor", LOOK, find, on_server=True),
    Call("doctor", "rules", "GET", "/doctor/rules", LOOK, list_rules, on_server=True),
    Call("doctor", "changes", "GET", "/doctor/changes", LOOK, list_changes, on_server=True),
    Call("doctor", "apply", "POST", "/doctor/apply", APPLY, apply),
    Call("doctor", "revert", "POST", "/doctor/changes/{number}/revert", APPLY, revert),
)
