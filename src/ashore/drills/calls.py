"""What a second officer says over the API: that a drill may be run where users depend on the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from ashore.access.offices import CONSENT_S
from ashore.access.sql import save_consent
from ashore.core import Actor, Call, Clock, Recorder, Rights
from ashore.drills.catalog import BY_NAME
from ashore.errors import NotFound
from ashore.state import Database

CONSENT_ACTION: Final = "drill:consent"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillDesk:
    """Who decides, who is told, and where consents are kept."""

    rights: Rights
    recorder: Recorder
    database: Database
    clock: Clock


class ConsentIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """To which drill."""

    drill: Annotated[str, msgspec.Meta(max_length=100, extra={"positional": True})]
    """Name of the drill, as `ashore drill list` shows it."""


class Consented(msgspec.Struct, frozen=True, kw_only=True):
    """What was consented to, and for how long."""

    consented_to: str
    holds_for_s: int


def subject_of(drill: str) -> str:
    """Return under which name consents to a drill are kept."""
    return f"drill/{drill}"


def consent(desk: DrillDesk, actor: Actor, asked: ConsentIn) -> Consented:
    """Consent to one run of a drill on the server that answers users, within 24 hours. Used up by that run."""
    resource = subject_of(asked.drill)
    desk.rights.require(actor.principal, CONSENT_ACTION, resource)
    if asked.drill not in BY_NAME:
        raise NotFound(f"there is no drill {asked.drill!r}", hint="`ashore drill list` lists them")
    with desk.database.write() as connection:
        save_consent(connection, subject=resource, principal=actor.principal.id, now_s=int(desk.clock.now_s()))
    actor.record(desk.recorder, CONSENT_ACTION, resource)
    return Consented(consented_to=resource, holds_for_s=CONSENT_S)


CALLS: Final = (Call("drill", "consent", "POST", "/drills/{drill}/consent", CONSENT_ACTION, consent),)
