"""The idle part of the processors, from what the kernel counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashore.core.clock import ManualClock
from ashore.kit.processes.idleness import LEAST_S, Idleness


def test_it_is_that_of_the_time_since_it_was_asked_before(tmp_path: Path) -> None:
    stat, clock = tmp_path / "stat", ManualClock()
    idleness = Idleness(stat=stat, monotonic_s=clock.monotonic_s)
    stat.write_text("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 1 1 1\n")
    assert idleness.part() == pytest.approx(0.8)
    stat.write_text("cpu  190 0 100 710 100 0 0 0 0 0\n")
    assert idleness.part() == pytest.approx(0.8), "too soon"
    clock.advance(LEAST_S)
    assert idleness.part() == pytest.approx(0.1)


def test_where_the_system_does_not_tell_nothing_is_idle(tmp_path: Path) -> None:
    assert Idleness(stat=tmp_path / "none").part() == 0
    (tmp_path / "odd").write_text("cpu 1 2\n")
    assert Idleness(stat=tmp_path / "odd").part() == 0
    assert 0 <= Idleness().part() <= 1
