"""A tuning is kept, found again, and refused on an unlike machine; and drawn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ashore.core.clock import ManualClock
from ashore.core.errors import Bug
from ashore.data.engines import EngineOptions
from ashore.data.engines.tuning import (
    GOALS,
    Candidate,
    Goal,
    Machine,
    Measured,
    Round,
    TunedChoice,
    TuneReport,
    Unused,
    record_choice,
    recorded_choice,
    report_path,
    save_report,
)
from ashore.data.engines.tuning.records import read_report
from ashore.data.engines.tuning.rules import frontier
from ashore.data.engines.tuning.tuner import make_choices
from ashore.kit.state import Database, open_database

HERE = Machine(cpu="EPYC", cores=2, versions={"openvino": "2026.4.1"})
DIGEST = "sha256:" + "a" * 64


def report(goal: Goal = "balanced", *, at_s: int = 100, fast: int = 2, machine: Machine = HERE) -> TuneReport:
    rows = tuple(
        Measured(
            candidate=Candidate(
                kind="openvino", variant="int8", precision="int8", options=EngineOptions(kind="openvino", threads=n)
            ),
            engine="openvino 2026.4.1",
            start_s=3.0,
            rounds=(
                Round(
                    one_tok_per_s=200.0 - 50 * n, four_tok_per_s=1, sixteen_tok_per_s=400.0 * n * (n <= fast) + 1,
                    prefill_tok_per_s=1, ttft_ms=1,
                ),
            ),
        )
        for n in (1, 2)
    )  # fmt: skip
    points = [(r.typical.one_tok_per_s, r.typical.sixteen_tok_per_s) for r in rows]
    return TuneReport(
        model="m", model_digest=DIGEST, machine=machine, goal=goal, measured_at_s=at_s, budget_s=300, took_s=20,
        interrupted=False, measured=rows, rejected=(),
        frontier=tuple(rows[i].candidate.label for i in frontier(points)),
        choices=make_choices(
            rows, model="m", model_digest=DIGEST, machine=machine, measured_at_s=at_s, complete=True
        ),
    )  # fmt: skip


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Database]:
    database = open_database(tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=ManualClock())
    yield database
    database.close()


def find(
    state: Database, *, goal: Goal | None = None, digest: str = DIGEST, here: Machine = HERE
) -> TunedChoice | Unused | None:
    with state.read() as connection:
        return recorded_choice(connection, model="m", model_digest=digest, here=here, goal=goal)


def put(state: Database, made: TuneReport) -> None:
    with state.write() as connection:
        record_choice(connection, made)


def test_a_choice_is_found_again_with_its_evidence(state: Database) -> None:
    assert find(state) is None
    put(state, report("latency"))
    found = find(state)
    assert isinstance(found, TunedChoice)
    assert (found.goal, found.options.threads, found.complete) == ("latency", 1, True)
    assert found.machine == HERE and found.measured.one_tok_per_s == 150
    with state.read() as connection:
        from ashore.kit.state import load_tuning

        row = load_tuning(connection, model="m", goal="latency")
    assert row is not None
    assert msgspec.json.decode(row.report, type=TuneReport) == report("latency")


def test_the_last_tuning_decides_what_up_uses(state: Database) -> None:
    put(state, report("latency", at_s=100))
    put(state, report("throughput", at_s=200))
    found = find(state)
    assert isinstance(found, TunedChoice) and found.goal == "throughput" and found.options.threads == 2
    asked = find(state, goal="latency")
    assert isinstance(asked, TunedChoice) and asked.options.threads == 1


@pytest.mark.parametrize(
    ("digest", "here", "word"),
    [
        (DIGEST, Machine(cpu="Xeon", cores=2, versions=HERE.versions), "another processor"),
        (DIGEST, Machine(cpu="EPYC", cores=4, versions=HERE.versions), "2 cores"),
        (DIGEST, Machine(cpu="EPYC", cores=2, versions={"openvino": "2027.1"}), "openvino was 2026.4.1"),
        ("sha256:" + "b" * 64, HERE, "the model has changed"),
    ],
)
def test_a_record_that_does_not_fit_is_refused_with_the_reason(
    state: Database, digest: str, here: Machine, word: str
) -> None:
    put(state, report())
    found = find(state, digest=digest, here=here)
    assert isinstance(found, Unused)
    assert word in found.reason and "ashore engine tune m" in found.reason


def test_a_record_that_cannot_be_read_is_refused_with_the_reason(state: Database) -> None:
    from ashore.kit.state import TuningRow, save_tuning

    with state.write() as connection:
        save_tuning(connection, TuningRow(model="m", goal="balanced", choice="{}", report="", measured_at_s=1))
    found = find(state)
    assert isinstance(found, Unused) and "cannot be read" in found.reason


def test_nothing_chosen_is_not_recorded(state: Database) -> None:
    empty = msgspec.structs.replace(report(), choices=())
    with pytest.raises(Bug), state.write() as connection:
        record_choice(connection, empty)


def test_the_report_is_written_whole_and_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "tuning"
    save_report(report(at_s=1), folder)
    path = save_report(report(at_s=2), folder)
    assert read_report(path) == report(at_s=2)
    assert [p.name for p in folder.iterdir()] == ["m.json"]
    assert report_path(folder, "fake:echo?a=1").name == "fake_echo_a_1.json"
    assert [c.goal for c in read_report(path).choices] == list(GOALS)
