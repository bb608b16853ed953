"""Events in commit order, for pages and clients that follow them.

An event is written in the transaction of its change, so neither exists without the other. Its number is an epoch, so
followers are woken as by any other change, and never see a number before a lower one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from ashore.kit.state.epochs import bump
from ashore.kit.state.statement import execute, insert, upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection

EVENTS: Final = "events"
"""The epoch that rises with each event; its value is the number of the newest."""
KEPT: Final = 10_000
"""Events that are stored. A follower that was away for longer learns that some are missing."""

_about: Final = msgspec.json.Decoder(dict[str, str | int | float | None])


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened."""

    kind: str
    """NOUN.WHAT, `job.running`."""
    resource: str
    """What it happened to, as a right names it: `tenant/acme/job/job_1`."""
    reads: str
    """The action that lets a caller read of it, on the resource: `job:read`."""
    about: Mapping[str, str | int | float | None]
    """What else there is to say. Never a prompt, an answer or a secret."""
    at_ms: int
    """Unix time in milliseconds."""
    number: int = 0
    """0: not kept yet."""


def keep_event(connection: Connection, event: Event) -> int:
    """Store an event, delete the oldest, and return its number. Others see it when the transaction commits."""
    number = bump(connection, EVENTS)
    row = {
        "event_id": number,
        "at_ms": event.at_ms,
        "kind": event.kind,
        "resource": event.resource,
        "reads": event.reads,
        "about": msgspec.json.encode(event.about).decode(),
    }
    insert(connection, "event", row)
    execute(connection, "DELETE FROM event WHERE event_id <= :last", last=number - KEPT)
    return number


def events_after(connection: Connection, number: int, *, limit: int) -> list[Event]:
    """Return the oldest events after a number."""
    rows = execute(
        connection,
        "SELECT event_id, at_ms, kind, resource, reads, about FROM event WHERE event_id > :number "
        "ORDER BY event_id LIMIT :limit",
        number=number,
        limit=limit,
    )
    return [
        Event(
            number=int(row.event_id),
            at_ms=int(row.at_ms),
            kind=row.kind,
            resource=row.resource,
            reads=row.reads,
            about=_about.decode(row.about),
        )
        for row in rows
    ]


def events_span(connection: Connection) -> tuple[int, int]:
    """Return the numbers of the oldest and the newest stored event; 0 and 0 if there is none."""
    row = execute(connection, "SELECT MIN(event_id) AS first, MAX(event_id) AS last FROM event").one()
    return int(row.first or 0), int(row.last or 0)


def events_read(connection: Connection, reader: str) -> int | None:
    """Return the number of the last event that a reader has processed; None: unknown reader."""
    statement = "SELECT reached FROM event_reader WHERE name = :name"
    found: int | None = execute(connection, statement, name=reader).scalar_one_or_none()
    return found


def keep_events_read(connection: Connection, reader: str, reached: int) -> None:
    """Store the number of the last event that a reader has processed."""
    upsert(connection, "event_reader", {"name": reader, "reached": reached}, key="name")
