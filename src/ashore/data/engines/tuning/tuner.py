"""The course of one tuning: a look at every candidate, then a race, within a budget of time.

Every candidate is measured once, and the best are tried with fewer threads. Then all that may still be the best take
turns, in short visits, so that a machine whose speed varies favours none of them. Measurements before an interruption
count.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from ashore.core.clock import Clock
from ashore.core.errors import AshoreError, DeadlineExceeded, EngineFailed
from ashore.data.engines.tuning.model import (
    GOALS,
    Candidate,
    Goal,
    Machine,
    Measured,
    Rejected,
    TunedChoice,
    TuneReport,
)
from ashore.data.engines.tuning.ports import Bench, Trial, Watcher
from ashore.data.engines.tuning.rules import (
    by_promise,
    choose,
    contenders,
    explain,
    fewer_threads,
    figures,
    frontier,
    leaner,
)

LEAST_VISIT_S: Final = 2.0
"""A visit that would have less time than this is not begun."""
SETTLE_S: Final = 1.0
"""Kept for stopping the last host and writing the report, so that the budget holds for the whole command."""
FIRST_RUNG_SHARE: Final = 0.6
"""Share of the budget that the first look at all candidates may take; the rest goes to the promising ones."""
MOST_ROUNDS: Final = 12
"""More rounds move a median by less than noise."""

ROUNDS_OF_RACE: Final = 2
"""In one visit of the race. Few, for what two settings are seen to differ by must not be what two minutes differ by."""

LONGEST_REASON: Final = 300

_log = logging.getLogger(__name__)


class Tuner:
    """Measures candidates and chooses among them. One object makes one report."""

    def __init__(self, *, bench: Bench, clock: Clock, watcher: Watcher, budget_s: float) -> None:
        self._bench = bench
        self._clock = clock
        self._watcher = watcher
        self._budget_s = budget_s
        self._start_s = clock.monotonic_s()
        self._rows: dict[str, Measured] = {}
        self._rejected: dict[str, str] = {}
        self._waiting: dict[str, Candidate] = {}
        self._cost_s: dict[str, tuple[float, float]] = {}
        """Seconds that the last visit took to start, and for each round."""
        self._spent: set[str] = set()
        """Candidates whose next visit would not fit any more."""

    @property
    def _left_s(self) -> float:
        return self._budget_s - SETTLE_S - (self._clock.monotonic_s() - self._start_s)

    def run(
        self,
        candidates: Sequence[Candidate],
        *,
        model: str,
        model_digest: str,
        machine: Machine,
        goal: Goal = "balanced",
        skipped: Sequence[Rejected] = (),
        notes: Sequence[str] = (),
    ) -> TuneReport:
        """Measure in the order of `candidates`, best guesses first, and return measurements and choices.

        Returns within the budget, plus the time that one host takes to stop. Ctrl-C ends the measuring, not the report.
        """
        self._waiting = {c.label: c for c in candidates}
        interrupted = False
        try:
            self._measure(machine.cores)
        except KeyboardInterrupt:
            interrupted = True
        late = [Rejected(label=label, reason="the time limit was reached before its turn") for label in self._waiting]
        return self._report(
            model=model,
            model_digest=model_digest,
            machine=machine,
            goal=goal,
            interrupted=interrupted,
            rejected=[*skipped, *(Rejected(label=k, reason=v) for k, v in self._rejected.items()), *late],
            unseen=len(late),
            notes=notes,
        )

    def _measure(self, cores: int) -> None:
        first_end_s = self._left_s * (1 - FIRST_RUNG_SHARE)
        self._rung(tuple(self._waiting.values()), rounds=1, until_left_s=first_end_s)
        best = by_promise(tuple(self._rows.values()))[: len(GOALS)]
        more = fewer_threads(best, tuple(self._rows), cores=cores)
        if more:
            new = tuple(c for c in more if c.label not in self._rejected)
            self._waiting.update((c.label, c) for c in new)
            self._rung(new, rounds=1)
        self._race()

    def _race(self) -> None:
        """Spend the remaining time on those that may still be chosen, least measured first, until more would change
        nothing."""
        while True:
            racing = [
                r
                for r in contenders(tuple(self._rows.values()))
                if len(r.rounds) < MOST_ROUNDS and r.candidate.label not in self._spent
            ]
            if not racing:
                return
            least_seen = min(racing, key=lambda r: len(r.rounds))
            if not self._rung((least_seen.candidate,), rounds=ROUNDS_OF_RACE):
                return

    def _rung(self, candidates: Sequence[Candidate], *, rounds: int, until_left_s: float = 0.0) -> bool:
        """Visit each candidate; return False if the time was over before the last of them."""
        for candidate in candidates:
            start_s, round_s = self._cost_s.get(candidate.label, (LEAST_VISIT_S, 0.0))
            needed_s = max(LEAST_VISIT_S, start_s + round_s * rounds)
            if self._left_s < needed_s or (self._rows and self._left_s < until_left_s):
                return False
            self._visit(candidate, rounds)
        return True

    def _visit(self, candidate: Candidate, rounds: int) -> None:
        self._watcher.visiting(
            candidate,
            spent_s=self._clock.monotonic_s() - self._start_s,
            ends_s=self._budget_s,
            seen=len(self._rows),
            known=len(self._rows) + len(self._waiting),
        )
        try:
            trial = self._bench.visit(candidate, rounds=rounds, limit_s=self._left_s)
        except DeadlineExceeded as error:
            self._failed(candidate, error.message, keep=True)
        except AshoreError as error:
            self._failed(candidate, error.message, keep=False)
        else:
            self._waiting.pop(candidate.label, None)
            self._cost_s[candidate.label] = (trial.start_s, trial.took_s / len(trial.rounds))
            self._rows[candidate.label] = self._merged(candidate, trial)
            self._watcher.visited(candidate, trial)

    def _failed(self, candidate: Candidate, reason: str, *, keep: bool) -> None:
        """Record a failure. One that only ran out of time keeps earlier figures; one that broke cannot be chosen."""
        reason = in_short(reason)
        label = candidate.label
        self._waiting.pop(label, None)
        if keep and label in self._rows:
            self._spent.add(label)
        else:
            earlier = self._rows.pop(label, None)
            self._rejected[label] = f"ran {len(earlier.rounds)} rounds, then failed: {reason}" if earlier else reason
        _log.info("%s: %s", label, reason)
        self._watcher.visited(candidate, reason)

    def _merged(self, candidate: Candidate, trial: Trial) -> Measured:
        earlier = self._rows.get(candidate.label)
        return Measured(
            candidate=candidate,
            engine=trial.engine,
            start_s=trial.start_s,
            rounds=(*(earlier.rounds if earlier else ()), *trial.rounds),
        )

    def _report(
        self,
        *,
        model: str,
        model_digest: str,
        machine: Machine,
        goal: Goal,
        interrupted: bool,
        rejected: Sequence[Rejected],
        unseen: int,
        notes: Sequence[str],
    ) -> TuneReport:
        rows = by_promise(tuple(self._rows.values()))
        now_s = int(self._clock.now_s())
        points = [figures(row) for row in rows]
        told = list(notes)
        if interrupted:
            told.append(f"interrupted: the choice is among the {len(rows)} candidates measured so far")
        elif unseen:
            told.append(f"{unseen} candidates were not measured within {self._budget_s:.0f} s; raise --budget-s")
        return TuneReport(
            model=model,
            model_digest=model_digest,
            machine=machine,
            goal=goal,
            measured_at_s=now_s,
            budget_s=self._budget_s,
            took_s=self._clock.monotonic_s() - self._start_s,
            interrupted=interrupted,
            measured=rows,
            rejected=tuple(rejected),
            frontier=tuple(rows[i].candidate.label for i in frontier(points)),
            choices=make_choices(
                rows,
                model=model,
                model_digest=model_digest,
                machine=machine,
                measured_at_s=now_s,
                complete=not (interrupted or unseen),
            ),
            notes=tuple(told),
        )


def make_choices(
    rows: Sequence[Measured], *, model: str, model_digest: str, machine: Machine, measured_at_s: int, complete: bool
) -> tuple[TunedChoice, ...]:
    """Return one choice for each goal, none where there are no rows."""
    if not rows:
        return ()
    made = []
    for goal in GOALS:
        row = leaner(rows, choose(rows, goal))
        made.append(
            TunedChoice(
                model=model,
                model_digest=model_digest,
                goal=goal,
                kind=row.candidate.kind,
                variant=row.candidate.variant,
                options=row.candidate.options,
                measured=row.typical,
                num_rounds=len(row.rounds),
                reason=explain(row, goal, rows),
                machine=machine,
                measured_at_s=measured_at_s,
                complete=complete,
            )
        )
    return tuple(made)


def in_short(reason: str) -> str:
    """Return a library's message on one line, its beginning and end: the log has the rest."""
    words = " ".join(reason.split())
    if len(words) <= LONGEST_REASON:
        return words
    half = LONGEST_REASON // 2
    return f"{words[:half]} … {words[-half:]}"


def require_choices(report: TuneReport) -> TuneReport:
    """Return `report` if it has a choice.

    Raises:
        EngineFailed: no candidate ran; the message has every reason.
    """
    if report.choices:
        return report
    reasons = "; ".join(f"{r.label}: {r.reason}" for r in report.rejected) or "there are no candidates"
    raise EngineFailed(
        f"nothing could be measured for {report.model}: {reasons}",
        hint="raise --budget-s, or run `ashore engine list` to see what is installed",
    )
