"""What is asked of feedback and learning by whoever looks after them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from ashore.core import (
    EVERY_NAME,
    Actor,
    Call,
    Clock,
    Names,
    Nothing,
    Recorder,
    Rights,
    check_named,
    check_on,
    may_on,
    sees_tenant,
)
from ashore.errors import InvalidRequest
from ashore.learning.consent import Consents, Purpose, save_purpose
from ashore.learning.runs import Run, end_pause, find_run, load_runs, pauses, set_pause, weights_of
from ashore.learning.sql import count_votes, forget_texts

if TYPE_CHECKING:
    from ashore.learning.service import FeedbackService
    from ashore.state import Database

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


class VotesList(msgspec.Struct, frozen=True, kw_only=True):
    """Votes so far."""

    items: list[VotesOut]


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


class ConsentList(msgspec.Struct, frozen=True, kw_only=True):
    """What was set by command. For every other tenant, ashore.toml says it."""

    items: list[ConsentOut]


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


class LearningStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Runs, and what is paused."""

    items: list[RunOut]
    paused: dict[str, str]


class RunIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which run."""

    run: Name
    """Name of the run, as `ashore learn status` shows it."""


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


class GoIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to go on with."""

    model: Name
    """Alias."""


class Paused(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a model learns."""

    model: str
    paused: bool


def list_votes(desk: LearningDesk, actor: Actor, asked: Nothing) -> VotesList:
    """Count votes by tenant, model and release, without their texts."""
    with desk.database.read() as connection:
        rows = count_votes(connection)
    return VotesList(
        items=[VotesOut(**row) for row in rows if sees_tenant(desk.rights, actor.principal, READ, str(row["tenant"]))]
    )


def forget(desk: LearningDesk, actor: Actor, asked: ForgetIn) -> Forgotten:
    """Erase a person from feedback: votes, corrections, and receipts of their answers.

    The key of their texts is destroyed first, so that copies of the state hold noise. May be repeated.
    """
    tenant = asked.tenant or str(actor.principal.tenant)
    check_named(desk.names, "tenant", tenant)
    check_on(desk.rights, actor.principal, FORGET, f"tenant/{tenant}")
    if "/" in tenant:
        raise InvalidRequest(f"{tenant[:60]!r} is not the name of a tenant", param="tenant")
    receipts, votes, runs = desk.feedback.forget(tenant, asked.person)
    actor.record(
        desk.recorder,
        FORGET,
        f"tenant/{tenant}",
        detail={"person": asked.person, "receipts": receipts, "votes": votes, "runs": len(runs)},
    )
    made = [run for run in runs if run.candidate]
    return Forgotten(
        receipts=receipts,
        votes=votes,
        models=[run.candidate for run in made],
        adapters=[run.adapter for run in made],
    )


def show_status(desk: LearningDesk, actor: Actor, asked: StatusIn) -> LearningStatus:
    """Show runs, newest first, with what the gate said and where they went; and what is paused."""
    may = partial(may_on, desk.rights, actor.principal, READ)
    with desk.database.read() as connection:
        runs, paused = load_runs(connection, model=asked.model, limit=asked.limit), pauses(connection)
    return LearningStatus(
        items=[_run_out(run) for run in runs if may(f"model/{run.model}")],
        paused={model: why for model, why in paused.items() if may(f"model/{model}")},
    )


def explain(desk: LearningDesk, actor: Actor, asked: RunIn) -> Explained:
    """Explain a run: who gave its examples, whose votes were held and why, and every line of the verdict."""
    with desk.database.read() as connection:
        run = find_run(connection, asked.run)
        check_on(desk.rights, actor.principal, READ, f"model/{run.model}")
        weights = weights_of(connection, run.run_id)
    lines = () if run.verdict is None else run.verdict.lines
    return Explained(
        run=_run_out(run),
        people=[PersonOut(**one) for one in weights],
        lines=[LineOut(**{name: getattr(line, name) for name in LineOut.__struct_fields__}) for line in lines],
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
    actor.record(desk.recorder, WRITE, f"model/{asked.model}", reason=asked.why, detail={"paused": 1})
    return Paused(model=asked.model, paused=True)


def go_on(desk: LearningDesk, actor: Actor, asked: GoIn) -> Paused:
    """Allow learning for a model again."""
    check_on(desk.rights, actor.principal, WRITE, f"model/{asked.model}")
    with desk.database.write() as connection:
        end_pause(connection, asked.model)
    actor.record(desk.recorder, WRITE, f"model/{asked.model}", detail={"paused": 0})
    return Paused(model=asked.model, paused=False)


def list_consents(desk: LearningDesk, actor: Actor, asked: Nothing) -> ConsentList:
    """List what tenants' votes may be used for, where it was set by command."""
    found = desk.consents.by_command()
    return ConsentList(
        items=[
            ConsentOut(tenant=tenant, purpose=found[tenant])
            for tenant in sorted(found)
            if sees_tenant(desk.rights, actor.principal, READ, tenant)
        ]
    )


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
            receipts, texts = forget_texts(connection, asked.tenant)
    desk.consents.refresh()
    actor.record(
        desk.recorder,
        CONSENT,
        f"tenant/{asked.tenant}",
        detail={"purpose": asked.purpose, "receipts": receipts, "texts": texts},
    )
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
    Call("learn", "go", "POST", "/learning/go/{model}", WRITE, go_on),
    Call("learn", "consents", "GET", "/learning/consent", READ, list_consents),
    Call("learn", "consent", "PUT", "/learning/consent/{tenant}", CONSENT, set_consent),
)  # fmt: skip


def _run_out(run: Run) -> RunOut:
    return RunOut(
        run=run.run_id,
        model=run.model,
        state=run.state,
        examples=dict(run.examples),
        held=dict(run.held),
        candidate=run.candidate,
        release=run.release,
        why=run.why,
        erased=run.erased,
        started_s=run.started_ms // 1000,
    )
