"""Rows of the front's table, kept by case in one raw file, and the Markdown made of them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.row import Row

REMARKS = "## Remarks"
"""Whatever stands from this heading on is written by hand, and kept when the report is made again."""


class Report:
    """`<date>-front.json` with a part for each case, and `<date>-front.md` beside it; the last run of a case stands."""

    def __init__(
        self, folder: Path, facts: dict[str, object], *, name: str = "front", title: str = "The front"
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        day = time.strftime("%Y-%m-%d", time.gmtime())
        self._raw = folder / f"{day}-{name}.json"
        self._page = folder / f"{day}-{name}.md"
        self._facts = facts
        self._title = title
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
        lines = [f"# {self._title}, {self._facts['date'][:10]}", ""]  # type: ignore[index]
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
