"""Purges on behalf of somebody, with their trace in the record."""

from __future__ import annotations

from dataclasses import dataclass

from ashore.cache.sql import purge
from ashore.core import Act, Recorder
from ashore.state import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeOffice:
    """Each call does one transaction; not for an event loop."""

    database: Database
    recorder: Recorder

    def purge(
        self,
        *,
        tenant: str = "",
        alias: str = "",
        entry_id: str = "",
        actor: str,
        actor_tenant: str,
        origin: str = "",
        request_id: str = "",
    ) -> tuple[str, ...]:
        """Let kept answers be found no more, as `purge` does, and record who did it; return what was raised.

        Raises:
            InvalidRequest: `entry_id` is not the name of an entry.
        """
        with self.database.write() as connection:
            raised = purge(connection, tenant=tenant, alias=alias, entry_id=entry_id)
        named = (("tenant", tenant), ("model", alias), ("entry", entry_id))
        self.recorder.record(
            Act(
                action="cache:purge",
                actor=actor,
                tenant=actor_tenant,
                resource="cache",
                origin=origin,
                request_id=request_id,
                detail={name: value for name, value in named if value} or {"all": 1},
            )
        )
        return raised
