"""The dated report of the optimising benchmark: Markdown, JSON, and one page of plots."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.optimise.stages import Outcome
from benchmarks.row import Row


def write(
    folder: Path,
    scale: str,
    rows: Sequence[Row],
    outcome: Outcome,
    about: Mapping[str, object],
    not_measured: Sequence[str],
) -> Path:
    """Write `optimise_SCALE_DATE.md`, `.json` and `.png`; return the first. The last run of a day stands."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"optimise_{scale}_{time.strftime('%Y%m%d', time.gmtime())}.md"
    path.write_text(_markdown(rows, outcome, about, not_measured, path.with_suffix(".png").name), encoding="utf-8")
    document = {
        "about": about,
        "rows": [row.plain() for row in rows],
        "stages": outcome.facts,
        "failed": outcome.failed,
        "not_measured": list(not_measured),
    }
    path.with_suffix(".json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draw(path.with_suffix(".png"), rows, outcome.facts)
    return path


def _markdown(
    rows: Sequence[Row], outcome: Outcome, about: Mapping[str, object], not_measured: Sequence[str], picture: str
) -> str:
    head = ["what", "measured", "bar", "aim", "verdict", "made of"]
    lines = [f"# Optimising, {about['date']}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row.cells()) + " |" for row in rows]
    lines += ["", f"![All figures on one page]({picture})", "", "## Where and how", ""]
    lines += [f"- {key}: {value if not isinstance(value, dict) else json.dumps(value)}" for key, value in about.items()]
    lines += ["", "## What fell short or was not measured", ""]
    lines += [f"- {row.what}: {row.verdict}. {row.detail}" for row in rows if row.verdict in ("MISSED", "not measured")]
    lines += [f"- stage {name}: {why}" for name, why in outcome.failed.items()]
    lines += [f"- {line}" for line in not_measured]
    return "\n".join(lines) + "\n"


def draw(path: Path, rows: Sequence[Row], facts: Mapping[str, Any]) -> None:
    """Draw judged figures as shares of their bars, the task's accuracies, and speeds; what is absent is left out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 11), layout="constrained")
    FigureCanvasAgg(figure)
    bars, task, speed = figure.subplots(3, 1, height_ratios=[max(3, len(rows)) * 0.3, 2, 2.4])
    _draw_bars(bars, rows)
    _draw_task(task, facts)
    _draw_speed(speed, facts)
    figure.savefig(path, dpi=110)


def _draw_bars(axes: Any, rows: Sequence[Row]) -> None:
    judged = [(row, row.value, row.bar) for row in rows if row.value and row.bar]
    shares = [bar / value if row.lower_is_better else value / bar for row, value, bar in judged]
    names = [row.what for row, _, _ in judged]
    colours = ["#2a7f62" if share >= 1 else "#b3402a" for share in shares]
    axes.barh(names, shares, color=colours)
    axes.axvline(1, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.set_title("How far each figure is beyond its bar (1 = just met)")
    axes.tick_params(axis="y", labelsize=7)


def _draw_task(axes: Any, facts: Mapping[str, Any]) -> None:
    names = [name for name in ("base", "lora", "teacher", "pruned", "student") if "task" in facts.get(name, {})]
    axes.bar(names, [100 * facts[name]["task"] for name in names], color="#3b6ea8", width=0.5)
    if "task" in facts:
        axes.axhline(100 * facts["task"]["bag_of_words"], color="#b3402a", linestyle="--", label="bag of words")
        axes.legend(loc="lower right")
    axes.set_ylabel("right answers, %")
    axes.set_title("The task")


def _draw_speed(axes: Any, facts: Mapping[str, Any]) -> None:
    factors = facts.get("speed", {}).get("factors", {})
    axes.barh(list(factors), list(factors.values()), color="#3b6ea8")
    axes.axvline(1, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=7)
    axes.set_title("Decoding, against the unpruned F16 on the same engine")
