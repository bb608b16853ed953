"""Rows of the front's table, kept by case in one raw file, and the Markdown made of them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

REMARKS = "## Remarks"
"""Whatever stands from this heading on is written by hand, and kept when the report is made again."""


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


class Report:
    """`<date>-front.json` with a part for each case, and `<date>-front.md` beside it; the last run of a case stands."""

    def __init__(self, folder: Path, facts: dict[str, object]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        day = time.strftime("%Y-%m-%d", time.gmtime())
        self._raw = folder / f"{day}-front.json"
        self._page = folder / f"{day}-front.md"
        self._facts = facts
        self._cases: dict[str, dict[str, object]] = {}
        if self._raw.exists():
            self._cases = json.loads(self._raw.read_text())["cases"]

    def take(self, case: str, rows: Sequence[Row], *, busy_before: float, busy_after: float) -> Path:
        """Keep the rows of one case, and write both files."""
        self._cases[case] = {
            "about": self._facts | {"other_load_before": busy_before, "other_load_after": busy_after},
            "rows": [row.plain() for row in rows],
        }
        self._raw.write_text(json.dumps({"cases": self._cases}, indent=1, ensure_ascii=False) + "\n")
        self._page.write_text(self._markdown())
        return self._page

    def _markdown(self) -> str:
        head = ["what", "measured", "bar", "aim", "verdict", "made of"]
        lines = [f"# The front, {self._facts['date'][:10]}", ""]  # type: ignore[index]
        lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        for case in self._cases.values():
            for plain in case["rows"]:  # type: ignore[attr-defined]
                row = Row(**{name: plain[name] for name in Row.__slots__})
                lines.append("| " + " | ".join(row.cells()) + " |")
        lines += ["", "## Where and how", ""]
        lines += [f"- {key}: {said(value)}" for key, value in self._facts.items()]
        lines += ["", "| case | commit | at | other load before, after |", "|---|---|---|---|"]
        for name, case in self._cases.items():
            about: dict[str, object] = case["about"]  # type: ignore[assignment]
            load = f"{about['other_load_before']:.0%}, {about['other_load_after']:.0%}"
            lines.append(f"| {name} | {about['commit']} | {about['date']} | {load} |")
        return "\n".join(lines) + "\n\n" + self._remarks()

    def _remarks(self) -> str:
        text = self._page.read_text() if self._page.exists() else ""
        at = text.find(REMARKS)
        return text[at:] if at >= 0 else f"{REMARKS}\n"


def said(value: object) -> str:
    """Return a fact as text."""
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
