"""Tables and sentences for people: plain text, so that `awk` reads them too. On a terminal they fit its width."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Final, TextIO

from ashore.cli.said import columns_of, padded
from ashore.core.visible import on_a_screen

NARROW: Final = 16
"""Columns of a terminal that a column of text keeps when others need room."""
FOLD: Final = "    "
"""What a line begins with that continues the row above."""


def in_a_cell(text: str) -> str:
    """Return a text as a table shows it. Another machine may have sent it; no line end of it begins a line."""
    return on_a_screen(text).replace("\n", "⏎")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, names: int | None = None) -> None:
    """Print rows under a head, each column as wide as it needs. Columns after the first `names` are numbers, which
    stand to the right; None: there are none."""
    print(laid_out(head, rows, names=names))


def laid_out(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, names: int | None = None, room: int | None = None
) -> str:
    """Return the lines of `table`.

    A table that is wider than `room` leaves out columns in which no row has a value, then wraps long texts, then
    continues each row on a further line. None: the width of the terminal, or no limit where stdout is not one.
    """
    lines = [tuple(head), *(tuple(in_a_cell(str(cell)) for cell in row) for row in rows)]
    columns = list(zip(*lines, strict=True))
    left = len(columns) if names is None else names
    if room is None:
        room = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    widths = [max(map(columns_of, cells)) for cells in columns]
    shown = list(range(len(columns)))
    if sum(widths) + 2 * (len(widths) - 1) > room:
        shown = [at for at in shown if not at or set(columns[at][1:]) != {"-"}]
    least = [_least(columns[at], width) if 0 < at < left else width for at, width in enumerate(widths)]
    folds: list[list[int]] = [[]]
    for at in shown:
        if folds[-1] and len(FOLD) * (len(folds) > 1) + sum(least[one] + 2 for one in folds[-1]) + least[at] > room:
            folds.append([])
        folds[-1].append(at)
    for depth, fold in enumerate(folds):
        while len(FOLD) * bool(depth) + sum(widths[at] + 2 for at in fold) - 2 > room:
            slack = [at for at in fold if widths[at] > least[at]]
            if not slack:
                break
            widths[max(slack, key=widths.__getitem__)] -= 1
    return "\n".join(
        (FOLD if depth else "")
        + "  ".join(padded(part, widths[at], right=at >= left) for at, part in zip(fold, parts, strict=True)).rstrip()
        for line in lines
        for depth, fold in enumerate(folds)
        for parts in zip_longest(*(_wrapped(line[at], widths[at]) for at in fold), fillvalue="")
    )


_WORD: Final = re.compile(r"(?:`[^`\n]*`|\S)+")
"""A word of prose. What stands in backticks is one, so that a command can be copied."""


def prose(text: str, *, first: str = "", to: TextIO | None = None, room: int | None = None) -> str:
    """Return sentences with line ends where the terminal ends; one line each where `to` is no terminal.

    Args:
        text: Sentences. A line end in it stays, and what follows is filled by itself.
        first: Stands before the text; further lines begin below its end.
        to: Where it will be printed; default stdout.
        room: Columns. None: the width of the terminal.
    """
    if room is None:
        room = shutil.get_terminal_size().columns if (to or sys.stdout).isatty() else sys.maxsize
    lines: list[str] = []
    for paragraph in text.split("\n"):
        head, inset = " " * columns_of(first) if lines else first, paragraph[: -len(paragraph.lstrip()) or None]
        if columns_of(head + paragraph) <= room:
            lines.append(head + paragraph)
            continue
        lines.append(head + inset)
        for at, word in enumerate(_WORD.findall(paragraph)):
            longer = lines[-1] + " " * bool(at) + word
            if at and columns_of(longer) > room:
                lines.append(" " * columns_of(head) + inset + word)
            else:
                lines[-1] = longer
    return "\n".join(lines)


def say(text: str, *, first: str = "", to: TextIO | None = None) -> None:
    """Print sentences as `prose` lays them out; default on stdout."""
    print(prose(text, first=first, to=to), file=to)


def _least(cells: Sequence[str], width: int) -> int:
    """Return how narrow a column of text may become: its longest word. Bars and other drawings stay as they are."""
    if any(cell != " ".join(cell.split()) for cell in cells):
        return width
    return min(width, max(NARROW, *(columns_of(word) for cell in cells for word in cell.split())))


def _wrapped(text: str, width: int) -> list[str]:
    if columns_of(text) <= width:
        return [text]
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and columns_of(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
