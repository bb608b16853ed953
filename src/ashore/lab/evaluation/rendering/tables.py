"""The tables of a report: rows of words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ashore.core.bytesize import human_bytes
from ashore.lab.evaluation.model import Report
from ashore.lab.evaluation.statistics import Difference, Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A titled table; the first column is text, the others are figures."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def tables_of(report: Report) -> tuple[Table, ...]:
    """Return the tables of one report; what was not measured has none."""
    made = (_gate(report), _changes(report), _texts(report), _tasks(report), _speed(report))
    return tuple(table for table in made if table.rows)


def comparison_tables(reports: Sequence[Report]) -> tuple[Table, ...]:
    """Return tables with one column for each report; the changes are against the first."""
    from ashore.lab.evaluation.compare import compare

    names = tuple(report.model.name for report in reports)
    base = reports[0]
    changes = [compare(base, report) for report in reports[1:]]
    texts = {text.text for report in reports for text in report.texts}
    tasks = {task.task for report in reports for task in report.tasks}
    rows = []
    for text in sorted(texts):
        rows.append((f"perplexity, {text}", *(_cell(_perplexity_of(r, text)) for r in reports)))
        told = (_change(c.perplexity_increase.get(text), percent=True) for c in changes)
        rows.append(("  against the first", "", *told))
    for task in sorted(tasks):
        rows.append((f"accuracy, {task}", *(_share_cell(_accuracy_of(r, task)) for r in reports)))
        told = (_change(c.accuracy_change.get(task), percent=False) for c in changes)
        rows.append(("  against the first", "", *told))
    quality = Table(title="Quality", head=("", *names), rows=tuple(rows), note=_CHANGES_NOTE)
    cost = Table(
        title="Size and speed",
        head=("", *names),
        rows=(
            ("weights", *(human_bytes(r.model.weight_bytes) for r in reports)),
            ("engine", *(f"{r.conditions.engine} {r.conditions.precision}" for r in reports)),
            *(
                (title, *(_figure(getattr(r.speed, field), field) if r.speed else "-" for r in reports))
                for title, field in _SPEEDS
                if any(r.speed for r in reports)
            ),
        ),
    )
    return (quality, cost) if rows else (cost,)


_SPEEDS = (
    ("first token, median ms", "ttft_ms_p50"),
    ("first token, p95 ms", "ttft_ms_p95"),
    ("between tokens, median ms", "inter_token_ms_p50"),
    ("between tokens, p95 ms", "inter_token_ms_p95"),
    ("one stream, tokens/s", "one_tok_per_s"),
    ("many streams, tokens/s", "many_tok_per_s"),
    ("prompt of 512, tokens/s", "prefill_tok_per_s"),
    ("memory of the engine", "resident_bytes"),
)
_CHANGES_NOTE = (
    "In brackets the 95 % interval (bootstrap over windows and items). A change in bold has p < 0.05 in a paired test."
)


def _gate(report: Report) -> Table:
    lines = report.gate.lines if report.gate else ()
    return Table(
        title="Gate",
        head=("limit", "about", "verdict", "evidence"),
        rows=tuple((one.metric, one.about or "-", "pass" if one.passed else "**FAIL**", one.why) for one in lines),
    )


def _changes(report: Report) -> Table:
    compared = report.comparison
    if compared is None:
        return Table(title="", head=(), rows=())
    rows = []
    for name, change in compared.perplexity_increase.items():
        rows.append((f"perplexity, {name}", _change(change, percent=True), f"{change.p_value:.3g}", change.test))
    for name, found in compared.divergence.items():
        how = "exact" if found.method == "exact" else f"at least, from the top {found.top_k}"
        rows.append((f"divergence, {name}", f"{_cell(found.kl)} nats per token", "", how))
        rows.append((f"same most likely token, {name}", _share_cell(found.same_top), "", ""))
    for name, change in compared.accuracy_change.items():
        rows.append((f"accuracy, {name}", _change(change, percent=False), f"{change.p_value:.3g}", change.test))
    rows += [(name, f"not compared: {why}", "", "") for name, why in compared.not_compared.items()]
    return Table(
        title=f"Against {compared.against.name}",
        head=("", "change", "p", "how"),
        rows=tuple(rows),
        note=_CHANGES_NOTE,
    )


def _texts(report: Report) -> Table:
    return Table(
        title="Texts",
        head=("text", "perplexity", "bits/byte", "tokens"),
        rows=tuple(
            (
                t.text,
                _cell(t.perplexity.perplexity),
                f"{t.perplexity.bits_per_byte:.4f}",
                f"{t.perplexity.num_tokens:,}",
            )
            for t in report.texts
        ),
    )


def _tasks(report: Report) -> Table:
    return Table(
        title="Tasks",
        head=("task", "kind", "accuracy", "other metrics", "calibration error", "items", "seconds"),
        rows=tuple(
            (
                t.task,
                f"{t.kind}, {t.style}",
                _share_cell(t.accuracy),
                ", ".join(f"{name} {value:.3f}" for name, value in t.metrics.items()) or "-",
                f"{t.calibration.ece:.3f}" if t.calibration else "-",
                f"{t.num_items:,}",
                f"{t.seconds:.1f}",
            )
            for t in report.tasks
        ),
    )


def _speed(report: Report) -> Table:
    speed = report.speed
    if speed is None:
        return Table(title="", head=(), rows=())
    rows = tuple((title, _figure(getattr(speed, field), field)) for title, field in _SPEEDS)
    return Table(
        title="Speed and memory", head=("", "measured"), rows=rows, note=f"Many streams: {speed.many_streams}."
    )


def _figure(value: float, field: str) -> str:
    return human_bytes(int(value)) if field.endswith("bytes") else f"{value:,.1f}"


def _cell(found: Estimate | None) -> str:
    return "-" if found is None else f"{found.value:.4g} [{found.low:.4g}, {found.high:.4g}]"


def _share_cell(found: Estimate | None) -> str:
    return "-" if found is None else f"{found.value:.1%} [{found.low:.1%}, {found.high:.1%}]"


def _change(change: Difference | None, *, percent: bool) -> str:
    if change is None:
        return "-"
    unit = " %" if percent else " points"
    told = f"{100 * change.value:+.2f}{unit} [{100 * change.low:+.2f}, {100 * change.high:+.2f}]"
    return f"**{told}**" if change.p_value < 0.05 else told


def _perplexity_of(report: Report, text: str) -> Estimate | None:
    return next((t.perplexity.perplexity for t in report.texts if t.text == text), None)


def _accuracy_of(report: Report, task: str) -> Estimate | None:
    return next((t.accuracy for t in report.tasks if t.task == task), None)
