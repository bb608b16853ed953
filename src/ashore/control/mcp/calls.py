"""Calls on tools of other servers: what is approved, what a server has now, approve and withdraw."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta

from ashore.core.clock import Clock
from ashore.core.errors import Conflict, InvalidRequest, NotFound
from ashore.core.nearest import did_you_mean
from ashore.data.mcp import (
    McpSection,
    McpServer,
    Pin,
    Standing,
    Tool,
    Upstream,
    digest_of,
    load_pins,
    remove_pins,
    save_pin,
    standing_of,
    state_of,
)
from ashore.kit.call import Actor, Call, Nothing
from ashore.kit.egress import Allowed
from ashore.kit.recorder import Recorder
from ashore.kit.state import Database, in_read, in_write

if TYPE_CHECKING:
    from sqlalchemy import Connection

READ: Final = "mcp:read"
APPROVE: Final = "mcp:approve"


@dataclass(slots=True, kw_only=True)
class McpDesk:
    """The servers of one home, and what was approved of them."""

    database: Database
    clock: Clock
    recorder: Recorder
    section: McpSection
    allow: Sequence[Allowed]

    def server(self, name: str) -> McpServer:
        """Return the server of this name.

        Raises:
            NotFound: ashore.toml has none.
        """
        found = {one.name: one for one in self.section.servers}
        if name not in found:
            hint = did_you_mean(name, found) or "ashore.toml names each as [[mcp.server]]; see `ashore mcp list`"
            raise NotFound(f"there is no tool server {name!r}", hint=hint, param="name")
        return found[name]

    async def listed(self, server: McpServer) -> dict[str, Tool]:
        """Return what a server has now.

        Raises:
            AshoreError: it does not answer.
        """
        upstream = Upstream(server, self.allow)
        try:
            return await upstream.tools()
        finally:
            await upstream.close()


ServerName = Annotated[str, Meta(max_length=24, description="Name of the tool server.")]
ToolNames = Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=1_000, extra={"commas": True})]


class ApproveIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tools as `check` showed them."""

    name: ServerName
    """Name of the tool server."""
    digest: Annotated[str, Meta(max_length=64)]
    """Digest that `ashore mcp check` printed. Nothing is approved if the server has something else by now."""
    tools: ToolNames
    """Tools to approve, separated by commas: those that you have read."""


class WithdrawIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tools that are not to be called any more."""

    name: ServerName
    """Name of the server; it need not be in ashore.toml any more."""
    tools: ToolNames = []
    """Tools, separated by commas. Empty: all of the server."""


class ServerOut(msgspec.Struct, frozen=True, kw_only=True):
    """One server of tools."""

    server: str
    url: str
    """Where it is; empty: ashore.toml has it no more."""
    tools: int
    """How many tools are approved."""
    withheld: list[str]
    """Approved tools that agents do not get now, and why: `balance changed`."""
    fault: str
    """Why the server could not be asked."""
    do: str
    """What shows more, or ends it; empty: nothing is wrong."""


class PinOut(msgspec.Struct, frozen=True, kw_only=True):
    """One approved tool."""

    tool: str
    approved_by: str
    approved_at: int
    digest: str
    definition: dict[str, Any]
    """Name, texts and schemas, as agents are shown them."""


class ToolOut(msgspec.Struct, frozen=True, kw_only=True):
    """One tool, as its server defines it now."""

    tool: str
    state: str
    """approved; new; changed: withheld from agents until it is approved again; gone; unusable: see fault."""
    fault: str
    """Why it cannot be approved."""
    definition: dict[str, Any] | None
    """Name, texts and schemas as the server sends them now; null: it has the tool no more."""
    before: dict[str, Any] | None
    """What was approved, where that differs."""


class ToolsOut(msgspec.Struct, frozen=True, kw_only=True):
    """The tools of a server."""

    server: str
    digest: str
    """Names everything below; `ashore mcp approve` asks for it."""
    tools: list[ToolOut]


class PinsOut(msgspec.Struct, frozen=True, kw_only=True):
    """Tools whose approval changed."""

    server: str
    tools: list[str]


async def list_servers(desk: McpDesk, actor: Actor, asked: Nothing) -> list[ServerOut]:
    """List servers of tools, how many of their tools are approved, and which of these are withheld now.

    Asks each server, 2 s at most.
    """
    pins = await in_read(desk.database, load_pins)
    servers = desk.section.servers
    asking = (standing_of(one, desk.allow, pins.get(one.name, {})) for one in servers)
    standing = {one.server: one for one in await asyncio.gather(*asking)}
    urls = {one.name: one.url for one in servers}
    gone = Standing(server="", withheld={}, fault="ashore.toml has it no more")
    return [
        _server_out(name, urls.get(name, ""), len(pins.get(name, ())), standing.get(name, gone))
        for name in sorted({*urls, *pins})
    ]


def show_pins(desk: McpDesk, actor: Actor, name: ServerName) -> list[PinOut]:
    """Show the tools of a server as they were approved. Asks the server nothing."""
    with desk.database.read() as connection:
        pins = load_pins(connection).get(name, {})
    return [
        PinOut(
            tool=tool, approved_by=pin.approved_by, approved_at=pin.approved_s, digest=pin.tool.digest,
            definition=dict(pin.tool.definition),
        )
        for tool, pin in pins.items()
    ]  # fmt: skip


async def check_server(desk: McpDesk, actor: Actor, name: ServerName) -> ToolsOut:
    """Ask a server which tools it has now, and compare them with what is approved.

    Read names, descriptions and schemas: agents obey them. Then approve them with the digest.
    """
    listed = await desk.listed(desk.server(name))
    pins = (await in_read(desk.database, load_pins)).get(name, {})
    tools = [_out(one, pins.get(one), listed.get(one)) for one in sorted({*pins, *listed})]
    return ToolsOut(server=name, digest=digest_of(listed), tools=tools)


async def approve(desk: McpDesk, actor: Actor, asked: ApproveIn) -> PinsOut:
    """Approve tools as `check` showed them. Roles with `mcp:call on tool/SERVER/TOOL` may call them within a second."""
    if not asked.tools:
        raise InvalidRequest(
            "no tool is named, so none was approved",
            hint="name each tool that you have read; agents obey what a tool says of itself", param="tools",
        )  # fmt: skip
    listed = await desk.listed(desk.server(asked.name))
    if digest_of(listed) != asked.digest:
        raise Conflict(
            f"the tools of {asked.name} do not have the digest {asked.digest!r} now",
            hint=f"read them again: ashore mcp check {asked.name}",
        )
    for one in asked.tools:
        if one not in listed:
            raise NotFound(f"the server {asked.name} has no tool {one!r}", hint=did_you_mean(one, listed))
        if fault := listed[one].fault:
            raise Conflict(f"the tool {one} cannot be approved: {fault}", hint="ask the operator of that server")

    who, now_s = actor.principal.id, int(desk.clock.now_s())

    def save(connection: Connection) -> None:
        for tool in (listed[one] for one in asked.tools):
            save_pin(connection, Pin(server=asked.name, tool=tool, approved_by=who, approved_s=now_s))
            where, detail = f"tool/{asked.name}/{tool.name}", {"digest": tool.digest}
            actor.record(desk.recorder, APPROVE, where, detail=detail, on=connection)

    await in_write(desk.database, save)
    return PinsOut(server=asked.name, tools=sorted(asked.tools))


def withdraw(desk: McpDesk, actor: Actor, asked: WithdrawIn) -> PinsOut:
    """Withdraw the approval of tools. They cannot be called any more within a second; calls that run go on."""
    with desk.database.write() as connection:
        known = load_pins(connection).get(asked.name, {})
        names = sorted(asked.tools or known)
        if not names or (missing := [name for name in names if name not in known]):
            what = f"no tool {missing[0]!r}" if names else "no tool at all"
            raise NotFound(
                f"of the server {asked.name!r}, {what} is approved", hint=f"see `ashore mcp show {asked.name}`"
            )
        remove_pins(connection, asked.name, names)
        for name in names:
            actor.record(desk.recorder, "mcp:withdraw", f"tool/{asked.name}/{name}", on=connection)
    return PinsOut(server=asked.name, tools=names)


CALLS: Final = (
    Call("mcp", "list", "GET", "/mcp/servers", READ, list_servers, on_server=True),
    Call("mcp", "show", "GET", "/mcp/servers/{name}", READ, show_pins, on_server=True),
    Call("mcp", "check", "POST", "/mcp/servers/{name}/check", APPROVE, check_server, on_server=True),
    Call("mcp", "approve", "POST", "/mcp/servers/{name}/approve", APPROVE, approve, on_server=True),
    Call("mcp", "withdraw", "POST", "/mcp/servers/{name}/withdraw", APPROVE, withdraw, on_server=True),
)


def _server_out(name: str, url: str, tools: int, now: Standing) -> ServerOut:
    wrong = now.withheld or now.fault or not tools
    return ServerOut(
        server=name, url=url, tools=tools, withheld=[f"{tool} {why}" for tool, why in now.withheld.items()],
        fault=now.fault, do=f"ashore mcp {'check' if url else 'withdraw'} {name}" if wrong else "",
    )  # fmt: skip


def _out(name: str, pin: Pin | None, listed: Tool | None) -> ToolOut:
    pinned = None if pin is None else pin.tool
    differs = pinned is not None and (listed is None or listed.digest != pinned.digest)
    return ToolOut(
        tool=name, state=state_of(pinned, listed), fault="" if listed is None else listed.fault,
        definition=None if listed is None else dict(listed.definition),
        before=dict(pinned.definition) if pinned is not None and differs else None,
    )  # fmt: skip
