"""Reports as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from ashore.core.bytesize import human_bytes
from ashore.core.counted import counted
from ashore.lab.evaluation.model import Report
from ashore.lab.evaluation.rendering.tables import Table, comparison_tables, tables_of


def report_markdown(report: Report) -> str:
    """Return one report."""
    head = [f"# Evaluation of {report.model.name}", "", f"**{gate_line(report)}**", "", *about(report), ""]
    return "\n".join([*head, *_tables(tables_of(report))])


def comparison_markdown(reports: Sequence[Report]) -> str:
    """Return several reports side by side; the first is what the others are compared with."""
    names = ", ".join(report.model.name for report in reports)
    lines = [f"# {names}", ""]
    lines += [*(f"- **{report.model.name}: {gate_line(report)}**" for report in reports), ""]
    for report in reports:
        lines += [*about(report), ""]
    return "\n".join([*lines, *_tables(comparison_tables(reports))])


def gate_line(report: Report) -> str:
    """Return the gate's verdict, with every failed limit: `GATE: FAILED: kl_max (contracts.txt): …`."""
    if report.gate is None:
        return "GATE: none"
    if report.gate.passed:
        return f"GATE: PASSED, {counted(len(report.gate.lines), 'limit')} kept"
    broken = [line for line in report.gate.lines if not line.passed]
    return "GATE: FAILED: " + "; ".join(
        f"{line.metric}{f' ({line.about})' if line.about else ''}: {line.why}" for line in broken
    )


def about(report: Report) -> list[str]:
    """Return the judged model, place and conditions, as list lines."""
    at = report.conditions
    options = " ".join(f"{name}={value}" for name, value in at.options.items())
    return [
        f"- {report.model.name}: {human_bytes(report.model.weight_bytes)}, `{report.model.digest or 'not in a store'}`",
        f"- {at.engine} ({at.engine_version}), {at.precision}{', ' + options if options else ''}, {at.cores} cores, "
        f"{at.machine}, {at.created}, ashore {at.ashore}",
    ]


def _tables(tables: Sequence[Table]) -> list[str]:
    lines = []
    for table in tables:
        lines += [f"## {table.title}", "", _row(table.head), _row(("---", *("--:" for _ in table.head[1:])))]
        lines += [_row(row) for row in table.rows]
        lines += ["", table.note, ""] if table.note else [""]
    return lines


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").strip() for cell in cells) + " |"
