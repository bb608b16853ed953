"""A report that opens in any browser, with nothing beside it: `report.html`, and its figures as `figures.json`."""

from __future__ import annotations

import base64
import io
import json
import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

STYLE = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")


@dataclass
class Report:
    """What a run found. Fill it from top to bottom, then `write` it."""

    title: str
    summary: str
    """One paragraph that a person without time reads alone."""
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    shown: list[str] = field(default_factory=list)
    """What the run shows, one sentence each."""
    not_shown: list[str] = field(default_factory=list)
    """What it does not show: the reader's own data, other machines, what was generated."""
    _tiles: list[str] = field(default_factory=list)
    _body: list[str] = field(default_factory=list)

    def figure(
        self, name: str, value: object, text: str, label: str, *, bar: str = "", met: bool | None = None, note: str = ""
    ) -> None:
        """Add a headline figure.

        Args:
            name: Its key in figures.json.
            value: The plain number (or list) for figures.json.
            text: The number as people read it, with its unit.
            label: What it is.
            bar: What was asked for, such as `at most 1 GiB`.
            met: Whether the bar is met; None without a bar.
            note: How it was measured, its interval.
        """
        self.figures[name] = {"value": value, "text": text, "label": label, "bar": bar, "met": met, "note": note}
        print(f"{label:<52} {text}{f'   ({bar}: ' + ('met' if met else 'MISSED') + ')' if bar else ''}", flush=True)
        kind = "" if met is None else " met" if met else " missed"
        said = f"<small>{escape(bar)}: <b>{'met' if met else 'missed'}</b></small>" if bar else ""
        note = f"<small>{escape(note)}</small>" if note else ""
        self._tiles.append(
            f'<div class="figure{kind}"><b>{escape(text)}</b><span>{escape(label)}</span>{said}{note}</div>'
        )

    def text(self, heading: str, *paragraphs: str) -> None:
        """Add a section of text; without a heading it goes on."""
        self._heading(heading)
        self._body += [f"<p>{escape(one)}</p>" for one in paragraphs]

    def quote(self, heading: str, text: str) -> None:
        """Add text that a model wrote, marked as a quotation."""
        self._heading(heading)
        self._body.append(f"<blockquote>{escape(text)}</blockquote>")

    def table(self, heading: str, columns: Sequence[str], rows: Sequence[Sequence[object]], note: str = "") -> None:
        """Add a table; numbers go to the right."""
        self._heading(heading)
        right = {i for i in range(len(columns)) if rows and all(_is_number(row[i]) for row in rows)}
        cells = [["th", columns], *(["td", row] for row in rows)]
        kind = [' class="n"' if i in right else "" for i in range(len(columns))]
        lines = [
            "".join(f"<{tag}{kind[i]}>{escape(str(one))}</{tag}>" for i, one in enumerate(row)) for tag, row in cells
        ]
        self._body.append(f'<div class="wide"><table>{"".join(f"<tr>{line}</tr>" for line in lines)}</table></div>')
        self._body += [f'<p class="dim">{escape(note)}</p>'] if note else []

    def picture(self, caption: str, light: bytes, dark: bytes | None = None, kind: str = "png") -> None:
        """Add a picture, and another one for dark screens."""
        source = f'<source media="(prefers-color-scheme: dark)" srcset="{_data(dark, kind)}">' if dark else ""
        image = f'<picture>{source}<img src="{_data(light, kind)}" alt="{escape(caption)}"></picture>'
        self._body.append(f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>")

    def chart(
        self, heading: str, caption: str, draw: Callable[[Any, str], None], *, size: tuple[float, float] = (9, 3.6)
    ) -> None:
        """Add a chart: `draw(axes, colour)` is called once for light and once for dark screens.

        Args:
            heading: Heading of the section, or nothing.
            caption: What one sees.
            draw: Draws into matplotlib's axes; `colour` is that of the main series.
            size: Width and height in inches.
        """
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        self._heading(heading)
        pictures = []
        for style, ink, colour in (("default", "#5d6670", "#2563a8"), ("dark_background", "#9aa3ad", "#7fb4ee")):
            with pyplot.style.context(style):
                shape, axes = pyplot.subplots(figsize=size)
                draw(axes, colour)
                axes.spines[["top", "right"]].set_visible(False)
                axes.spines[["left", "bottom"]].set_color(ink)
                axes.tick_params(colors=ink)
                axes.xaxis.label.set_color(ink)
                axes.yaxis.label.set_color(ink)
                shape.savefig(saved := io.BytesIO(), format="svg", transparent=True, bbox_inches="tight")
                pyplot.close(shape)
            pictures.append(saved.getvalue())
        self.picture(caption, *pictures, kind="svg+xml")

    def write(self, folder: Path) -> None:
        """Write `report.html` and `figures.json` into `folder`, and print where the report is."""
        when, machine = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", f"{_processor()}, {os.cpu_count()} cores"
        facts = {"title": self.title, "when": when, "machine": machine, "figures": self.figures}
        facts |= {"shown": self.shown, "not_shown": self.not_shown}
        (folder / "figures.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        lists = [
            f"<div><h2>{title}</h2><ul>{''.join(f'<li>{escape(one)}</li>' for one in lines)}</ul></div>"
            for title, lines in (("What this shows", self.shown), ("What this does not show", self.not_shown))
        ]
        page = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f'<meta name="color-scheme" content="light dark"><title>{escape(self.title)}</title><style>{STYLE}</style>'
            f"<h1>{escape(self.title)}</h1><p>{escape(self.summary)}</p>"
            f'<div class="figures">{"".join(self._tiles)}</div>'
            f'<div class="two">{"".join(lists)}</div>{"".join(self._body)}'
            f'<h2>How this was made</h2><p class="dim">{escape(when)}, on {escape(machine)}, Python '
            f"{platform.python_version()}. The same figures are in figures.json beside this file.</p></html>\n"
        )
        (folder / "report.html").write_text(page, encoding="utf-8")
        print(f"report: {folder / 'report.html'}")

    def _heading(self, heading: str) -> None:
        self._body += [f"<h2>{escape(heading)}</h2>"] if heading else []


def _is_number(cell: object) -> bool:
    return str(cell).replace("−", "-").strip()[:1] in set("0123456789-.<>≤≥±–") or str(cell) == ""


def _data(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _processor() -> str:
    found = subprocess.run(["lscpu"], capture_output=True, text=True, check=False) if Path("/proc").exists() else None
    lines = found.stdout.splitlines() if found else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("Model name")]
    return names[0] if names else platform.machine()
