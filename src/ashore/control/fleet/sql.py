"""Nodes and servers in the state, on SQLite and Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from ashore.control.fleet.model import Front, Node, View
from ashore.core.errors import Conflict, NotFound
from ashore.kit.decode import UNDECODABLE
from ashore.kit.state import bump, execute, is_postgres, upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection

FLEET_EPOCH: Final = "fleet"
"""Bumped whenever a node joins, drains or leaves."""
FORGET_S: Final = 86_400
"""A server that has not reported for so long is no longer shown."""

_views = msgspec.json.Decoder(tuple[View, ...]).decode


def load_nodes(connection: Connection) -> tuple[Node, ...]:
    """Return every node, by name and model."""
    rows = execute(connection, "SELECT * FROM fleet_node ORDER BY alias, node").mappings()
    return tuple(
        Node(node=row["node"], alias=row["alias"], url=row["url"], drains=bool(row["drains"]), joined_s=row["joined_s"])
        for row in rows
    )


def put_node(connection: Connection, node: Node) -> None:
    """Add a node, or change the address of an existing one. Whether it drains is unchanged.

    Raises:
        Conflict: another node has this address.
    """
    taken = "SELECT node FROM fleet_node WHERE alias = :alias AND url = :url AND node <> :node"
    other = execute(connection, taken, alias=node.alias, url=node.url, node=node.node).scalar_one_or_none()
    if other is not None:
        raise Conflict(f"{node.url} is already the address of {other}", hint=f"first run `ashore fleet leave {other}`")
    row = {"node": node.node, "alias": node.alias, "url": node.url, "joined_s": node.joined_s}
    upsert(connection, "fleet_node", row, key="node, alias", keep=("joined_s",))
    bump(connection, FLEET_EPOCH)


def set_drains(connection: Connection, node: str, drains: bool) -> bool:
    """Stop new orders to a node, or allow them again; return whether that changed anything.

    Raises:
        NotFound: there is no such node.
    """
    known = execute(connection, "SELECT COUNT(*) FROM fleet_node WHERE node = :node", node=node).scalar_one()
    _check_found(known, node)
    statement = "UPDATE fleet_node SET drains = :drains WHERE node = :node AND drains <> :drains"
    changed = bool(execute(connection, statement, node=node, drains=int(drains)).rowcount)
    if changed:
        bump(connection, FLEET_EPOCH)
    return changed


def remove_node(connection: Connection, node: str) -> None:
    """Remove a node, for every model.

    Raises:
        NotFound: there is no such node.
    """
    _check_found(execute(connection, "DELETE FROM fleet_node WHERE node = :node", node=node).rowcount, node)
    bump(connection, FLEET_EPOCH)


def _check_found(found: int, node: str) -> None:
    if not found:
        raise NotFound(f"there is no node {node!r}", hint="`ashore fleet status` lists them")


def report_front(connection: Connection, name: str, *, address: str, views: tuple[View, ...]) -> None:
    """Store a server's report, at the time of the database, and delete those that are long gone."""
    now = _now(connection)
    execute(
        connection,
        f"INSERT INTO fleet_front (name, address, seen_s, views) VALUES (:name, :address, {now}, :views) "
        f"ON CONFLICT (name) DO UPDATE SET address = excluded.address, seen_s = {now}, views = excluded.views",
        name=name,
        address=address,
        views=msgspec.json.encode(views).decode(),
    )
    execute(connection, f"DELETE FROM fleet_front WHERE seen_s < {now} - :forget", forget=FORGET_S)


def remove_front(connection: Connection, name: str) -> None:
    """Remove a server that ends."""
    execute(connection, "DELETE FROM fleet_front WHERE name = :name", name=name)


def load_fronts(connection: Connection) -> tuple[tuple[Front, int], ...]:
    """Return the servers that share this state, each with the seconds since its last report."""
    rows = execute(connection, f"SELECT *, {_now(connection)} - seen_s AS age_s FROM fleet_front ORDER BY name")
    found = []
    for row in rows.mappings():
        try:
            views = _views(row["views"])
        except UNDECODABLE:
            views = ()  # of another version of ashore
        front = Front(name=row["name"], address=row["address"], seen_s=int(row["seen_s"]), views=views)
        found.append((front, max(0, int(row["age_s"]))))
    return tuple(found)


def _now(connection: Connection) -> str:
    """Return the SQL expression of the database's clock in seconds since 1970, shared by all machines."""
    return (
        "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT)"
        if is_postgres(connection)
        else "CAST(strftime('%s', 'now') AS INTEGER)"
    )
