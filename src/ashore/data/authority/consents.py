"""Consents in the state, beside the accounts that give them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ashore.data.authority import sql
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

    def use(self, connection: Connection, subject: str, principal: str) -> tuple[str, ...]:
        """See `Consents`."""
        counted = counting(connection, subject, principal, now_s=int(self._clock.now_s()))
        if counted:
            sql.use_consents(connection, subject)
        return tuple(sorted(counted))


def counting(connection: Connection, subject: str, principal: str, *, now_s: int) -> set[str]:
    """Return who gave a valid consent to the actor's change: not those who may know the actor's key."""
    mine = makers_of(connection, principal)
    agreed = sql.consents_to(connection, subject, since_s=now_s - CONSENT_S)
    return {one for one in agreed if not makers_of(connection, one) & mine}
