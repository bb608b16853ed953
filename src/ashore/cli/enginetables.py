"""How engines and tunings look on a terminal: tables on stdout, progress on stderr."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from ashore.data.engines.tuning import Candidate, EngineHere, Trial, TuneReport

NARROWEST = 100
"""Columns of a table that is not shown on a terminal."""


def show_cards(cards: Sequence[EngineHere]) -> None:
    """Print one row for each engine."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("engine", "version", "takes", "architectures"):
        table.add_column(name, overflow="fold")
    for card in cards:
        version = card.version or ("installed" if card.installed and not card.missing else "-")
        table.add_row(card.kind, version, " ".join(card.takes), card.architectures)
    console = _console()
    console.print(table)
    console.print()
    for card in cards:
        console.print(
            f"{card.kind}: {card.what}"
            + (f"\n  can: {', '.join(card.features)}" if card.features else "")
            + (f"\n  missing: {card.missing}" if card.missing else ""),
            markup=False,
        )


def show_report(report: TuneReport) -> None:
    """Print what was measured, what failed, and the choice for each goal."""
    chosen: dict[str, list[str]] = {}
    for choice in report.choices:
        label = next(
            row.candidate.label
            for row in report.measured
            if (row.candidate.kind, row.candidate.variant, row.candidate.options)
            == (choice.kind, choice.variant, choice.options)
        )
        chosen.setdefault(label, []).append(choice.goal)
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    table.add_column("")
    table.add_column("candidate", overflow="fold")
    for name in ("1 stream", "4 streams", "16 streams", "prefill", "TTFT ms", "start s", "rounds"):
        table.add_column(name, justify="right")
    table.add_column("chosen for")
    for row in sorted(report.measured, key=lambda r: -r.typical.sixteen_tok_per_s):
        label, typical = row.candidate.label, row.typical
        table.add_row(
            "*" if label in report.frontier else "",
            label,
            f"{typical.one_tok_per_s:.1f}",
            f"{typical.four_tok_per_s:.0f}",
            f"{typical.sixteen_tok_per_s:.0f}",
            f"{typical.prefill_tok_per_s:,.0f}",
            f"{typical.ttft_ms:.1f}",
            f"{row.start_s:.1f}",
            str(len(row.rounds)),
            ", ".join(chosen.get(label, [])),
        )
    console = _console()
    console.print(
        f"{report.model} on {report.machine.cpu}, {report.machine.cores} cores; {report.took_s:.0f} s", markup=False
    )
    console.print(table)
    console.print(
        "in tokens/s; * is on the frontier: nothing else is faster both with 1 stream and with 16", style="dim"
    )
    if report.rejected:
        console.print("\nnot measured:")
        for rejected in report.rejected:
            console.print(f"  {rejected.label}: {rejected.reason}", markup=False, highlight=False, soft_wrap=True)
    console.print()
    for choice in report.choices:
        used = "  <- `ashore up` uses this" if choice.goal == report.goal else ""
        console.print(f"{choice.goal}: {choice.reason}{used}", markup=False, highlight=False, soft_wrap=True)
    for note in report.notes:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)


class TuningProgress:
    """A `Watcher` that draws a bar of the budget on stderr, or writes a line for each visit where there is no terminal.
    Use it in a `with` block."""

    def __init__(self, budget_s: float) -> None:
        self._live = sys.stderr.isatty()
        self._bars = Progress(
            _BudgetBar(),
            _Remaining(),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            disable=not self._live,
            transient=True,
        )
        self._task = self._bars.add_task("starting", total=budget_s)

    def __enter__(self) -> TuningProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def visiting(self, candidate: Candidate, *, spent_s: float, ends_s: float, seen: int, known: int) -> None:
        """See `Watcher.visiting`."""
        doing = f"{seen} of {known} measured; now {candidate.label}"
        if self._live:
            self._bars.update(self._task, description=doing)
        else:
            print(f"at most {ends_s - spent_s:.0f} s left; {doing}", file=sys.stderr, flush=True)

    def visited(self, candidate: Candidate, outcome: Trial | str) -> None:
        """See `Watcher.visited`."""
        if isinstance(outcome, str):
            self._bars.console.print(f"{candidate.label}: {outcome}", markup=False, highlight=False, soft_wrap=True)


class _BudgetBar(BarColumn):
    """A bar that moves with time, because one visit takes many seconds."""

    def render(self, task: Task):  # type: ignore[no-untyped-def]
        task.completed = min(task.total or 0.0, task.elapsed or 0.0)
        return super().render(task)


class _Remaining(ProgressColumn):
    """Seconds until the tuning must end."""

    def render(self, task: Task) -> Text:
        left_s = max(0.0, (task.total or 0.0) - (task.elapsed or 0.0))
        return Text(f"at most {left_s // 60:.0f}:{left_s % 60:02.0f} left", style="progress.remaining")


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=max(NARROWEST, console.width))
