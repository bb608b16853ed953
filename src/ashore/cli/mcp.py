"""`ashore mcp`: tools of other servers, which agents reach through this one."""

from __future__ import annotations

from typing import Final

from ashore.cli.calls import cell, noun_of
from ashore.control.mcp.calls import CALLS, PinOut, PinsOut, ToolsOut
from ashore.core.visible import on_a_screen
from ashore.data.mcp import changed_lines, shown_lines
from ashore.kit.call import Items

_MEANS: Final = {
    "approved": "agents see it",
    "new": "agents see it once it is approved",
    "changed": "withheld from agents until it is approved again; - is what was approved, + what the server has now",
    "gone": "the server has it no more; this was approved",
}


def show_check(found: ToolsOut) -> None:
    """Print a block for each tool, with all that agents obey, as JSON: no text of a server can look like a line of
    ashore's. What changed is shown line by line."""
    for one in found.tools:
        print(on_a_screen(f"{one.tool}  {one.state}: {one.fault or _MEANS.get(one.state, '')}"))
        now, before = shown_lines(one.definition), shown_lines(one.before)
        if now and before:
            now = changed_lines(before, now, around=len(now))
        print("\n".join(f"    {line}" for line in now or before), end="\n\n")
    print(f"digest of these {len(found.tools)} tools: {found.digest}")
    print(f"to approve what you have read: ashore mcp approve {found.server} --digest {found.digest} --tools NAME,NAME")


def show_pins(found: Items[PinOut]) -> None:
    """Print approved tools, with their texts as they were approved."""
    for one in found.items:
        print(f"{one.tool}  approved by {one.approved_by}, {cell('approved_at', one.approved_at)}")
        print("\n".join(f"    {line}" for line in shown_lines(one.definition)), end="\n\n")
    if not found.items:
        print("no tool is approved")


def show_approved(done: PinsOut) -> None:
    """Print what may be called now."""
    print(f"approved: {', '.join(done.tools)}")


app = noun_of(
    "mcp",
    "Approve tools of other servers, which agents reach through this one.",
    CALLS,
    {"check": show_check, "show": show_pins, "approve": show_approved},
)
