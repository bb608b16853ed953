"""What a server says of its tools, as it was approved: pure rules, and their rows in the state."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from ashore.core.visible import first_hidden, on_a_screen
from ashore.kit.state import bump, execute, upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection

MCP_EPOCH: Final = "mcp"
MOST_TOOLS: Final = 1_000
MOST_DEFINITION_BYTES: Final = 32_768
MOST_LINES: Final = 1_500
"""Of a definition that is compared line by line."""
_TOLD: Final = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")
"""What a client learns of a tool, and what the digest is made of. Icons and the like lead to addresses."""
MOST_DEPTH: Final = 32
_BREAKS: Final = {ord(one): None for one in "\t\n\r"}
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
State = Literal["approved", "new", "changed", "gone", "unusable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool as its server defines it."""

    name: str
    definition: Mapping[str, Any]
    digest: str
    fault: str = ""
    """Why it cannot be approved; empty: it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A tool as it was approved."""

    server: str
    tool: Tool
    approved_by: str
    approved_s: int


def tools_of(listed: Sequence[Any]) -> dict[str, Tool]:
    """Return what a server lists, by name. Entries without a usable name are left out."""
    found: dict[str, Tool] = {}
    for one in listed:
        name = one.get("name") if isinstance(one, dict) else None
        if isinstance(name, str) and _NAME.fullmatch(name):
            found[name] = _tool(name, one, "the server lists this name twice" if name in found else "")
    return found


def _tool(name: str, said: Mapping[str, Any], fault: str) -> Tool:
    definition = {key: said[key] for key in _TOLD if said.get(key) is not None}
    encoded = msgspec.json.encode(definition, order="deterministic")
    fault = fault or _fault_of(definition, len(encoded))
    return Tool(name=name, definition=definition, digest=hashlib.sha256(encoded).hexdigest(), fault=fault)


def _fault_of(definition: Mapping[str, Any], num_bytes: int) -> str:
    """Return why a definition cannot be approved: a person must be able to read all of it."""
    if not isinstance(definition.get("inputSchema"), dict):
        return "its inputSchema is not an object"
    if num_bytes > MOST_DEFINITION_BYTES:
        return f"its definition has {num_bytes:,} bytes; at most {MOST_DEFINITION_BYTES:,}"
    waiting: list[tuple[Any, int]] = [(definition, 0)]
    while waiting:
        value, depth = waiting.pop()
        inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
        waiting += [(one, depth + 1) for one in inner]
        if depth > MOST_DEPTH:
            return f"its definition is nested more than {MOST_DEPTH} deep"
        if isinstance(value, str) and (hidden := first_hidden(value.translate(_BREAKS))):
            return f"its texts have the invisible character {hidden}"
        if isinstance(value, dict) and not str(value.get("$ref", "#")).startswith("#"):
            return "its schema refers to another document"
    return ""


def state_of(pinned: Tool | None, listed: Tool | None) -> State:
    """Return how a tool stands."""
    if listed is None:
        return "gone"
    if listed.fault:
        return "unusable"
    if pinned is None:
        return "new"
    return "approved" if pinned.digest == listed.digest else "changed"


def digest_of(tools: Mapping[str, Tool]) -> str:
    """Return the digest of a whole list. An approval names it, so that nothing is approved that was not shown."""
    lines = "".join(f"{name} {tools[name].digest} {tools[name].fault}\n" for name in sorted(tools))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def shown_lines(definition: Mapping[str, Any] | None) -> list[str]:
    """Return a definition as lines of JSON with nothing hidden; none where there is no definition."""
    if definition is None:
        return []
    text = msgspec.json.format(msgspec.json.encode(definition), indent=2).decode()
    return [on_a_screen(line) for line in text.split("\n")]


def changed_lines(before: list[str], now: list[str], *, around: int) -> list[str]:
    """Return how shown definitions differ, marked with - and +, with `around` lines beside each change. Where one has
    more than `MOST_LINES` lines, all of it is removed and added."""
    if max(len(before), len(now)) > MOST_LINES:
        return [*(f"-{line}" for line in before), *(f"+{line}" for line in now)]
    return [line for line in [*difflib.unified_diff(before, now, lineterm="", n=around)][2:] if line[:2] != "@@"]


def load_pins(connection: Connection) -> dict[str, dict[str, Pin]]:
    """Return the approved tools by server and name."""
    found: dict[str, dict[str, Pin]] = {}
    for row in execute(connection, "SELECT * FROM mcp_tool ORDER BY server, name").mappings():
        tool = Tool(
            name=str(row["name"]), definition=msgspec.json.decode(str(row["definition"])), digest=str(row["digest"])
        )
        pin = Pin(
            server=str(row["server"]), tool=tool, approved_by=str(row["approved_by"]),
            approved_s=int(row["approved_s"]),
        )  # fmt: skip
        found.setdefault(pin.server, {})[tool.name] = pin
    return found


def save_pin(connection: Connection, pin: Pin) -> None:
    """Approve a tool as it is. Takes effect in every process within a second. Needs a writing transaction."""
    row = {
        "server": pin.server, "name": pin.tool.name, "digest": pin.tool.digest,
        "definition": msgspec.json.encode(pin.tool.definition).decode(), "approved_by": pin.approved_by,
        "approved_s": pin.approved_s,
    }  # fmt: skip
    upsert(connection, "mcp_tool", row, key="server, name")
    bump(connection, MCP_EPOCH)


def remove_pins(connection: Connection, server: str, names: Iterable[str]) -> None:
    """Withdraw the approval of tools. Needs a writing transaction."""
    for name in names:
        execute(connection, "DELETE FROM mcp_tool WHERE server = :server AND name = :name", server=server, name=name)
    bump(connection, MCP_EPOCH)
