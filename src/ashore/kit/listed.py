"""The rooms of this package: the only place outside a room's folder that names it. Loads nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Listed:
    """One room."""

    folder: str
    """Package below `ashore`; its `room.py` says what the room brings."""
    noun: str = ""
    """The word after `ashore` for its calls; empty: `cli/commands.py` has it, or it has none."""
    summary: str = ""
    """What `ashore --help` says of that."""
    section: str = ""
    """The part of ashore.toml that it brings; empty: `machine/config/document.py` has it, for others read it too, or
    none."""
    child: str = ""
    """Module below `ashore` of a process that the supervisor keeps running, where the section asks for it
    (`Section.runs`)."""
    data: str = ""
    """Module below `ashore` with the part that API workers open; empty: the control process alone opens the room."""


LISTED: Final = (
    Listed("control.audit", data="data.audit.room"),
    Listed("control.access", data="data.authority.room"),
    Listed("control.jobs.schedule"),
    Listed("data.cache", data="data.cache.worker"),
    Listed("data.privacy", data="data.privacy.worker"),
    Listed(
        "control.guard", noun="guard", summary="Manage lists of words that are not to pass.", data="data.guard.room"
    ),
    Listed("control.ledger", section="statistics"),
    Listed("data.tracing", data="data.tracing.room", section="otel"),
    Listed("control.feedback", data="data.feedback.room", section="learning"),
    Listed("data.authority.budgets", data="data.authority.budgets.worker"),
    Listed("control.mcp", section="mcp", data="data.mcp.room"),
    Listed("control.directory", section="directory"),
    Listed("control.scim", section="scim"),
    Listed("control.sessions", section="console"),
    Listed("control.jobs", data="data.jobs.room"),
    Listed("control.chats", noun="conversation", summary="List and read kept conversations."),
    Listed("control.residency", data="data.residency.room"),
    Listed("control.fleet", section="fleet"),
    Listed("control.releases", data="data.releases.room"),
    Listed("control.backup", section="backup"),
    Listed("control.feeds", section="feed"),
    Listed("control.server", data="data.server.room"),
    Listed("control.doctor"),
    Listed(
        "control.alerts",
        noun="alert",
        section="alert",
        summary="See what is wrong and who was told; acknowledge, silence.",
    ),
    Listed("control.drills", section="drills"),
    Listed("control.sites", section="sites", child="control.sites"),
)
"""In the order in which a process opens them; it closes them in the reverse one."""
