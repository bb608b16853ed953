"""The tables, and the steps that bring an older database to them.

A room defines its tables in `tables/NNNN.sql` of its folder: statements that migrate version NNNN - 1 to NNNN, in one
transaction. A file never changes once it has been released, and a released version gets no more files; a change of the
tables is a file with the next number.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from ashore.kit.listed import PACKAGE

Migration = Sequence[str]
"""SQL statements that bring version n to version n + 1; all of them run in one transaction."""


@cache
def migrations() -> tuple[Migration, ...]:
    """Return every step, in order."""
    steps: dict[int, list[str]] = {}
    for file in sorted(PACKAGE.glob("*/*/tables/*.sql")):
        steps.setdefault(int(file.stem), []).extend(_statements(file.read_text(encoding="utf-8")))
    assert sorted(steps) == list(range(1, len(steps) + 1)), "a number of a step in ROOM/tables is missing"
    return tuple(tuple(steps[number]) for number in sorted(steps))


def _statements(text: str) -> list[str]:
    """Return the statements of a file: each ends with a semicolon at the end of its line."""
    lines = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("--"))
    return [one.strip() for one in lines.split(";\n") if one.strip()]
