"""Measuring in the background of `ashore up`: in quiet times alone, and never in a request's way."""

from __future__ import annotations

from dataclasses import dataclass, field

from ashore.cli.uptune import LOOK_EVERY_S, QUIET_S, REST_S, FirstTuning
from ashore.core.clock import ManualClock


@dataclass
class Measuring:
    name: str
    code: int | None = None
    killed: bool = False

    def poll(self) -> int | None:
        return self.code

    def kill(self) -> None:
        self.killed = True

    def wait(self) -> int:
        return -9


@dataclass
class Bench:
    names: tuple[str, ...] = ("m",)
    steps: int | None = 7
    clock: ManualClock = field(default_factory=ManualClock)
    started: list[Measuring] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tuning = FirstTuning(
            self.names,
            work_done=lambda: self.steps,
            start=self.start,
            take=self.taken.append,
            say=self.said.append,
            clock=self.clock,
        )

    def start(self, name: str) -> Measuring:
        self.started.append(Measuring(name))
        return self.started[-1]

    def quiet(self, seconds: float = QUIET_S) -> None:
        self.tuning.look()
        self.clock.advance(seconds)
        self.tuning.look()


def test_it_waits_for_a_quiet_time_measures_each_model_once_and_rests() -> None:
    bench = Bench(("a", "b"))
    bench.quiet(QUIET_S - 1)
    assert bench.started == []
    bench.clock.advance(1)
    assert bench.tuning.look() < LOOK_EVERY_S
    assert [one.name for one in bench.started] == ["a"]
    bench.tuning.look()
    assert bench.taken == []
    bench.started[0].code = 0
    bench.tuning.look()
    assert bench.taken == ["a"]
    bench.steps = 0  # hosts were replaced
    bench.quiet()
    bench.started[1].code = 2
    bench.tuning.look()
    assert (bench.taken, "b could not be measured" in bench.said[-1]) == (["a"], True)
    assert bench.tuning.look() == REST_S
    assert len(bench.started) == 2


def test_a_request_ends_the_measurement_which_starts_over_later() -> None:
    bench = Bench()
    bench.quiet()
    bench.steps = 8
    bench.tuning.look()
    assert bench.started[0].killed and "given up for a request" in bench.said[-1]
    bench.quiet(QUIET_S - 1)
    assert len(bench.started) == 1
    bench.clock.advance(1)
    bench.tuning.look()
    assert len(bench.started) == 2
    bench.steps = None  # a host is too busy to report
    bench.tuning.look()
    assert not bench.started[1].killed
    bench.steps = 9
    bench.tuning.look()
    assert bench.started[1].killed


def test_a_host_that_does_not_report_is_not_quiet() -> None:
    bench = Bench()
    bench.tuning.look()
    bench.clock.advance(QUIET_S)
    bench.steps = None
    bench.tuning.look()
    assert bench.started == []


def test_the_end_of_the_server_is_the_end_of_the_measurement() -> None:
    bench = Bench()
    bench.tuning.stop()
    bench.quiet()
    bench.tuning.stop()
    bench.tuning.stop()
    assert bench.started[0].killed
