"""Reports in Markdown and HTML, with a chart of the clients' requests."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Sequence
from typing import Final

import msgspec

from ashore.control.drills.model import Drill, Outcome, Report
from ashore.core.timespan import human_moment

WIDTH: Final = 720
HEIGHT: Final = 180
SLICES: Final = 72


def encoded(report: Report) -> bytes:
    """Return the report as the bytes whose digest is in the audit log."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def digest_of(data: bytes) -> str:
    """Return the SHA-256 of a report."""
    return hashlib.sha256(data).hexdigest()


def markdown(report: Report, drill: Drill | None) -> str:
    """Return the report as Markdown."""
    when = human_moment(report.began_s)
    lines = [
        f"# {report.title}: {report.verdict}",
        "",
        f"{report.why}.",
        "",
        "| | |",
        "|---|---|",
        f"| drill | `{report.drill}`, {report.id} |",
        f"| began | {when} |",
        f"| on | {report.on}{', production' if report.production else ''} |",
        f"| run by | {report.actor}{f', with the consent of {report.consent}' if report.consent else ''} |",
    ]
    if drill is not None:
        lines += [f"| steady state | {drill.steady} |", f"| fault | {drill.fault} |", f"| expected | {drill.expects} |"]
    lines += [
        f"| felt | {report.felt or 'no'} |",
        f"| fault lasted | {report.fault_for_s:.1f} s |",
        f"| well again after | {'not seen' if report.recovered_s is None else f'{report.recovered_s:.2f} s'} |",
        f"| found by the doctor | {', '.join(report.noticed) or 'nothing'} |",
        "",
        "## What had to hold",
        "",
        "| | held | seen | must be |",
        "|---|---|---|---|",
        *(f"| {one.name} | {'yes' if one.held else '**no**'} | {one.seen} | {one.bound} |" for one in report.checks),
        "",
        "## Requests",
        "",
        "| | requests | failed | first token p50 | p95 | longest | codes |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, phase in report.phases.items():
        codes = ", ".join(f"{code} {times}" for code, times in phase.codes.items())
        lines.append(
            f"| {name} | {phase.requests} | {phase.failed} | {phase.first_p50_ms:.0f} ms | {phase.first_p95_ms:.0f} "
            "ms | "
            f"{phase.longest_s:.2f} s | {codes} |"
        )
    return "\n".join((*lines, ""))


def page(report: Report, drill: Drill | None, digest: str) -> str:
    """Return the report as one HTML file that loads nothing."""
    body: list[str] = []
    table: list[str] = []
    for line in (*markdown(report, drill).splitlines(), ""):
        if line.startswith("|"):
            table.append(line)
            continue
        if table:
            body.append(_table(table))
            table = []
        if line.startswith("## "):
            body.append(f"<h2>{html.escape(line[3:])}</h2>")
        elif line.startswith("# "):
            body.append(f'<h1 class="{report.verdict}">{html.escape(line[2:])}</h1>')
        elif line:
            body.append(f"<p>{html.escape(line)}</p>")
    return (
        "<!doctype html>\n<html lang=en><meta charset=utf-8><title>"
        f"{html.escape(report.title)}: {report.verdict}</title><style>{_STYLE}</style>\n"
        + "\n".join(body)
        + chart(report.outcomes, report.fault_at_s, report.fault_at_s + report.fault_for_s)
        + f"<p class=small>SHA-256 in the audit log (drill:report, {html.escape(report.id)}): {digest}</p>"
        + "</html>\n"
    )


_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:50em;margin:2em auto;padding:0 1em;color:#222;background:#fff}"
    "table{border-collapse:collapse;width:100%}"
    "td,th{border-bottom:1px solid #ddd;padding:.3em .6em;text-align:left;vertical-align:top}"
    "h1.pass{color:#176b33}h1.fail,h1.error{color:#a11}h1.aborted,h1.unfit{color:#8a5a00}"
    ".small{font-size:.8em;color:#666;word-break:break-all}"
    "@media(prefers-color-scheme:dark){body{background:#16181c;color:#ddd}td,th{border-color:#333}}"
)


def _table(lines: Sequence[str]) -> str:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not set(line) <= set("|-")]
    out = []
    for number, row in enumerate(rows):
        tag = "th" if number == 0 and any(row) else "td"
        cells = "".join(f"<{tag}>{_inline(cell)}</{tag}>" for cell in row)
        if any(row):
            out.append(f"<tr>{cells}</tr>")
    return f"<table>{''.join(out)}</table>"


def _inline(text: str) -> str:
    return html.escape(text.replace("`", "").replace("**", ""))


def chart(outcomes: Sequence[Outcome], fault_s: float, healed_s: float) -> str:
    """Return an SVG of answered and failed requests over time, and of their first token; the fault is shaded."""
    if not outcomes:
        return ""
    end_s = max(one.at_s + one.took_s for one in outcomes)
    slice_s = max(end_s / SLICES, 1e-3)
    good, bad, first = [0] * SLICES, [0] * SLICES, [0.0] * SLICES
    for one in outcomes:
        place = min(SLICES - 1, int((one.at_s + one.took_s) / slice_s))
        good[place] += one.ok
        bad[place] += not one.ok
        first[place] = max(first[place], one.first_s)
    most = max(max(g + b for g, b in zip(good, bad, strict=True)), 1)
    slowest = max(*first, 0.001)
    wide = WIDTH / SLICES
    shapes = [
        f'<rect x="{fault_s / end_s * WIDTH:.1f}" y="0" width="{max(2.0, (healed_s - fault_s) / end_s * WIDTH):.1f}" '
        f'height="{HEIGHT}" fill="#c33" opacity=".12"/>'
        if fault_s
        else ""
    ]
    for place in range(SLICES):
        up, down = good[place] / most * HEIGHT, bad[place] / most * HEIGHT
        x = place * wide
        shapes.append(f'<rect x="{x:.1f}" y="{HEIGHT - up:.1f}" width="{wide - 1:.1f}" height="{up:.1f}" fill="#5a8"/>')
        if down:
            top = HEIGHT - up - down
            shapes.append(f'<rect x="{x:.1f}" y="{top:.1f}" width="{wide - 1:.1f}" height="{down:.1f}" fill="#c33"/>')
    line = " ".join(
        f"{place * wide + wide / 2:.1f},{HEIGHT - one / slowest * HEIGHT:.1f}" for place, one in enumerate(first)
    )
    shapes.append(f'<polyline points="{line}" fill="none" stroke="#46c" stroke-width="1.5"/>')
    return (
        f'<svg viewBox="0 -4 {WIDTH} {HEIGHT + 8}" role="img" aria-label="Requests over time" style="width:100%">'
        f"{''.join(shapes)}</svg><p class=small>Green: answered requests; red: failed ones; at most {most} in "
        f"{slice_s:.2f} s. Blue: slowest first token, at most {1e3 * slowest:.0f} ms. Shaded: the fault. {end_s:.0f} "
        "s in all.</p>"
    )
