"""The sites of a centre in the control process: its calls, and what it does by itself."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Final

from ashore.control.sites.calls import CALLS
from ashore.control.sites.centre import Office
from ashore.control.sites.links import tree_of
from ashore.control.sites.section import SitesSection
from ashore.data.background import take_turns
from ashore.kit.extras import require
from ashore.kit.rooms import Context, Opened, Room
from ashore.kit.settings import Home

TURN_S: Final = 5.0


async def open_sites(context: Context) -> Opened:
    """Open the centre, where this home is one.

    Raises:
        MissingExtra: the extra `site` is not installed.
    """
    section, root = context.section("sites", SitesSection), context.told("home")
    if section.role != "centre":
        return Opened(off='role = "centre" under [sites]')
    if context.database is None or not root:
        return Opened()
    require(("tuf", "zstandard"), "site", "a centre of sites")
    home, said = Home(root=Path(root)), [section]
    office = Office(
        database=context.database, recorder=context.recorder, clock=context.clock, folder=home.sites,
        tree=tree_of(section.publish, home.sites), section=lambda: said[0],
        centre_ca=lambda: ca.read_text() if (ca := home.edge / "ca.pem").exists() else "",
    )  # fmt: skip
    await asyncio.to_thread(office.authority)

    async def reload(context: Context) -> None:
        said[0] = context.section("sites", SitesSection)

    turns = partial(take_turns, "cannot publish to sites", partial(asyncio.to_thread, office.turn), every_s=TURN_S)
    return Opened(desk=office, gives={Office: office}, reload=(reload,), background={"sites": turns})


ROOM: Final = Room(
    name="site", calls=CALLS, section=SitesSection, administer=open_sites, stage="serving",
    acts=(
        "site:assign", "site:bump", "site:create", "site:export", "site:freeze", "site:hold", "site:install-keys",
        "site:join", "site:joined", "site:leave", "site:part", "site:refuse", "site:release", "site:renew",
        "site:revoke", "site:rollout", "site:rollout-done", "site:rollout-paused", "site:rollout-running",
        "site:rollout-stopped",
    ),
)  # fmt: skip
