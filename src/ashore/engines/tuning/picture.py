"""The frontier as a picture."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from ashore.engines.tuning.model import Goal, TuneReport
from ashore.engines.tuning.rules import figures

_MARKS: dict[Goal, str] = {"latency": "^", "throughput": "s", "balanced": "D"}


def draw_frontier(report: TuneReport, path: Path) -> None:
    """Write the measured candidates, the frontier and the choices as a PNG to `path`.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    by_engine = sorted(report.measured, key=lambda r: (r.candidate.kind, r.candidate.precision))
    for name, group in groupby(by_engine, key=lambda r: f"{r.candidate.kind} {r.candidate.precision}"):
        points = [figures(row) for row in group]
        axes.scatter([p[0] for p in points], [p[1] for p in points], label=name, s=36, alpha=0.8)
    rows = {row.candidate.label: row for row in report.measured}
    line = [figures(rows[label]) for label in report.frontier]
    axes.plot([p[0] for p in line], [p[1] for p in line], color="0.5", linewidth=1, zorder=0, label="frontier")
    for choice in report.choices:
        x, y = choice.measured.one_tok_per_s, choice.measured.sixteen_tok_per_s
        axes.scatter([x], [y], marker=_MARKS[choice.goal], s=150, facecolors="none", edgecolors="black", linewidths=1.2,
                     label=f"chosen for {choice.goal}")  # fmt: skip
    for label in report.frontier:
        axes.annotate(label, figures(rows[label]), textcoords="offset points", xytext=(-8, 8), ha="right", fontsize=7)
    axes.set_xlabel("one stream, tokens/s")
    axes.set_ylabel("sixteen streams, tokens/s")
    points = [figures(row) for row in report.measured] or [(1.0, 1.0)]
    axes.set_xlim(0, 1.1 * max(p[0] for p in points))
    axes.set_ylim(0, 1.15 * max(p[1] for p in points))
    axes.grid(alpha=0.3)
    axes.set_title(f"{report.model} on {report.machine.cpu}, {report.machine.cores} cores", fontsize=10)
    if report.measured:
        axes.legend(fontsize=8, markerscale=0.6)
    figure.savefig(path, format="png")
