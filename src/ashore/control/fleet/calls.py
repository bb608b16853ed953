"""What operators ask of the fleet: nodes that join, drain and leave, and how all stand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from ashore.control.fleet.model import ALIVE_S, Front, Node, View, entry_of, leaves_to, nodes_of
from ashore.control.fleet.section import NODE_NAME, FleetSection
from ashore.control.fleet.sql import load_fronts, load_nodes, put_node, remove_node, set_drains
from ashore.core.clock import Clock
from ashore.core.errors import Conflict
from ashore.core.names import Names, check_named
from ashore.kit.call import Actor, Call, Nothing
from ashore.kit.recorder import Recorder
from ashore.kit.state import Database

if TYPE_CHECKING:
    from sqlalchemy import Connection

READ: Final = "fleet:read"
WRITE: Final = "fleet:write"
LOOK_S: Final = 0.2
"""Between two looks of a call that waits."""
GREETING_S: Final = 5.0
"""How long `join` waits for the node to answer before it says that it does not."""
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
NodeName = Annotated[str, msgspec.Meta(pattern=NODE_NAME, extra={"positional": True})]


@dataclass(slots=True, kw_only=True)
class FleetDesk:
    """Where nodes are entered, and how they are seen from here."""

    database: Database
    recorder: Recorder
    clock: Clock
    names: Names
    section: FleetSection
    """As ashore.toml says now."""
    egress: Sequence[str]
    name: str
    """Of this server among those that share the state."""
    address: str
    look: Callable[[], Awaitable[tuple[View, ...]]]
    """Asks the hosts of this server how the nodes do."""
    hidden: Callable[[str], Sequence[str]] = lambda alias: ()
    """Returns the kinds of personal data that prompts at an alias do not show to its model."""


class JoinIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node to add."""

    node: NodeName
    """Name of the node, for people. One node may serve several models."""
    address: Annotated[
        str, msgspec.Meta(pattern=r"^https?://[^/?#]+[^?#]*$", max_length=300, extra={"positional": True})
    ]
    """Address of its engine server, http://10.0.0.2:8101, as the other servers reach it, without /v1."""
    model: Name
    """Alias of the model that it serves; ashore.toml has `fleet = true` for it."""


class NodeIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which node."""

    node: NodeName
    """Name of the node, as `ashore fleet status` prints it."""


class DrainIn(NodeIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which node, and how long to wait."""

    wait_s: Annotated[int, msgspec.Meta(ge=0, le=3600, extra={"flag": "wait", "span": True})] = 0
    """Wait until its running requests have finished, at most this long: 90s, 15m. Default: do not wait."""


class NodeOut(msgspec.Struct, frozen=True, kw_only=True):
    """One node, and how it does."""

    node: str
    model: str
    address: str
    state: Literal["ready", "draining", "drained", "out", "new"]
    """ready: at least one server uses it. draining: it takes no new requests; drained: and runs none. out: no server
    reaches it. new: no server has asked it yet."""
    running: int
    """Requests on it, from all servers that report."""
    used_by: int
    """Servers that report it ready."""
    joined_at: int
    """0: it stands in ashore.toml."""
    why: str
    """What a server that cannot use it says."""
    kind: str
    """What it is, such as vLLM or llama-server; `text server` for one that takes messages. Empty: not known yet."""
    leaves: str
    """Where prompts go that leave this machine, and what is masked in them first. Empty: they stay."""


class FrontOut(msgspec.Struct, frozen=True, kw_only=True):
    """One server that shares this state."""

    name: str
    address: str
    state: Literal["alive", "silent"]
    """silent: it has not reported for 10 s."""
    seen_s: int
    """Seconds since its last report."""


class FleetOut(msgspec.Struct, frozen=True, kw_only=True):
    """Every node, and every server in front of them."""

    nodes: list[NodeOut]
    servers: list[FrontOut]


async def show_fleet(desk: FleetDesk, actor: Actor, asked: Nothing) -> FleetOut:
    """Show the servers that share this state, and the engine nodes behind them."""
    nodes, fronts = await _seen(desk)
    return FleetOut(
        nodes=[_node_out(node, fronts, desk.hidden) for node in nodes],
        servers=[
            FrontOut(
                name=front.name, address=front.address, state="alive" if age_s < ALIVE_S else "silent", seen_s=age_s
            )
            for front, age_s in fronts
        ],
    )


async def join_node(desk: FleetDesk, actor: Actor, asked: JoinIn) -> list[NodeOut]:
    """Let an engine server answer for a model, from every server that shares this state. Run it there first with
    `ashore engine serve`, vLLM, or Ray Serve.

    Within a second it gets requests, if it answers. Joining again under the same name changes the address.
    """
    _refuse_written(desk, asked.node)
    entry_of(asked.address, desk.section, allow=desk.egress)
    await asyncio.to_thread(check_named, desk.names, "model", asked.model)
    node = Node(node=asked.node, alias=asked.model, url=asked.address.rstrip("/"), joined_s=int(desk.clock.now_s()))
    record = partial(_record, desk, actor, "join", asked.node, model=asked.model, address=node.url)
    await asyncio.to_thread(_write, desk, record, put_node, node)
    return await _wait(desk, asked.node, GREETING_S, until=lambda one: one.state in ("ready", "draining", "drained"))


