"""How engines and tunings look on a terminal: tables on stdout, progress on stderr."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from ashore.cli.columns import say, table
from ashore.data.engines.tuning import Candidate, EngineHere, Trial, TuneReport


def show_cards(cards: Sequence[EngineHere]) -> None:
    """Print one row for each engine."""
    rows = [
        (
            card.kind,
            card.version or ("installed" if card.installed and not card.missing else "-"),
            " ".join(card.takes),
            card.architectures,
        )
        for card in cards
    ]
    table(("engine", "version", "takes", "architectures"), rows)
    print()
    for card in cards:
        say(f"{card.kind}: {card.what}")
        for name, text in (("can", ", ".join(card.features)), ("missing", card.missing)):
            if text:
                say(text, first=f"  {name}: ")


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
    rows = [
        (
            "*" if row.candidate.label in report.frontier else "",
            row.candidate.label,
            ", ".join(chosen.get(row.candidate.label, [])),
            f"{row.typical.one_tok_per_s:.1f}",
            f"{row.typical.four_tok_per_s:.0f}",
            f"{row.typical.sixteen_tok_per_s:.0f}",
            f"{row.typical.prefill_tok_per_s:,.0f}",
            f"{row.typical.ttft_ms:.1f}",
            f"{row.start_s:.1f}",
            str(len(row.rounds)),
        )
        for row in sorted(report.measured, key=lambda row: -row.typical.sixteen_tok_per_s)
    ]
    say(f"{report.model} on {report.machine.cpu}, {report.machine.cores} cores; {report.took_s:.0f} s")
    speeds = ("1 stream", "4 streams", "16 streams", "prefill", "TTFT ms", "start s", "rounds")
    table(("", "candidate", "chosen for", *speeds), rows, names=3)
    say("in tokens/s; * is on the frontier: nothing else is faster both with 1 stream and with 16")
    if report.rejected:
        print("\nnot measured:")
    for rejected in report.rejected:
        say(f"  {rejected.label}: {rejected.reason}")
    print()
    for choice in report.choices:
        say(f"{choice.goal}: {choice.reason}" + ("  <- `ashore up` uses this" if choice.goal == report.goal else ""))
    for note in report.notes:
        say(f"note: {note}")


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
