"""Calls on feedback and learning for their administrators."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from ashore.control.feedback.scheduled import next_turn, turn_named
from ashore.core.clock import Clock
from ashore.core.errors import InvalidRequest, Overloaded
from ashore.core.names import EVERY_NAME, Names, check_named
from ashore.data.feedback.consent import Consents, Purpose, save_purpose
from ashore.data.feedback.leases import holder_of, models_with_votes, num_fresh
from ashore.data.feedback.runs import Run, end_pause, find_run, load_runs, pauses, set_pause, weights_of
from ashore.data.feedback.sql import count_votes, forget_texts
from ashore.data.feedback.turns import When
from ashore.data.jobs.schedule import Turn, turn_of
from ashore.kit.call import Actor, Call, Nothing, Rights
from ashore.kit.copied import copied
from ashore.kit.recorder import Recorder
from ashore.kit.rights import check_on, may_on, sees_tenant

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ashore.data.feedback.service import FeedbackService
    from ashore.kit.state import Database

READ: Final = "learning:read"
WRITE: Final = "learning:write"
FORGET: Final = "feedback:forget"
CONSENT: Final = "feedback:consent"

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200, extra={"positional": True})]


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningDesk:
    """Votes, who may touch them, and the audit log of who did."""

    database: Database
    consents: Consents
    feedback: FeedbackService
    rights: Rights
    recorder: Recorder
    clock: Clock
    names: Names = EVERY_NAME
    when: Callable[[], When] = When
    """When runs begin by themselves."""


class VotesOut(msgspec.Struct, frozen=True, kw_only=True):
    """Votes of one tenant on the answers of one release."""

    tenant: str
    model: str
    release: str
    votes: int
    up: int
    down: int
    corrections: int
    with_text: int
    """Votes with question and answer, from which a model can learn."""
    voters: int


class ForgetIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom to erase."""

    person: Name
    """Account, as the audit log names it."""
    tenant: Annotated[str, msgspec.Meta(max_length=200)] = ""
    """Tenant of the account. Default: the caller's."""


