"""Reports as one page of HTML: plots and style are in it, nothing is fetched, and it prints."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence

from ashore.evaluation.model import Report
from ashore.evaluation.rendering.markdown import about, gate_line
from ashore.evaluation.rendering.tables import Table, comparison_tables, tables_of

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --dim: #777; }
body { font: 16px/1.5 system-ui, "Noto Sans CJK SC", sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .3rem } h2 { font-size: 1.15rem; margin: 2rem 0 .4rem }
.gate { font-weight: 600; margin: .4rem 0; padding: .3rem .7rem; border-left: .3rem solid var(--line) }
.gate.passed { border-color: #2a8f4a } .gate.failed { border-color: #c62828; color: #c62828 }
.about { color: var(--dim); font-size: .85rem; margin: 0; padding: 0; list-style: none }
.about code { font-size: .8rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; width: 100% }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top }
th { font-weight: 600; border-bottom-width: 2px } th:first-child, td:first-child { text-align: left }
.interval { color: var(--dim); font-size: .82em; white-space: nowrap; font-weight: normal }
td.sub { color: var(--dim); padding-left: 1.8rem } .note { color: var(--dim); font-size: .85rem }
img { max-width: 100%; background: #fff; border-radius: 6px; margin-top: 1rem }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_BOLD = re.compile(r"\*\*(.+?)\*\*")
_INTERVAL = re.compile(r"\[[-+0-9.,e% ]+\]")
_CODE = re.compile(r"`(.+?)`")


def report_page(report: Report, png: bytes) -> str:
    """Return one report with its plots."""
    return _page(f"Evaluation of {report.model.name}", [_badge(report)], about(report), tables_of(report), png)


def comparison_page(reports: Sequence[Report], png: bytes) -> str:
    """Return several reports side by side; the first is what the others are compared with."""
    lines = [line for report in reports for line in about(report)]
    badges = [_badge(report, f"{report.model.name}: ") for report in reports]
    title = " · ".join(report.model.name for report in reports)
    return _page(title, badges, lines, comparison_tables(reports), png)


def _badge(report: Report, whose: str = "") -> str:
    """Return the gate's verdict, in a colour."""
    kind = "none" if report.gate is None else "passed" if report.gate.passed else "failed"
    return f'<p class="gate {kind}">{html.escape(whose + gate_line(report))}</p>'


def _page(title: str, badges: Sequence[str], lines: Sequence[str], tables: Sequence[Table], png: bytes) -> str:
    picture = base64.b64encode(png).decode("ascii")
    first, others = (tables[:1], tables[1:])
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{html.escape(title)}</h1>",
            *badges,
            '<ul class="about">' + "".join(f"<li>{_words(line.removeprefix('- '))}</li>" for line in lines) + "</ul>",
            *(_table(table) for table in first),
            f'<img alt="Plots of the figures in the tables" src="data:image/png;base64,{picture}">' if png else "",
            *(_table(table) for table in others),
            "</body></html>",
        )
    )


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{_words(cell)}</th>' for cell in table.head)
    rows = "".join(f"<tr>{_cells(row)}</tr>" for row in table.rows)
    note = f'<p class="note">{_words(table.note)}</p>' if table.note else ""
    return (
        f'<h2>{html.escape(table.title)}</h2><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{note}"
    )


def _cells(row: Sequence[str]) -> str:
    first, *others = row
    kind = ' class="sub"' if first.startswith("  ") else ""
    return f"<td{kind}>{_words(first.strip())}</td>" + "".join(f"<td>{_words(cell)}</td>" for cell in others)


def _words(text: str) -> str:
    text = _INTERVAL.sub(r'<span class="interval">\g<0></span>', html.escape(text))
    return _CODE.sub(r"<code>\1</code>", _BOLD.sub(r"<strong>\1</strong>", text))
