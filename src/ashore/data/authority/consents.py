"""Consents in the state, beside the accounts that give them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ashore.core.principal import DEFAULT_TENANT, Principal
from ashore.data.authority import sql
from ashore.data.authority.authority import Compiled
from ashore.data.authority.offices import CONSENT_S, makers_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ashore.core.clock import Clock
    from ashore.kit.state import Database


class SqlConsents:
    """See `Consents`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    def give(self, subject: str, principal: str, record: Callable[[Connection], None]) -> int:
        """See `Consents`."""
        with self._database.write() as connection:
            sql.save_consent(connection, subject=subject, principal=principal, now_s=int(self._clock.now_s()))
            record(connection)
        return CONSENT_S

    def use(
        self, connection: Connection, subject: str, principal: str, *, action: str, resource: str
    ) -> tuple[str, ...]:
        """See `Consents`."""
        compiled, now_s = Compiled(sql.load_policy(connection)), int(self._clock.now_s())
        counted = counting(connection, compiled, subject, principal, action=action, resource=resource, now_s=now_s)
        # whoever uses them up first has them: the other one of two at a time finds none
        return tuple(sorted(counted)) if counted and sql.use_consents(connection, subject) else ()


def counting(
    connection: Connection, compiled: Compiled, subject: str, principal: str, *, action: str, resource: str, now_s: int
) -> set[str]:
    """Return who gave a valid consent to a change.

    Args:
        connection: To the state.
        compiled: The policy in force.
        subject: What was consented to.
        principal: Who makes the change; those who may know their key do not count.
        action: What it takes to consent: those who may not do it now, or are disabled, do not count.
        resource: On what.
        now_s: The time.
    """
    mine = makers_of(connection, principal)
    agreed = sql.consents_to(connection, subject, since_s=now_s - CONSENT_S)
    return {
        one for one in agreed
        if not makers_of(connection, one) & mine and _may(connection, compiled, one, action, resource)
    }  # fmt: skip


def _may(connection: Connection, compiled: Compiled, name: str, action: str, resource: str) -> bool:
    account = sql.find_account(connection, name)
    if account is None:  # of an issuer, whose users need none
        issuer, _, known = name.partition(":")
        who = Principal(id=name, tenant=DEFAULT_TENANT, issuer=issuer)
        return bool(known) and compiled.decide(who, action, resource).allowed
    tenant = sql.find_tenant(connection, account.tenant)
    if account.is_out or tenant is None or tenant.disabled:
        return False
    return compiled.decide(account.principal, action, resource).allowed
