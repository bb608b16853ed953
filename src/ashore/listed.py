"""The rooms of this package: the only place outside a room's folder that names it. Loads nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parent


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
    """The part of ashore.toml that it brings; empty: `config/document.py` has it, for others read it too, or none."""
    data: bool = False
    """Whether its `data.py` has a part that API workers open; else the control process alone opens it."""


LISTED: Final = (
    Listed("audit", data=True),
    Listed("access", data=True),
    Listed("jobs.schedule"),
    Listed("cache", data=True),
    Listed("privacy", data=True),
    Listed("privacy.ledger", section="statistics"),
    Listed("tracing", data=True, section="otel"),
    Listed("learning", data=True, section="learning"),
    Listed("access.budgets", data=True),
    Listed(
        "sessions",
        noun="account",
        summary="Manage who logs in to the console, and how.",
        section="console",
    ),
    Listed("jobs", data=True),
    Listed("residency", data=True),
    Listed("fleet", section="fleet"),
    Listed("releases", data=True),
    Listed("backup", section="backup"),
    Listed("server", data=True),
    Listed("doctor"),
    Listed("drills", section="drills"),
)
"""In the order in which a process opens them; it closes them in the reverse one."""
