"""An administrative act: one transaction, the decision on the policy in the state, and its audit record.

Decisions are made on the state, not on this process's cache: of two administrators who act at the same moment, the
second acts on the result of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from ashore.core.clock import Clock
from ashore.core.errors import AshoreError, Conflict, PermissionDenied
from ashore.core.ids import TenantId
from ashore.core.principal import Principal
from ashore.data.authority import sql
from ashore.data.authority.actions import AUDITOR_CONSENT, ROLE_GRANT
from ashore.data.authority.authority import Compiled, raised_by, refusal
from ashore.data.authority.consents import counting
from ashore.data.authority.offices import CONSENT_S, Standing, bootstrap_hint, lost_between, roles_gained, standing_of
from ashore.data.authority.policy import check_separation
from ashore.data.authority.records import Account
from ashore.data.authority.roles import AUDITOR, OFFICERS
from ashore.kit.call import Actor as Actor
from ashore.kit.recorder import Act, Recorder
from ashore.kit.rights import SERVER

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ashore.kit.state import Database


R = TypeVar("R")

MAX_PAGE: Final = 1000
SYSTEM: Final = Actor(principal=Principal(id="system", tenant=TenantId(""), kind="internal"))
"""ashore itself: changes by the operator in ashore.toml, and the end of the first key."""


@dataclass(slots=True)
class Desk:
    """An open act. `detail` is written to the audit log."""

    connection: Connection
    compiled: Compiled
    actor: Actor
    now_s: int
    detail: dict[str, str | int] = field(default_factory=dict)
    before: Standing | None = None
    """Potential administrators before this act, if it changes something."""
    after: Compiled | None = None
    """The policy as this act has left it; None: as it was."""
    dry: bool = False
    """Whether this is a dry run: a consent is checked, but not used up."""

    @property
    def principal(self) -> Principal:
        return self.actor.principal

    def require(self, action: str, resource: str) -> None:
        """Check that the actor may do `action` on `resource`.

        Raises:
            PermissionDenied: it may not. For the first key the hint names what it may do instead.
        """
        if self.principal.kind == "internal":
            return
        decision = self.compiled.decide(self.principal, action, resource)
        if not decision.allowed:
            hint = bootstrap_hint(self.connection, self.now_s) if self.principal.kind == "first-key" else ""
            raise refusal(self.principal, decision, hint=hint)

    def hold(self, action: str) -> None:
        """Check that the actor may do `action` on anything, before the resource is known.

        Raises:
            PermissionDenied: it may do it on nothing.
        """
        if not (self.principal.kind == "internal" or self.compiled.holds(self.principal, action)):
            self.require(action, SERVER)

    def allows(self, action: str, resource: str) -> bool:
        """Return whether the actor may do `action` on `resource`."""
        return self.principal.kind == "internal" or self.compiled.decide(self.principal, action, resource).allowed

    def denies(self, action: str, resource: str) -> bool:
        """Return whether a rule denies the actor `action` on `resource`, even if another one allows it."""
        decision = self.compiled.decide(self.principal, action, resource)
        return not decision.allowed and bool(decision.rule)

    def forbid_raising(self, after: Compiled, principal_after: Principal | None = None) -> None:
        """Check that a change gives the actor no right that it lacked.

        Raises:
            PermissionDenied: it would.
        """
        if self.principal.kind in ("internal", "first-key"):
            return
        raised = raised_by(self.compiled, after, self.principal, principal_after or self.principal)
        if raised:
            raise PermissionDenied(
                f"{self.principal.id} may not raise their own rights: {raised}",
                hint="ask another security officer to make this change",
                action="role:grant",
                resource=self.principal.subjects[0],
                rule="nobody may raise their own rights",
            )

    def keep_administrable(self, after: Compiled) -> None:
        """Check the result of the act under the policy `after`: everything changeable before can still be changed by
        somebody; every usable office stays usable; an auditor loses the office only with consent; and an office, or a
        key with its powers, is gained only from an actor who may grant it. Runs at the end of every change; only a dry
        run calls it directly.

        Raises:
            PermissionDenied: the change grants an office that the actor may not grant.
            Conflict: something could never be changed again, the last holder of an office would be gone, or the consent
                is missing.
        """
        before, then = self.before, standing_of(self.connection, after, self.now_s)
        assert before is not None, "only a change is asked what it leaves"
        vacant = [role for role in OFFICERS if before.officers[role] and not then.officers[role]]
        lost = lost_between(before, then)
        if vacant or lost:
            office = f" as {', '.join(vacant)}" if vacant else ""
            rights = f" who may {', '.join(lost[:5])}{', …' if lost[5:] else ''}" if lost else ""
            raise Conflict(
                f"this would leave nobody with a valid key{office}{rights}, and nobody could undo it",
                hint=f"grant the role to someone else first: `ashore access user create NAME --role {vacant[0]}`; "
                "a deny rule must not apply to every officer"
                if vacant
                else "deny it to a user, a group or a tenant, not to every security officer",
            )
        for account in sorted(before.officers[AUDITOR] - then.officers[AUDITOR]):
            self.use_consent(account, before.resources[account])
        if self.principal.kind != "first-key":
            for role in roles_gained(before, then):
                self.require(ROLE_GRANT, f"role/{role}")

    def use_consent(self, account: str, resource: str) -> None:
        """Use up a system administrator's consent to a change of an auditor. `resource`: the account, before it.

        Raises:
            Conflict: there is no valid consent.
        """
        subject = f"user/{account}"
        consents = set(sql.consents_to(self.connection, subject, since_s=self.now_s - CONSENT_S))
        others = counting(
            self.connection, self.compiled, subject, self.principal.id, action=AUDITOR_CONSENT, resource=resource,
            now_s=self.now_s,
        ) - {account}  # fmt: skip
        if not others:
            told = (
                f"; the consent of {', '.join(sorted(consents))} does not count: you may know the key, or its owner "
                "may not consent any more"
                if consents
                else ""
            )
            raise Conflict(
                f"{account} is an auditor; this change needs the consent of a system administrator{told}",
                hint="ask a system administrator whose keys you did not create to consent; it is valid for 24 hours:  "
                f"`ashore access consent {account}`",
            )
        if not self.dry:
            sql.use_consents(self.connection, subject)
        self.detail["consent_of"] = ", ".join(sorted(others))


class Acts:
    """Opens acts. Every one of them is audited: done when its transaction has committed, else failed."""

    def __init__(self, database: Database, recorder: Recorder, clock: Clock) -> None:
        self._database: Final = database
        self._recorder: Final = recorder
        self._clock: Final = clock
        self._held: tuple[tuple[int, int], Compiled] | None = None
        """The last policy read, and its mark in the state."""

    @property
    def now_s(self) -> int:
        return int(self._clock.now_s())

    @contextmanager
    def read(self, actor: Actor, action: str, resource: str) -> Iterator[Desk]:
        """Open a consistent read.

        Raises:
            PermissionDenied: the actor may not.
        """
        with self.look(actor) as desk:
            desk.require(action, resource)
            yield desk

    @contextmanager
    def look(self, actor: Actor) -> Iterator[Desk]:
        """Open a consistent read without a check; the caller checks the rights."""
        with self._database.read() as connection:
            yield self._desk(connection, actor)

    @contextmanager
    def write(self, actor: Actor, what: str, resource: str) -> Iterator[Desk]:
        """Open a change. `what` is its name in the audit log, `key:create`; each use case checks the right it needs."""
        detail: dict[str, str | int] = {}
        try:
            with self._database.write() as connection:
                sql.touch(connection)  # acts are serialised, on every database
                desk = self._desk(connection, actor, detail)
                desk.before = standing_of(connection, desk.compiled, desk.now_s)
                yield desk
                after = desk.after or desk.compiled
                desk.keep_administrable(after)
                self._end_first_key(desk, after)
                self.tell(actor, what, resource, detail, on=connection)
        except PermissionDenied:
            raise  # audited by the code that answers the request
        except AshoreError as fault:
            self._tell(actor, what, resource, "failed", f"{fault.code}: {fault.message}", detail)
            raise

    @contextmanager
    def quiet_write(self, actor: Actor) -> Iterator[Desk]:
        """Open a change that is not an act by itself, such as a counter. A caller that makes it an act calls `tell`."""
        with self._database.write() as connection:
            sql.touch(connection)
            yield self._desk(connection, actor)

    def tell(
        self, actor: Actor, what: str, resource: str, detail: dict[str, str | int], *, on: Connection | None
    ) -> None:
        """Audit an act; `on` is its transaction, None without one (`Recorder.record`)."""
        self._tell(actor, what, resource, "done", "", detail, on)

    def _desk(self, connection: Connection, actor: Actor, detail: dict[str, str | int] | None = None) -> Desk:
        return Desk(connection, self._in_force(connection), actor, self.now_s, {} if detail is None else detail)

    def _in_force(self, connection: Connection) -> Compiled:
        """Return the policy of the state. It may be long, so it is read only if its version changed."""
        mark, held = sql.policy_mark(connection), self._held
        if held is None or held[0] != mark:
            held = self._held = (mark, Compiled(sql.load_policy(connection)))
        return held[1]

    def _end_first_key(self, desk: Desk, after: Compiled) -> None:
        if sql.first_key_is_dead(desk.connection):
            return
        if all(standing_of(desk.connection, after, desk.now_s).officers.values()):
            sql.revoke_first_keys(desk.connection, desk.now_s)
            desk.detail["first_key"] = "dead: the three administrators exist"

    def _tell(
        self,
        actor: Actor,
        what: str,
        resource: str,
        outcome: str,
        reason: str,
        detail: dict[str, str | int],
        on: Connection | None = None,
    ) -> None:
        who = actor.principal
        self._recorder.record(
            Act(
                action=what,
                actor=who.id,
                tenant=who.tenant,
                resource=resource,
                outcome="done" if outcome == "done" else "failed",
                origin=actor.origin,
                request_id=actor.request_id,
                reason=reason,
                detail={**({"key": who.key_id} if who.key_id else {}), **detail},
            ),
            on=on,
        )


def page_of(
    rows: Callable[[str, int], tuple[R, ...]],
    place: Callable[[R], str],
    sees: Callable[[R], bool],
    *,
    after: str,
    limit: int,
) -> tuple[R, ...]:
    """Return the first `limit` rows after `after` that the actor may see, skipping any number of others.

    `rows` reads so many rows at most; where the actor may not see all of the first, `MAX_PAGE` at a time.
    """
    found: list[R] = []
    size = limit
    while len(found) < limit:
        page = rows(after, size)
        found += [row for row in page if sees(row)]
        if len(page) < size:
            break
        after, size = place(page[-1]), MAX_PAGE
    return tuple(found[:limit])


def check_separated(compiled: Compiled, account: Account) -> None:
    """Check that an account holds at most one office, its groups included.

    Raises:
        InvalidRequest: it would hold two, and so lose both.
    """
    check_separation(account.subject, [role for role, _ in compiled.held_by(account.principal)])


def is_officer(compiled: Compiled, account: Account) -> bool:
    """Return whether an account holds one of the three offices."""
    return any(role.offices for role, _ in compiled.roles_of(account.principal))