async def drain_node(desk: FleetDesk, actor: Actor, asked: DrainIn) -> list[NodeOut]:
    """Give a node no new requests, from any server. Requests that run there finish. It stays in the fleet until `leave`
    or `undrain`."""
    for written in nodes_of(desk.section, ()):
        if written.node == asked.node:  # a row, for the other servers to know it by
            await asyncio.to_thread(_write, desk, None, put_node, written)
    record = partial(_record, desk, actor, "drain", asked.node)
    await asyncio.to_thread(_write, desk, record, set_drains, asked.node, True)
    return await _wait(desk, asked.node, asked.wait_s, until=lambda one: one.state == "drained")


async def undrain_node(desk: FleetDesk, actor: Actor, asked: NodeIn) -> list[NodeOut]:
    """Give a drained node requests again."""
    record = partial(_record, desk, actor, "undrain", asked.node)
    await asyncio.to_thread(_write, desk, record, set_drains, asked.node, False)
    return await _wait(desk, asked.node, 0)


async def remove_from_fleet(desk: FleetDesk, actor: Actor, asked: NodeIn) -> list[NodeOut]:
    """Take a node out of the fleet. Requests that run there finish, as long as its engine server runs; drain it first
    to see when they have."""
    _refuse_written(desk, asked.node)
    before = await _wait(desk, asked.node, 0)
    await asyncio.to_thread(_write, desk, partial(_record, desk, actor, "leave", asked.node), remove_node, asked.node)
    return before


def _refuse_written(desk: FleetDesk, node: str) -> None:
    if any(one.node == node for one in desk.section.nodes):
        raise Conflict(f"{node} stands in ashore.toml", hint="change its [[fleet.node]] there, and run `ashore reload`")


def _write(
    desk: FleetDesk, record: Callable[[Connection], None] | None, work: Callable[..., object], *values: object
) -> None:
    """Do `work` in a transaction, and record it there unless it found nothing to change."""
    with desk.database.write() as connection:
        if work(connection, *values) is not False and record is not None:
            record(connection)


def _record(desk: FleetDesk, actor: Actor, word: str, node: str, connection: Connection, **detail: str) -> None:
    actor.record(desk.recorder, f"fleet:{word}", f"node/{node}", detail=detail, on=connection)


async def _wait(
    desk: FleetDesk, node: str, wait_s: float, *, until: Callable[[NodeOut], bool] = lambda one: True
) -> list[NodeOut]:
    """Return how a node does once all its lines are as they should be, or the time is over."""
    end_s = desk.clock.monotonic_s() + wait_s
    while True:
        nodes, fronts = await _seen(desk)
        found = [_node_out(one, fronts, desk.hidden) for one in nodes if one.node == node]
        if all(map(until, found)) or desk.clock.monotonic_s() >= end_s:
            return found
        await asyncio.sleep(LOOK_S)


Aged = tuple[Front, int]
"""A server, and the seconds since it last reported."""


async def _seen(desk: FleetDesk) -> tuple[tuple[Node, ...], tuple[Aged, ...]]:
    """Return the nodes, and the servers with what they see: this one now, the others as they last said."""
    views = await desk.look()
    nodes, fronts = await asyncio.to_thread(_read, desk)
    here = Front(name=desk.name, address=desk.address, seen_s=0, views=views)
    others = [one for one in fronts if one[0].name != desk.name]
    return nodes, tuple(sorted([(here, 0), *others], key=lambda one: one[0].name))


def _read(desk: FleetDesk) -> tuple[tuple[Node, ...], tuple[Aged, ...]]:
    with desk.database.read() as connection:
        return nodes_of(desk.section, load_nodes(connection)), load_fronts(connection)


def _node_out(node: Node, fronts: Sequence[Aged], hidden: Callable[[str], Sequence[str]]) -> NodeOut:
    """Return how a node stands by what the servers say that are alive."""
    views = [
        view for front, age_s in fronts if age_s < ALIVE_S
        for view in front.views if (view.alias, view.url) == (node.alias, node.url)
    ]  # fmt: skip
    ready = sum(view.state == "ready" for view in views)
    running = sum(view.running for view in views)
    if node.drains:
        has_taken = all(view.state == "draining" for view in views)  # a server that has not heard of it yet may send
        state: Literal["ready", "draining", "drained", "out", "new"] = (
            "drained" if has_taken and not running else "draining"
        )
    elif ready:
        state = "ready"
    else:
        state = "out" if any(view.state == "out" for view in views) else "new"
    return NodeOut(
        node=node.node,
        model=node.alias,
        address=node.url,
        state=state,
        running=running,
        used_by=ready,
        joined_at=node.joined_s,
        why="" if ready else next((view.reason for view in views if view.reason), ""),
        kind=next((view.kind for view in views if view.kind), ""),
        leaves=leaves_to(node.url, outside=any(view.outside for view in views), hidden=hidden(node.alias)),
    )


CALLS: Final = (
    Call("fleet", "status", "GET", "/fleet", READ, show_fleet, on_server=True),
    Call("fleet", "join", "PUT", "/fleet/nodes/{node}", WRITE, join_node, on_server=True),
    Call("fleet", "drain", "POST", "/fleet/nodes/{node}/drain", WRITE, drain_node, on_server=True),
    Call("fleet", "undrain", "POST", "/fleet/nodes/{node}/undrain", WRITE, undrain_node, on_server=True),
    Call("fleet", "leave", "DELETE", "/fleet/nodes/{node}", WRITE, remove_from_fleet, on_server=True),
)
