"""The pictures of reports, drawn by matplotlib: the tables at a glance."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

from ashore.core import human_bytes
from ashore.evaluation.model import Report

_BLUE, _GREY, _RED = "#2266aa", "#999999", "#bb3322"
_COLOURS = ("#555555", "#2266aa", "#dd8833", "#339966", "#aa4488", "#88aa22", "#775533")
_PANEL_WIDTH = 4.6
"""Inches."""


def report_png(report: Report) -> bytes:
    """Return the plots of one report: changes, accuracies, calibration. Empty where there is nothing to draw."""
    panels: list[Callable[[Any], None]] = []
    if report.comparison is not None and (report.comparison.perplexity_increase or report.comparison.accuracy_change):
        panels.append(lambda axes: _changes(axes, report))
    if report.tasks:
        panels.append(lambda axes: _accuracies(axes, [report]))
    if any(task.calibration for task in report.tasks):
        panels.append(lambda axes: _calibration(axes, report))
    if report.texts and not panels:
        panels.append(lambda axes: _perplexities(axes, [report]))
    return _drawn(panels)


def comparison_png(reports: Sequence[Report]) -> bytes:
    """Return the plots of several reports: size against perplexity, perplexities, accuracies, speed."""
    panels: list[Callable[[Any], None]] = []
    if any(report.texts for report in reports):
        panels += [lambda axes: _frontier(axes, reports), lambda axes: _perplexities(axes, reports)]
    if any(report.tasks for report in reports):
        panels.append(lambda axes: _accuracies(axes, reports))
    if any(report.speed for report in reports):
        panels.append(lambda axes: _speeds(axes, reports))
    return _drawn(panels)


def _drawn(panels: Sequence[Callable[[Any], None]]) -> bytes:
    if not panels:
        return b""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 3 if len(panels) == 3 else min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(_PANEL_WIDTH * columns, 3.5 * rows), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for number, draw in enumerate(panels):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        draw(axes)
        axes.title.set_fontsize(10)
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _changes(axes: Any, report: Report) -> None:
    compared = report.comparison
    assert compared is not None
    rows = [(f"perplexity\n{_safe(name)}", change, 1) for name, change in compared.perplexity_increase.items()]
    rows += [(f"accuracy\n{_safe(name)}", change, -1) for name, change in compared.accuracy_change.items()]
    for place, (_, change, worse) in enumerate(rows):
        sure = change.p_value < 0.05
        colour = _GREY if not sure else _RED if change.value * worse > 0 else _BLUE
        axes.plot([100 * change.low, 100 * change.high], [place, place], color=colour, linewidth=3, alpha=0.5)
        axes.plot(100 * change.value, place, "o", color=colour)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("%, points, with 95 % intervals; grey: no difference shown", fontsize=8)
    axes.set_title(f"Change against {_safe(compared.against.name)}")


def _accuracies(axes: Any, reports: Sequence[Report]) -> None:
    names = sorted({task.task for report in reports for task in report.tasks})
    _dots(
        axes,
        reports,
        names,
        lambda report, name: next((t.accuracy for t in report.tasks if t.task == name), None),
        scale=100,
    )
    axes.set_ylabel("%", fontsize=8)
    axes.set_title("Accuracy on tasks, with 95 % intervals")
    if len(reports) > 1:
        axes.legend(fontsize=8, frameon=False)


def _perplexities(axes: Any, reports: Sequence[Report]) -> None:
    names = sorted({text.text for report in reports for text in report.texts})
    _dots(
        axes,
        reports,
        names,
        lambda report, name: next((t.perplexity.perplexity for t in report.texts if t.text == name), None),
        scale=1,
    )
    axes.set_title("Perplexity, with 95 % intervals (lower is better)")


def _dots(
    axes: Any, reports: Sequence[Report], names: Sequence[str], found: Callable[[Report, str], Any], *, scale: float
) -> None:
    """Draw each figure as a dot with its interval, those of one name side by side."""
    width = 0.8 / len(reports)
    for number, report in enumerate(reports):
        drawn = False
        for place, name in enumerate(names):
            estimate = found(report, name)
            if estimate is None:
                continue
            at = place + (number - (len(reports) - 1) / 2) * width
            ends = [
                [max(0.0, estimate.value - estimate.low) * scale],
                [max(0.0, estimate.high - estimate.value) * scale],
            ]
            axes.errorbar(
                at, estimate.value * scale, yerr=ends, fmt="o", markersize=6, elinewidth=2, capsize=3,
                color=_COLOURS[number % len(_COLOURS)], label="" if drawn else _safe(report.model.name),
            )  # fmt: skip
            drawn = True
    axes.set_xticks(range(len(names)), [_safe(name) for name in names])
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)


def _calibration(axes: Any, report: Report) -> None:
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":")
    for number, task in enumerate(task for task in report.tasks if task.calibration):
        assert task.calibration is not None
        bins = task.calibration.bins
        most = max(b.items for b in bins)
        colour = _COLOURS[(number + 1) % len(_COLOURS)]
        axes.plot([b.confidence for b in bins], [b.accuracy for b in bins], color=colour, linewidth=1, alpha=0.5)
        axes.scatter(
            [b.confidence for b in bins],
            [b.accuracy for b in bins],
            s=[10 + 60 * b.items / most for b in bins],
            color=colour,
            label=f"{_safe(task.task)} (error {task.calibration.ece:.3f})",
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("confidence of the model", fontsize=8)
    axes.set_ylabel("accuracy", fontsize=8)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    axes.set_title("Calibration (dots: items)")


def _frontier(axes: Any, reports: Sequence[Report]) -> None:
    name = next(text.text for report in reports for text in report.texts)
    for number, report in enumerate(reports):
        text = next((t for t in report.texts if t.text == name), None)
        if text is None:
            continue
        found = text.perplexity.perplexity
        mib = report.model.weight_bytes / 2**20
        colour = _COLOURS[number % len(_COLOURS)]
        axes.plot([mib, mib], [found.low, found.high], color=colour, alpha=0.4, linewidth=2)
        axes.plot(mib, found.value, "o", color=colour)
        label = f"{_safe(report.model.name)}\n{human_bytes(report.model.weight_bytes)}"
        axes.annotate(label, (mib, found.value), xytext=(6, 4), textcoords="offset points", fontsize=8)
    axes.margins(x=0.25, y=0.2)
    axes.set_xlabel("weights, MiB", fontsize=8)
    axes.set_title(f"Size and perplexity, {_safe(name)}")


def _speeds(axes: Any, reports: Sequence[Report]) -> None:
    """Draw speeds as shares of those of the first, so that bars begin at nothing; each says its tokens a second."""
    known = [(report, report.speed) for report in reports if report.speed is not None]
    first = known[0][1]
    whole = [first.one_tok_per_s, first.many_tok_per_s, first.prefill_tok_per_s]
    width = 0.8 / len(known)
    for number, (report, speed) in enumerate(known):
        values = [speed.one_tok_per_s, speed.many_tok_per_s, speed.prefill_tok_per_s]
        places = [place + (number - (len(known) - 1) / 2) * width for place in range(3)]
        shares = [100 * value / most if most else 0.0 for value, most in zip(values, whole, strict=True)]
        colour = _COLOURS[reports.index(report) % len(_COLOURS)]
        bars = axes.bar(places, shares, width * 0.92, color=colour, label=_safe(report.model.name))
        axes.bar_label(bars, labels=[f"{value:,.0f}" for value in values], fontsize=8)
    axes.set_xticks(range(3), ["one stream", f"{first.many_streams} streams", "prompt"])
    axes.set_ylabel(f"% of {_safe(known[0][0].model.name)}", fontsize=8)
    axes.margins(y=0.15)
    axes.legend(fontsize=8, frameon=False)
    axes.set_title("Tokens/s (higher is better)")


def _safe(text: str) -> str:
    """Return a name escaped for drawing: formula signs literal, and missing glyphs replaced."""
    return "".join(sign if sign.isascii() else "□" for sign in text).replace("$", r"\$")
