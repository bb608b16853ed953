"""Tables for people: plain text, so that `awk` reads them too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ashore.core.visible import on_a_screen


def in_a_cell(text: str) -> str:
    """Return a text as a table shows it. Another machine may have sent it; no line end of it begins a line."""
    return on_a_screen(text).replace("\n", "⏎")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, names: int | None = None) -> None:
    """Print rows under a head, each column as wide as it needs. Columns after the first `names` are numbers, which
    stand to the right; None: there are none."""
    lines = [tuple(head), *(tuple(in_a_cell(str(cell)) for cell in row) for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    left = len(widths) if names is None else names
    for line in lines:
        cells = (
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join(cells).rstrip())
