"""Tool servers: what each tool of a server does, how that differs from what was approved, and the approval."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

from ashore.control.console.acts import who_may
from ashore.control.console.calling import PLAIN, command_of
from ashore.control.console.forms import PER_PAGE, read_form
from ashore.control.console.kit import Act, Cell, state
from ashore.control.console.model import PAGE_HEADERS, Answer
from ashore.control.console.pages import BY_NAME
from ashore.control.console.reader import Reader
from ashore.control.console.tabs import tab_page
from ashore.control.mcp.calls import ToolOut
from ashore.core.errors import AshoreError, PermissionDenied
from ashore.core.visible import on_a_screen
from ashore.data.mcp import changed_lines, shown_lines

ORDER: Final = ("changed", "new", "unusable", "gone", "approved")
"""States of tools, those that wait for a decision first."""
MOST_ARGUMENTS: Final = 40
EXAMPLE: Final = '[[mcp.server]]\nname = "bank"\nurl = "https://bank.corp.example/mcp"'
"""What ashore.toml says of a first server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownTool:
    """One tool, as a person reads it before approving it. Every text is its server's, and may be hostile."""

    name: str
    state: Cell
    fault: str
    what: str
    arguments: tuple[tuple[str, str, bool, str], ...]
    """Name, type, whether it must be given, and what it says of itself."""
    changes: tuple[str, ...]
    """Lines of what was approved (`-`) and what the server has now (`+`)."""
    definition: str
    pin: Any
    """Its approval; None: there is none."""
    waits: bool
    """Whether it can be approved, and is not as it stands."""
    acts: tuple[Act, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownServer:
    """One server of tools."""

    name: str
    url: str
    digest: str
    """What an approval names; empty: the reader may not approve, or the server does not answer."""
    fault: str
    tools: tuple[ShownTool, ...]
    total: int
    acts: tuple[Act, ...]

    @property
    def waiting(self) -> int:
        return sum(one.waits for one in self.tools)


async def tools_page(reader: Reader) -> Answer:
    """Return every server of tools with its tools; a POST approves those that are ticked.

    Raises:
        PermissionDenied: the reader may not approve.
    """
    found = await reader.ask("mcp list")
    if found is None:
        return await tab_page(reader, BY_NAME["privacy"], "mcp")
    asked, approve = reader.asked, reader.acts.atlas.by_key["mcp approve"]
    pairs = [one for one in asked.form or asked.query if one[0] in ("name", "digest", "tools")]
    if asked.part == "command":
        return Answer(headers=PLAIN, body=command_of(approve.call, pairs).encode())
    fault: AshoreError | None = None
    if asked.method == "POST":
        try:
            await reader.perform(approve, read_form(approve.call, pairs))
            where = f"{asked.root}privacy/tools?{urlencode({'recorded': asked.visit.request_id})}"
            headers = (*PAGE_HEADERS, (b"location", where.encode()))
            return Answer(status=303 if asked.part == "page" else 200, headers=headers)
        except PermissionDenied:
            raise
        except AshoreError as problem:
            fault = problem
    servers = await asyncio.gather(*(_server(reader, one) for one in found.items))
    given = dict(pairs)
    answer: Answer = await reader.aside(
        partial(
            reader.page,
            "tools.html",
            "privacy",
            status=200 if fault is None else fault.http_status,
            tabs=reader.tabs("privacy"),
            servers=servers,
            example=EXAMPLE,
            lead=reader.words(
                "tools.lead", count=sum(one.tools for one in found.items), waiting=sum(one.waiting for one in servers)
            ),
            may_approve=reader.offers(approve),
            who=who_may(approve.call.action),
            fault=fault,
            read=given.get("digest", ""),
            ticked={value for name, value in pairs if name == "tools"},
            recorded=dict(asked.query).get("recorded", ""),
            command=command_of(approve.call, pairs) if "name" in given else "ashore mcp list",
            nouns=reader.derived("privacy", "mcp"),
        )
    )
    return answer


async def _server(reader: Reader, one: Any) -> ShownServer:
    """Return a server as it is now; as it was approved where it does not answer, or the reader may not ask it."""
    kept, checked, fault = await reader.ask("mcp show", name=one.server), None, one.fault
    if one.url and not fault:
        try:
            checked = await reader.ask("mcp check", name=one.server)
        except AshoreError as problem:
            fault = problem.message
    pins = {pin.tool: pin for pin in kept.items}
    withheld = {name: why for name, _, why in (said.partition(" ") for said in one.withheld)}
    listed = getattr(checked, "tools", None) or [
        ToolOut(tool=name, state=withheld.get(name, "approved"), fault="", definition=pin.definition, before=None)
        for name, pin in pins.items()
    ]
    first = sorted(listed, key=lambda tool: (ORDER.index(tool.state), tool.tool))[:PER_PAGE]
    shown = await reader.aside(lambda: [_tool(reader, one.server, tool, pins.get(tool.tool)) for tool in first])
    return ShownServer(
        name=one.server, url=one.url, digest=getattr(checked, "digest", ""), fault=fault, tools=tuple(shown),
        total=len(listed), acts=reader.may("mcp withdraw", "tools.withdraw-all", name=one.server) if pins else (),
    )  # fmt: skip


def _tool(reader: Reader, server: str, one: Any, pin: Any) -> ShownTool:
    definition = one.definition or one.before or {}
    lines = shown_lines(definition)
    return ShownTool(
        name=one.tool,
        state=state(one.state),
        fault=one.fault,
        what=on_a_screen(str(definition.get("description", ""))),
        arguments=tuple(_arguments(definition)),
        changes=tuple(changed_lines(shown_lines(one.before), lines, around=1)) if one.definition and one.before else (),
        definition="\n".join(lines),
        pin=pin,
        waits=one.state in ("new", "changed"),
        acts=reader.may("mcp withdraw", name=server, tools=one.tool) if pin is not None else (),
    )


def _arguments(definition: Mapping[str, Any]) -> Iterator[tuple[str, str, bool, str]]:
    schema = definition.get("inputSchema")
    schema = schema if isinstance(schema, dict) else {}
    known, required = schema.get("properties"), schema.get("required")
    for name, said in list(known.items() if isinstance(known, dict) else ())[:MOST_ARGUMENTS]:
        kind, what = (said.get("type"), said.get("description")) if isinstance(said, dict) else ("", "")
        kind = ", ".join(map(str, kind)) if isinstance(kind, list) else kind
        is_required = isinstance(required, list) and name in required
        yield on_a_screen(name), on_a_screen(str(kind or "")), is_required, on_a_screen(str(what or ""))
