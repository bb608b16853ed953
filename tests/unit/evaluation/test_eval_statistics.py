"""Intervals hold what they promise, and paired tests find what is there and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thrift import some_or_all

from ashore.core.errors import InvalidRequest
from ashore.lab.evaluation import mean, mean_difference, ratio, ratio_change
from ashore.lab.evaluation.statistics import mcnemar


@some_or_all("seeds", 60, 150)
def test_nineteen_intervals_of_twenty_hold_the_truth(seeds: int) -> None:
    random = np.random.default_rng(1)
    for draw, truth in (
        (lambda: (random.random(150) < 0.8).astype(float), 0.8),
        (lambda: random.exponential(2.0, 150), 2.0),
    ):
        hits = sum(found.low <= truth <= found.high for found in (mean(draw(), seed=n) for n in range(seeds)))
        assert 0.90 <= hits / seeds <= 0.985


def test_a_perplexity_is_drawn_by_windows() -> None:
    random = np.random.default_rng(2)
    hits = 0
    for n in range(100):
        tokens = random.integers(50, 100, 60)
        nats = tokens * random.normal(3.0, 0.2, 60)
        found = ratio(nats, tokens, of=np.exp, seed=n)
        assert found.low < found.value < found.high
        hits += found.low <= np.exp(3.0) <= found.high
    assert 0.88 <= hits / 100 <= 0.99


def test_no_difference_is_called_one_in_twenty_times_at_most() -> None:
    random = np.random.default_rng(3)
    same_tasks = same_texts = 0
    for n in range(100):
        skill = random.random(200)
        a, b = (random.random(200) < skill).astype(float), (random.random(200) < skill).astype(float)
        same_tasks += mean_difference(a, b, seed=n).p_value < 0.05
        x, y = random.normal(3, 1, 80), random.normal(3, 1, 80)
        same_texts += ratio_change(x, y, np.ones(80), seed=n).p_value < 0.05
    assert same_tasks <= 0.08 * 100
    assert same_texts <= 0.11 * 100


def test_a_small_difference_on_the_same_items_is_found() -> None:
    random = np.random.default_rng(4)
    hard = random.normal(3, 1, 100)
    change = ratio_change(hard, hard * 1.01, np.ones(100), of=np.expm1)
    assert change.p_value < 0.01
    assert change.low > 0
    assert mean(hard).low < 3.03 < mean(hard).high  # two intervals by themselves would see nothing


def test_mcnemar_is_the_binomial_test() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 5) == 1.0
    assert mcnemar(0, 5) == pytest.approx(2 * 0.5**5)
    assert mcnemar(1, 9) == mcnemar(9, 1) == pytest.approx(2 * (1 + 10) / 1024)
    assert 0 <= mcnemar(400, 600) < 1e-9


def test_all_right_is_not_certainty() -> None:
    found = mean([1.0] * 50)
    assert found.value == 1.0
    assert 0.92 < found.low < 0.94
    assert mean([0.0] * 50).high == pytest.approx(1 - found.low)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=40))
def test_an_interval_lies_among_the_items(values: list[float]) -> None:
    found = mean(values)
    slack = 1e-9 + 1e-9 * max(values)
    assert found.low <= found.high
    if set(values) - {0.0, 1.0}:
        assert min(values) - slack <= found.low
        assert found.high <= max(values) + slack


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="3 items with 2"):
        mean_difference([1, 0, 1], [1, 0])
    with pytest.raises(InvalidRequest, match="no items"):
        mean([])
