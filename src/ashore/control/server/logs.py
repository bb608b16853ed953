"""Tails of a home's logs, read from the end so that long logs cost no more than short ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ashore.core.errors import NotFound
from ashore.core.nearest import did_you_mean

MOST_BYTES: Final = 1 << 20
"""Read of one log at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """One log."""

    name: str
    num_bytes: int
    changed_s: int


def list_logs(folder: Path) -> tuple[Log, ...]:
    """Return the logs of a home by name."""
    found = []
    for file in sorted(folder.glob("*.log")):
        facts = file.stat()
        found.append(Log(name=file.stem, num_bytes=facts.st_size, changed_s=int(facts.st_mtime)))
    return tuple(found)


def tail_of(folder: Path, name: str, lines: int) -> list[str]:
    """Return the last lines of a log.

    Raises:
        NotFound: there is no such log. Names are looked up in the list and never joined to a path.
    """
    names = [one.name for one in list_logs(folder)]
    if name not in names:
        raise NotFound(f"there is no log {name[:100]!r}", hint=did_you_mean(name[:100], names) or "list them first")
    with open(folder / f"{name}.log", "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - MOST_BYTES))
        found = file.read(MOST_BYTES).decode(errors="replace").splitlines()
    if size > MOST_BYTES:
        found = found[1:]  # its beginning may be missing
    return found[-lines:]
