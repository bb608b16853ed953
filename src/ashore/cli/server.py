"""`ashore server`: figures over time, logs, the configuration in force."""

from __future__ import annotations

from typing import Final

from ashore.cli.calls import noun_of, table
from ashore.cli.config import print_keys
from ashore.control.server.calls import CALLS, HistoryOut, SeriesOut, TailOut

BARS: Final = "▁▂▃▄▅▆▇█"
WIDTH: Final = 36
"""Of a line of bars, in characters."""


def _show_history(found: HistoryOut) -> None:
    rows = [_row(one) for one in found.series]
    print(table(rows, ("series", "unit", "last", "mean", "most", "over time")))
    print(f"points of {found.step_s} s; a space: nothing is known, or nothing was measured")


def _row(one: SeriesOut) -> dict[str, str]:
    known = [value for value in one.values if value is not None]
    mean = sum(known) / len(known) if known else None
    last = next((value for value in reversed(one.values) if value is not None), None)
    return {
        "series": one.name,
        "unit": one.unit,
        "last": _figure(last),
        "mean": _figure(mean),
        "most": _figure(max(known, default=None)),
        "over time": bars(one.values),
    }


def bars(values: list[float | None]) -> str:
    """Return values as a line of bars from 0 to the largest; several values share a bar by their largest."""
    a_bar = -(-len(values) // WIDTH) or 1
    parts = [[v for v in values[at : at + a_bar] if v is not None] for at in range(0, len(values), a_bar)]
    most = max((max(part) for part in parts if part), default=0.0)
    return "".join(" " if not part else BARS[round(max(part) / most * 7) if most else 0] for part in parts)


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _show_tail(found: TailOut) -> None:
    for line in found.lines:
        print(line)


app = noun_of(
    "server",
    "Look at figures over time, logs and configuration.",
    CALLS,
    {"history": _show_history, "tail": _show_tail, "config": lambda found: print_keys(found.items)},
)
