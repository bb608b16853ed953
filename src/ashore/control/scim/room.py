"""SCIM in the control process. Its routes are in `control/faces/scim.py`, since they answer in SCIM's own form."""

from __future__ import annotations

from typing import Final

from ashore.control.scim.office import ScimOffice
from ashore.control.scim.section import ScimSection
from ashore.data.authority import Acts
from ashore.kit.rooms import Context, Opened, Room


async def open_scim(context: Context) -> Opened:
    """Open the room; nothing without a state."""
    if context.database is None:
        return Opened()
    held = [context.section("scim", ScimSection)]

    async def take(context: Context) -> None:
        held[0] = context.section("scim", ScimSection)

    office = ScimOffice(Acts(context.database, context.recorder, context.clock), lambda: held[0])
    return Opened(gives={ScimOffice: office}, reload=(take,))


ROOM: Final = Room(
    name="scim", section=ScimSection, administer=open_scim,
    acts=("scim:create", "scim:change", "scim:disable", "scim:enable", "scim:remove"),
)  # fmt: skip
