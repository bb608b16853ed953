"""Cards that models share, simulated."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from benchmarks.dispatch.__main__ import pool
from benchmarks.dispatch.pool import Pool, _given, _pour, bound, demand, most, share

from ashore.core.errors import InvalidRequest

SMALL = Pool(cards=8, logical=16, models=6, seconds=120)


def test_the_load_is_as_large_as_asked_for() -> None:
    steady = Pool(cards=8, logical=16, models=6, seconds=600, variation=0.1)
    assert demand(steady, 0.5).sum() / (8 * 600) == pytest.approx(0.5, rel=0.05)


def test_a_fixed_part_stays_a_part_and_a_borrowed_one_does_not() -> None:
    one_works = np.array([[1.0, 0.0]])
    assert _given(one_works, "fixed", 0.05).tolist() == [[0.05, 0.0]]
    assert _given(one_works, "borrowing", 0.05).tolist() == [[0.1, 0.0]]
    both_work = _given(np.array([[1.0, 1.0]]), "borrowing", 0.1)
    assert both_work.sum() == pytest.approx(0.09)


def test_work_is_poured_to_one_level() -> None:
    queue = np.array([3.0, 1.0, 0.0, 9.0])
    _pour(queue, np.array([0, 1, 2]), 2.0)
    assert queue.tolist() == [3.0, 1.5, 1.5, 9.0]


def test_each_way_keeps_the_cards_fuller_than_the_one_before() -> None:
    found = {way: most(SMALL, way) for way in ("dedicated", "borrowing", "moving", "filled")}  # type: ignore[arg-type]
    assert found["dedicated"].load < found["borrowing"].load < found["moving"].load + 0.01
    assert found["filled"].productive > found["moving"].productive
    assert all(one.in_time >= 0.99 for one in found.values())
    assert all(one.productive <= 1 for one in found.values())


def test_no_way_is_above_the_bound_and_the_bound_is_less_where_all_peak_together() -> None:
    assert most(SMALL, "moving").load <= bound(SMALL) + 0.01
    steady = Pool(cards=8, logical=16, models=6, seconds=600, variation=0.1)
    one_model = Pool(cards=8, logical=16, models=1, seconds=600, variation=1.5)
    assert bound(steady) > 0.95 > 0.8 > bound(one_model)
    assert bound(one_model) < bound(replace(one_model, slo_s=60.0))


def test_too_much_is_not_in_time() -> None:
    assert share(SMALL, "moving", 1.5).in_time < 0.9


def test_the_command_prints_each_way(capsys: pytest.CaptureFixture[str]) -> None:
    pool(cards=4, logical=8, models=3, seconds="60s", as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert 0 < told["bound"] <= 1.2
    assert [one["way"] for one in told["ways"]] == ["dedicated", "fixed", "borrowing", "moving", "filled"]
    with pytest.raises(InvalidRequest, match="--logical 9 is no multiple"):
        pool(cards=4, logical=9, models=3)
    with pytest.raises(InvalidRequest, match="--models 40 is more than --cards 32"):
        pool(models=40)
