"""Small files of the kernel, read."""

from __future__ import annotations

from pathlib import Path


def text_of(path: Path) -> str:
    """Return the text of a file; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def whole_of(path: Path, default: int = 0) -> int:
    """Return the number that a file holds."""
    text = text_of(path).partition(" ")[0]
    return int(text) if text.lstrip("-").isdigit() else default


def rows_of(path: Path) -> dict[str, int]:
    """Return the first number of each line, by its first word."""
    rows = (line.split() for line in text_of(path).splitlines())
    return {row[0].rstrip(":"): int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
