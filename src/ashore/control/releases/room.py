"""The desk of releases: administrators move them, and API workers follow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from msgspec import structs

from ashore.control.releases.calls import CALLS, ReleaseDesk
from ashore.control.releases.office import ReleaseOffice
from ashore.data.authority import Acts
from ashore.data.releases import EvaluationGate, ReleasePolicy, Workshop
from ashore.data.releases import room as data
from ashore.data.releases.room import has_releases
from ashore.kit.rooms import Context, Opened
from ashore.kit.settings import Home


@dataclass(slots=True)
class _Held:
    """The last value of ashore.toml."""

    policy: ReleasePolicy


async def administer_releases(context: Context) -> Opened:
    """Open the release office; nothing without a state or home."""
    database = context.database
    if database is None or not has_releases(context):
        return Opened()
    held, workshop = _Held(context.told("release")), context.need(Workshop)
    acts = Acts(database, context.recorder, context.clock)
    adapters = str(Home(root=Path(context.told("home"))).adapters)

    def policy() -> ReleasePolicy:
        said = held.policy
        return structs.replace(said, adapter_folders=(*said.adapter_folders, adapters))  # adapters trained here

    async def reload(context: Context) -> None:
        held.policy = context.told("release")

    office = ReleaseOffice(acts, workshop, context.find(EvaluationGate), policy=policy)
    return Opened(desk=ReleaseDesk(office=office, policy=lambda: held.policy), reload=(reload,))


ROOM: Final = replace(
    data.ROOM, calls=CALLS, administer=administer_releases,
    acts=(
        *(call.act for call in CALLS if call.changes),
        "release:adopt", "release:automatic-rollback", "release:clock-jumped", "release:fell",
        "release:on-time", "release:warmed",
    ),
)  # fmt: skip
