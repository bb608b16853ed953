"""What is asked of feedback and learning by whoever looks after them."""

from __future__ import annotations

from dataclasses import dataclass
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
    sees_tenant,
)
from ashore.errors import InvalidRequest
from ashore.learning.consent import Consents, Purpose, save_purpose
from ashore.learning.sql import count_votes, forget_texts

if TYPE_CHECKING:
    from ashore.learning.service import FeedbackService
    from ashore.state import Database

READ: Final = "learning:read"
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
    receipts, votes = desk.feedback.forget(tenant, asked.person)
    actor.record(
        desk.recorder, FORGET, f"tenant/{tenant}", detail={"person": asked.person, "receipts": receipts, "votes": votes}
    )
    return Forgotten(receipts=receipts, votes=votes)


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
    Call("learn", "consents", "GET", "/learning/consent", READ, list_consents),
    Call("learn", "consent", "PUT", "/learning/consent/{tenant}", CONSENT, set_consent),
)  # fmt: skip
