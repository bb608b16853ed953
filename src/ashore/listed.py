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


LISTED: Final = (
    Listed("audit"),
    Listed("access"),
    Listed("cache"),
    Listed("privacy"),
    Listed("privacy.ledger", section="statistics"),
    Listed("tracing", section="otel"),
    Listed("learning", section="learning"),
    Listed("access.budgets"),
    Listed(
        "sessions",
        noun="account",
        summary="Manage who logs in to the console, and how.",
        section="console",
    ),
    Listed("jobs"),
    Listed("residency"),
    Listed("fleet", section="fleet"),
    Listed("releases"),
    Listed("backup"),
    Listed("server"),
    Listed("doctor"),
    Listed("drills", section="drills"),
)
"""In the order in which an API worker opens them; it closes them in the reverse one."""
