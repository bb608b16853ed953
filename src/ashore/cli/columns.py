"""Tables for people: plain text, so that `awk` reads them too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ashore.cli.said import columns_of, padded
from ashore.core.visible import on_a_screen


def in_a_cell(text: str) -> str:
    """Return a text as a table shows it. Another machine may have sent it; no line end of it begins a line."""
    return on_a_screen(text).replace("\n", "⏎")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, names: int | None = None) -> None:
    """Print rows under a head, each column as wide as it needs. Columns after the first `names` are numbers, which
    stand to the right; None: there are none."""
    print(laid_out(head, rows, names=names))


def laid_out(head: Sequence[str], rows: Iterable[Sequence[str]], *, names: int | None = None) -> str:
    """Return the lines of `table`."""
    lines = [tuple(head), *(tuple(in_a_cell(str(cell)) for cell in row) for row in rows)]
    widths = [max(columns_of(line[at]) for line in lines) for at in range(len(head))]
    left = len(widths) if names is None else names
    return "\n".join(
        "  ".join(
            padded(cell, width, right=at >= left) for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
