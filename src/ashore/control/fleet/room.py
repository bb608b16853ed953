"""The fleet in the control process: its calls, and this server's reports to the others."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from ashore.control.fleet.calls import CALLS, FleetDesk
from ashore.control.fleet.model import BEAT_S, View
from ashore.control.fleet.section import FleetSection
from ashore.control.fleet.sql import remove_front, report_front
from ashore.core.errors import AshoreError
from ashore.core.names import Names
from ashore.data.background import take_turns
from ashore.data.engines import BackendStatus, backends_of, card_of
from ashore.data.privacy import Privacy, hidden_kinds
from ashore.kit.rooms import Context, Opened, Room
from ashore.kit.state import in_write

ASK_S: Final = 0.5
"""Longest wait for a host that is asked how its servers do."""


class Views:
    """Collects the hosts' view of the servers behind them."""

    def __init__(self, told: Callable[[str], Any]) -> None:
        self._last: dict[str, tuple[BackendStatus, ...]] = {}
        self.take(told)

    def take(self, told: Callable[[str], Any]) -> None:
        """Take the hosts that the supervisor names now."""
        served = (*(told("models") or ()), *(told("beside") or ()))
        self._hosts = [
            (one.alias, socket) for one in served if "remote" in card_of(one.kind).formats for socket in one.sockets
        ]
        self._last = {socket: self._last.get(socket, ()) for _, socket in self._hosts}

    async def look(self) -> tuple[View, ...]:
        """Return the hosts' reports; for a silent one, its last report. The orders of several hosts are summed."""
        hosts = list(self._hosts)
        for (_, socket), told in zip(
            hosts, await asyncio.gather(*(backends_of(socket, ASK_S) for _, socket in hosts)), strict=True
        ):
            self._last[socket] = told or self._last.get(socket, ())
        found: dict[tuple[str, str], View] = {}
        for alias, socket in hosts:
            for one in self._last[socket]:
                before = found.get((alias, one.url))
                found[alias, one.url] = View(
                    alias=alias,
                    url=one.url,
                    state=one.state,
                    reason=one.reason or one.last_error,
                    running=one.running + (before.running if before is not None else 0),
                    kind=one.kind,
                    outside=one.outside,
                )
        return tuple(found.values())


async def open_fleet(context: Context) -> Opened:
    """Open the room; nothing without a state, or without a home that has hosts."""
    home: str = context.told("home")
    if context.database is None or not home:
        return Opened()
    views = Views(context.told)
    desk = FleetDesk(
        database=context.database,
        recorder=context.recorder,
        clock=context.clock,
        names=context.need(Names),
        section=context.section("fleet", FleetSection),
        egress=context.told("egress").allow,
        name=f"{platform.node()}:{home}",
        address=_address(context.told),
        look=views.look,
        hidden=partial(_hidden, context.find(Privacy)),
    )

    async def reload(context: Context) -> None:
        views.take(context.told)
        desk.section = context.section("fleet", FleetSection)

    if not context.told("state").url:
        return Opened(desk=desk, reload=(reload,))  # an unshared state needs no reports

    async def report() -> None:
        views = await desk.look()
        await in_write(desk.database, report_front, desk.name, address=desk.address, views=views)

    async def leave() -> None:
        with suppress(AshoreError):  # it is forgotten a day later
            await in_write(desk.database, remove_front, desk.name)

    trouble = "cannot report to the other servers of this state"
    turns = partial(take_turns, trouble, report, every_s=BEAT_S)
    return Opened(desk=desk, reload=(reload,), background={"reports to the fleet": turns}, close=leave)


def _hidden(privacy: Privacy | None, alias: str) -> tuple[str, ...]:
    return () if privacy is None else hidden_kinds(privacy.now.policy, alias)


def _address(told: Callable[[str], Any]) -> str:
    if (edge := told("edge")) is not None:
        return str(edge.url)
    http = told("http")
    return f"unix:{http.uds}" if http.uds else f"http://{http.host}:{http.port}"


ROOM: Final = Room(
    name="fleet", calls=CALLS, section=FleetSection, administer=open_fleet, stage="serving",
    acts=tuple(call.act for call in CALLS if call.changes),
)  # fmt: skip
