"""Processes of a home, found in `/proc`."""

from __future__ import annotations

from pathlib import Path


def processes_of(home: Path, *words: str) -> list[int]:
    """Return the live processes that name this home and have all of `words` in their command line."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes()
                named = command + (folder / "environ").read_bytes()
                ended = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            except OSError:
                continue
            if str(home).encode() in named and not ended and all(word.encode() in command for word in words):
                found.append(int(folder.name))
    return sorted(found)
