"""One judged figure of any table of benchmarks."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table: what was measured, the figure that is judged, and what it was made of."""

    what: str
    value: float | None
    """The judged figure; None: not measured, or not without errors; `detail` says why."""
    unit: str
    bar: float | None
    """None: a figure for comparison."""
    aim: float | None = None
    lower_is_better: bool = False
    detail: str = ""
    readings: dict[str, object] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        if self.bar is None:
            return "-"
        if self._within(self.bar):
            return "aim met" if self.aim is not None and self._within(self.aim) else "bar met"
        return "MISSED"

    def _within(self, limit: float) -> bool:
        assert self.value is not None
        return self.value <= limit if self.lower_is_better else self.value >= limit

    def cells(self) -> list[str]:
        sign = "≤" if self.lower_is_better else "≥"
        shown = "-" if self.value is None else f"{number(self.value)} {self.unit}".strip()
        bar = "" if self.bar is None else f"{sign} {self.bar:,g}"
        return [self.what, shown, bar, "" if self.aim is None else f"{self.aim:,g}", self.verdict, self.detail]

    def plain(self) -> dict[str, object]:
        return asdict(self) | {"verdict": self.verdict}


def number(value: float) -> str:
    """Return a figure with as many digits as it is worth."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def report(rows: Sequence[Row], module: str, *, size: str = "") -> str:
    """Return rows as a table, below a line that says on what machine, when and by which command they were measured."""
    cells = [["what", "value", "bar", "aim", "verdict", "detail"], ["---"] * 6, *(row.cells() for row in rows)]
    loads, now = " ".join(f"{one:.1f}" for one in os.getloadavg()), datetime.datetime.now(datetime.UTC)
    where = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return (
        f"{where}{size and f', {size}'}, load at the end {loads}, {now:%Y-%m-%d %H:%M} UTC. "
        f"Command: `python -m {module} {' '.join(sys.argv[1:])}`\n\n"
        + "".join(f"| {' | '.join(line)} |\n" for line in cells)
    )