class Forgotten(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased."""

    receipts: int
    votes: int
    models: list[str] = []
    """Models that learned from this person, or are just being made, by name. They still have what they learned: retire
    their releases, remove them, and let the next run learn without it."""
    adapters: list[str] = []
    """Folders of their adapters."""


class ConsentOut(msgspec.Struct, frozen=True, kw_only=True):
    """What the votes of a tenant may be used for."""

    tenant: str
    purpose: str


class ConsentIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new purpose."""

    tenant: Name
    """Name of the tenant."""
    purpose: Annotated[Purpose, msgspec.Meta(extra={"positional": True})]
    """`train`: keep question and answer with a vote, and learn from them. `measure`: keep the vote alone. `none`: take
    no votes."""


class ConsentSet(msgspec.Struct, frozen=True, kw_only=True):
    """The purpose in force."""

    tenant: str
    purpose: str
    receipts: int
    """Receipts that were erased."""
    texts: int
    """Votes whose texts were erased."""


class StatusIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which runs to show."""

    model: Annotated[str, msgspec.Meta(max_length=200, extra={"positional": True})] = ""
    """Alias. Default: every one."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 20
    """Maximum number of runs."""


class RunOut(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    run: str
    model: str
    state: str
    """running, refused, passed, released or stopped."""
    examples: dict[str, int]
    """By kind: correction, preferred, up, down."""
    held: dict[str, int]
    """Votes that were held, by filter."""
    candidate: str
    release: str
    why: str
    erased: int
    """People among its examples who were erased since."""
    started_s: int


class NextOut(msgspec.Struct, frozen=True, kw_only=True):
    """When a model learns next."""

    model: str
    due_s: int | None
    """Seconds since 1970, in the past for a run that is due; null: nothing says when."""
    why: str
    """Why then, or why not."""
    last: str = ""
    """What came of the last run that began by itself."""


class LearningStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Runs, what is paused, and what begins by itself."""

    items: list[RunOut]
    paused: dict[str, str]
    begins: str = ""
    """When runs begin: by hand, at a time of day, at a number of new votes."""
    next: list[NextOut] = []
    running: str = ""
    """Node on which a run is under way; empty: none is."""


RunName = Annotated[Name, msgspec.Meta(description="Name of the run, as `ashore learn status` shows it.")]


class PersonOut(msgspec.Struct, frozen=True, kw_only=True):
    """Votes of one person in a run."""

    tenant: str
    voter: str
    votes: int
    held: str
    """Filter that held them; empty: they were learned from."""
    why: str


class LineOut(msgspec.Struct, frozen=True, kw_only=True):
    """One limit of the gate."""

    metric: str
    about: str
    seen: float | None
    limit: float
    passed: bool
    why: str


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """A run with its evidence."""

    run: RunOut
    people: list[PersonOut]
    lines: list[LineOut]


class PauseIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to pause, and why."""

    model: Name
    """Alias."""
    why: Annotated[str, msgspec.Meta(max_length=300)] = ""
    """Reason, shown in the status."""


Alias = Annotated[Name, msgspec.Meta(description="Alias.")]


class Paused(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a model learns."""

    model: str
    paused: bool


def list_votes(desk: LearningDesk, actor: Actor, asked: Nothing) -> list[VotesOut]:
    """Count votes by tenant, model and release, without their texts."""
    with desk.database.read() as connection:
        rows = count_votes(connection)
    return [VotesOut(**row) for row in rows if sees_tenant(desk.rights, actor.principal, READ, str(row["tenant"]))]


async def forget(desk: LearningDesk, actor: Actor, asked: ForgetIn) -> Forgotten:
    """Erase a person from feedback: votes, corrections, and receipts of their answers.

    The key of their texts is destroyed first, so that copies of the state hold noise. May be repeated.
    """
    await desk.feedback.written()
    return await asyncio.to_thread(_forget, desk, actor, asked)


def _forget(desk: LearningDesk, actor: Actor, asked: ForgetIn) -> Forgotten:
    tenant = asked.tenant or str(actor.principal.tenant)
    check_named(desk.names, "tenant", tenant)
    check_on(desk.rights, actor.principal, FORGET, f"tenant/{tenant}")
    if "/" in tenant:
        raise InvalidRequest(f"{tenant[:60]!r} is not the name of a tenant", param="tenant")

    def record(connection: Connection, receipts: int, votes: int, runs: list[Run]) -> None:
        detail: dict[str, str | int] = {"person": asked.person, "receipts": receipts, "votes": votes, "runs": len(runs)}
        actor.record(desk.recorder, FORGET, f"tenant/{tenant}", detail=detail, on=connection)

    receipts, votes, runs, left = desk.feedback.forget(tenant, asked.person, record)
    made = [run for run in runs if run.candidate]
    if left is not None:
        models = ", ".join(run.candidate for run in made) or "none"
        raise Overloaded(
            f"{left.message}; {votes} votes were erased; models that learned from them: {models}", hint="try again"
        )
    return Forgotten(
        receipts=receipts,
        votes=votes,
        models=[run.candidate for run in made],
        adapters=[run.adapter for run in made],
    )


def show_status(desk: LearningDesk, actor: Actor, asked: StatusIn) -> LearningStatus:
    """Show runs, newest first, with what the gate said and where they went; what is paused; when the next begins."""
    may = partial(may_on, desk.rights, actor.principal, READ)
    now_ms, when = int(desk.clock.now_s() * 1000), desk.when()
    with desk.database.read() as connection:
        runs, paused = load_runs(connection, model=asked.model, limit=asked.limit), pauses(connection)
        running = holder_of(connection, now_ms=now_ms)
        models = [one for one in models_with_votes(connection) if asked.model in ("", one)]
        turns = [turn_of(connection, turn_named(one)) or Turn(name=one, seen_ms=now_ms) for one in models]
        fresh = [
            num_fresh(connection, model, since_ms=turn.began_ms) for model, turn in zip(models, turns, strict=True)
        ]
    return LearningStatus(
        items=[_run_out(run) for run in runs if may(f"model/{run.model}")],
        paused={model: why for model, why in paused.items() if may(f"model/{model}")},
        next=[
            _next_out(model, one, when, number, paused=paused.get(model, ""), running=running, now_ms=now_ms)
            for model, one, number in zip(models, turns, fresh, strict=True)
            if may(f"model/{model}")
        ],
        running=running,
        begins=when.words,
    )


def explain(desk: LearningDesk, actor: Actor, run: RunName) -> Explained:
    """Explain a run: who gave its examples, whose votes were held and why, and every line of the verdict.

    People of other tenants are shown with the right to read those.
    """
    with desk.database.read() as connection:
        found = find_run(connection, run)
        check_on(desk.rights, actor.principal, READ, f"model/{found.model}")
        weights = weights_of(connection, found.run_id)
    seen = {one: sees_tenant(desk.rights, actor.principal, READ, one) for one in {str(w["tenant"]) for w in weights}}
    lines = () if found.verdict is None else found.verdict.lines
    return Explained(
        run=_run_out(found),
        people=[PersonOut(**one) for one in weights if seen[str(one["tenant"])]],
        lines=[copied(LineOut, line) for line in lines],
    )


def pause(desk: LearningDesk, actor: Actor, asked: PauseIn) -> Paused:
    """Pause learning for a model. A run that is under way ends after its step; started again, it goes on from there."""
    check_on(desk.rights, actor.principal, WRITE, f"model/{asked.model}")
    with desk.database.write() as connection:
        set_pause(
            connection,
            asked.model,
            why=asked.why,
            paused_by=actor.principal.id,
            now_ms=int(desk.clock.now_s() * 1000),
        )
        resource = f"model/{asked.model}"
        actor.record(desk.recorder, WRITE, resource, reason=asked.why, detail={"paused": 1}, on=connection)
    return Paused(model=asked.model, paused=True)


def resume(desk: LearningDesk, actor: Actor, model: Alias) -> Paused:
    """Resume learning for a model: allow its runs again."""
    check_on(desk.rights, actor.principal, WRITE, f"model/{model}")
    with desk.database.write() as connection:
        end_pause(connection, model)
        actor.record(desk.recorder, WRITE, f"model/{model}", detail={"paused": 0}, on=connection)
    return Paused(model=model, paused=False)


def list_consents(desk: LearningDesk, actor: Actor, asked: Nothing) -> list[ConsentOut]:
    """List what tenants' votes may be used for, where it was set by command."""
    found = desk.consents.by_command()
    return [
        ConsentOut(tenant=tenant, purpose=found[tenant])
        for tenant in sorted(found)
        if sees_tenant(desk.rights, actor.principal, READ, tenant)
    ]


def set_consent(desk: LearningDesk, actor: Actor, asked: ConsentIn) -> ConsentSet:
    """Set what a tenant's votes may be used for. Takes effect on every worker within 200 ms.

    From `train` to anything else, the texts that were kept are erased. Votes without texts stay, to be counted.
    """
    check_named(desk.names, "tenant", asked.tenant)
    check_on(desk.rights, actor.principal, CONSENT, f"tenant/{asked.tenant}")
    receipts = texts = 0
    with desk.database.write() as connection:
        save_purpose(
            connection,
            asked.tenant,
            asked.purpose,
            changed_by=actor.principal.id,
            now_ms=int(desk.clock.now_s() * 1000),
        )
        if asked.purpose != "train":
            receipts, texts = forget_texts(connection, asked.tenant, bare=True)
        actor.record(
            desk.recorder,
            CONSENT,
            f"tenant/{asked.tenant}",
            detail={"purpose": asked.purpose, "receipts": receipts, "texts": texts},
            on=connection,
        )
    desk.consents.refresh()
    if asked.purpose != "train":
        desk.database.scrub()
    return ConsentSet(tenant=asked.tenant, purpose=asked.purpose, receipts=receipts, texts=texts)


CALLS: Final = (
    Call("learn", "votes", "GET", "/learning/votes", READ, list_votes),
    Call(
        "learn", "forget", "POST", "/learning/forget", FORGET, forget,
        sure="erase the votes, corrections and receipts of {person}",
    ),
    Call("learn", "status", "GET", "/learning/runs", READ, show_status),
    Call("learn", "explain", "GET", "/learning/runs/{run}", READ, explain),
    Call("learn", "pause", "POST", "/learning/pause/{model}", WRITE, pause),
    Call("learn", "resume", "POST", "/learning/resume/{model}", WRITE, resume),
    Call("learn", "consents", "GET", "/learning/consent", READ, list_consents),
    Call("learn", "consent", "PUT", "/learning/consent/{tenant}", CONSENT, set_consent),
)  # fmt: skip


def _next_out(model: str, turn: Turn, when: When, fresh: int, *, paused: str, running: str, now_ms: int) -> NextOut:
    if paused:
        return NextOut(model=model, due_s=None, why=f"paused: {paused}", last=turn.says)
    if turn.state == "running":
        why = f"under way on {running}" if running else f"queued as {turn.job_id}"
        return NextOut(model=model, due_s=None, why=why, last=turn.says)
    found = next_turn(turn, when, fresh=fresh, now_ms=now_ms)
    waits = found.due_ms is not None and found.due_ms <= now_ms and running
    return NextOut(
        model=model,
        due_s=None if found.due_ms is None else found.due_ms // 1000,
        why=f"{found.why}; waits for the run on {running}" if waits else found.why,
        last=turn.says,
    )


def _run_out(run: Run) -> RunOut:
    return copied(
        RunOut, run, run=run.run_id, examples=dict(run.examples), held=dict(run.held), started_s=run.started_ms // 1000
    )
