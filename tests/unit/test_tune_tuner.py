"""The course of a tuning, with a bench that costs manual time."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ashore.core.clock import ManualClock
from ashore.core.errors import AshoreError, DeadlineExceeded, EngineFailed, UnsupportedModel
from ashore.data.engines import EngineOptions
from ashore.data.engines.tuning import (
    GOALS,
    Candidate,
    Machine,
    Rejected,
    Round,
    Trial,
    Tuner,
    TuneReport,
    require_choices,
)

MACHINE = Machine(cpu="EPYC", cores=2)
Speeds = tuple[float, float]


def candidate(name: str) -> Candidate:
    options = EngineOptions(kind="openvino", threads=2, extra={"name": name})
    return Candidate(kind="openvino", variant="int8", precision="int8", options=options)


class PacedBench:
    """A bench on a manual clock: so many seconds to start and for each round, figures from a table."""

    def __init__(
        self,
        clock: ManualClock,
        speeds: Callable[[Candidate], Speeds | AshoreError],
        *,
        start_s: float = 3.0,
        round_s: float = 2.0,
        interrupt_at: int = 0,
    ) -> None:
        self.visits: list[tuple[str, int]] = []
        self._clock = clock
        self._speeds = speeds
        self._start_s = start_s
        self._round_s = round_s
        self._interrupt_at = interrupt_at

    def visit(self, candidate: Candidate, *, rounds: int, limit_s: float) -> Trial:
        self.visits.append((candidate.label, rounds))
        if len(self.visits) == self._interrupt_at:
            raise KeyboardInterrupt
        speeds = self._speeds(candidate)
        if isinstance(speeds, AshoreError):
            self._clock.advance(min(self._start_s, limit_s))
            raise speeds
        fitting = int((limit_s - self._start_s) // self._round_s)
        if fitting < 1:
            self._clock.advance(limit_s)
            raise DeadlineExceeded("not one round fitted")
        done = min(rounds, fitting)
        self._clock.advance(self._start_s + done * self._round_s)
        one, many = speeds
        seen = Round(
            one_tok_per_s=one, four_tok_per_s=2 * one, sixteen_tok_per_s=many, prefill_tok_per_s=1000, ttft_ms=30
        )
        return Trial(engine="openvino 1", start_s=self._start_s, took_s=done * self._round_s, rounds=(seen,) * done)


class Silent:
    """A watcher that only counts."""

    def __init__(self) -> None:
        self.outcomes: list[Trial | str] = []

    def visiting(self, candidate: Candidate, *, spent_s: float, ends_s: float, seen: int, known: int) -> None:
        assert 0 <= spent_s <= ends_s
        assert seen <= known

    def visited(self, candidate: Candidate, outcome: Trial | str) -> None:
        self.outcomes.append(outcome)


def tune(
    speeds: Callable[[Candidate], Speeds | AshoreError], count: int, *, budget_s: float = 300.0, **bench: float
) -> tuple[TuneReport, PacedBench, ManualClock]:
    clock = ManualClock()
    paced = PacedBench(clock, speeds, **bench)  # type: ignore[arg-type]
    tuner = Tuner(bench=paced, clock=clock, watcher=Silent(), budget_s=budget_s)
    report = tuner.run(
        [candidate(f"{i:02}") for i in range(count)], model="m", model_digest="sha256:1", machine=MACHINE
    )
    return report, paced, clock


def by_number(candidate: Candidate) -> Speeds:
    """Each further candidate is slower alone and better with many; one thread halves both."""
    number = int(str(candidate.options.extra["name"]))
    share = candidate.options.threads / 2
    return max(1.0, 200 - 10 * number) * share, (100 + 50 * number) * share


def test_all_are_seen_once_and_the_promising_ones_again() -> None:
    report, paced, clock = tune(by_number, 12)
    labels = [label for label, _ in paced.visits]
    assert labels[:12] == [candidate(f"{i:02}").label for i in range(12)]
    assert [rounds for _, rounds in paced.visits[:12]] == [1] * 12
    rounds = {row.candidate.options.extra["name"]: len(row.rounds) for row in report.measured}
    latency, throughput = report.choice_for("latency"), report.choice_for("throughput")
    assert latency and throughput
    assert (latency.options.extra["name"], throughput.options.extra["name"]) == ("00", "11")
    assert latency.num_rounds >= 7 and throughput.num_rounds >= 7
    assert sorted(rounds.values())[: len(rounds) // 2] == [1] * (len(rounds) // 2) or min(rounds.values()) == 1
    assert report.rejected == () and report.notes == () and all(c.complete for c in report.choices)
    assert clock.monotonic_s() <= 300


def test_fewer_threads_are_tried_of_the_best() -> None:
    def better_alone(candidate: Candidate) -> Speeds:
        return (100.0, 500.0) if candidate.options.threads == 2 else (150.0, 300.0)

    report, _, _ = tune(better_alone, 2)
    latency, throughput = report.choice_for("latency"), report.choice_for("throughput")
    assert latency and throughput
    assert latency.options.threads == 1 and throughput.options.threads == 2
    assert len(report.frontier) == 4


def test_a_short_budget_measures_the_first_guesses_and_says_what_had_no_turn() -> None:
    report, _, clock = tune(by_number, 12, budget_s=30)
    assert clock.monotonic_s() <= 30
    assert report.measured and report.choices
    late = [r for r in report.rejected if r.reason == "the time limit was reached before its turn"]
    assert late and not report.choices[0].complete
    assert report.notes == (f"{len(late)} candidates were not measured within 30 s; raise --budget-s",)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 30),
    budget_s=st.floats(3, 600),
    start_s=st.floats(0, 30),
    round_s=st.floats(0.5, 60),
)
def test_the_budget_holds_whatever_a_visit_costs(count: int, budget_s: float, start_s: float, round_s: float) -> None:
    report, _, clock = tune(by_number, count, budget_s=budget_s, start_s=start_s, round_s=round_s)
    assert clock.monotonic_s() <= budget_s
    told = {r.candidate.label for r in report.measured} | {r.label for r in report.rejected}
    assert told >= {candidate(f"{i:02}").label for i in range(min(count, 100))}
    assert bool(report.choices) == bool(report.measured)


def test_what_cannot_load_is_listed_with_its_reason() -> None:
    def some_fail(candidate: Candidate) -> Speeds | AshoreError:
        if candidate.options.extra["name"] == "01":
            return UnsupportedModel("no such kernel on this processor")
        return by_number(candidate)

    report, paced, _ = tune(some_fail, 3)
    assert report.rejected == (Rejected(label=candidate("01").label, reason="no such kernel on this processor"),)
    assert Counter(label for label, _ in paced.visits)[candidate("01").label] == 1
    assert all(c.complete for c in report.choices)


def test_what_ran_and_then_broke_is_not_chosen() -> None:
    calls, first = itertools.count(), candidate("00").label

    def breaks(candidate: Candidate) -> Speeds | AshoreError:
        if candidate.label == first and next(calls):
            return EngineFailed("its host died")
        return by_number(candidate)

    report, _, _ = tune(breaks, 12)
    assert first not in {r.candidate.label for r in report.measured}
    assert [r.reason for r in report.rejected] == ["ran 1 rounds, then failed: its host died"]


def test_an_interruption_keeps_what_was_measured_and_says_so() -> None:
    report, _, _ = tune(by_number, 12, interrupt_at=4)
    assert report.interrupted
    assert len(report.measured) == 3
    assert [c.goal for c in report.choices] == list(GOALS)
    assert not any(c.complete for c in report.choices)
    assert report.notes == ("interrupted: the choice is among the 3 candidates measured so far",)
    assert len(report.rejected) == 9


def test_nothing_measured_is_an_error_with_every_reason() -> None:
    report, _, _ = tune(lambda c: EngineFailed(f"{c.options.extra['name']} is broken"), 2)
    assert report.choices == ()
    with pytest.raises(EngineFailed, match=r"00 is broken; .*01 is broken"):
        require_choices(report)


def test_the_watcher_hears_of_each_visit() -> None:
    clock, watcher = ManualClock(), Silent()
    paced = PacedBench(clock, by_number)
    Tuner(bench=paced, clock=clock, watcher=watcher, budget_s=60).run(
        [candidate("00")], model="m", model_digest="d", machine=MACHINE
    )
    assert len(watcher.outcomes) == len(paced.visits) > 1


def on_a_moody_machine(seed: int) -> str:
    """Tune two settings of which the second is a tenth faster, where minutes differ by as much; return the chosen."""
    draw = random.Random(seed)
    clock = ManualClock()
    mood = [draw.gauss(1, 0.06) for _ in range(12)]

    def speeds(candidate: Candidate) -> Speeds:
        number = int(str(candidate.options.extra["name"]))
        share = mood[int(clock.monotonic_s() // 30) % len(mood)] * draw.gauss(1, 0.03)
        return (110.0 if number == 1 else 100.0 - 5 * number) * share, 200.0 * share

    paced = PacedBench(clock, speeds, start_s=1.5, round_s=4.0)
    tuner = Tuner(bench=paced, clock=clock, watcher=Silent(), budget_s=300)
    report = tuner.run([candidate(f"{i:02}") for i in range(8)], model="m", model_digest="d", machine=MACHINE)
    latency = report.choice_for("latency")
    assert latency
    return str(latency.options.extra["name"])


def test_a_machine_whose_speed_changes_hides_no_better_setting() -> None:
    chosen = Counter(on_a_moody_machine(seed) for seed in range(200))
    assert chosen["01"] >= 188
