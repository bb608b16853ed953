"""What the machine's stalls make of a percentile, reckoned."""

from __future__ import annotations

import random

import pytest
from benchmarks.front.stalls import Stalls, queued_p99_ms, read_stalls

CALM = Stalls(seconds=5.0, by_processor={0: [], 1: []})


def _queued(stalls: Stalls, *, edge_us: float = 120, worker_us: float = 100, generator_us: float = 40) -> float:
    return queued_p99_ms(stalls, edge_us=edge_us, worker_us=worker_us, generator_us=generator_us, rate_per_s=5000)


def test_read_stalls_names_a_processor_without_any() -> None:
    stalls = read_stalls("0 0 0\n0 1.500000 0.004000\n0 2.000000 0.000050\n1 0 0\n", 10.0)
    assert stalls.by_processor == {0: [(1.5, 0.004), (2.0, 0.00005)], 1: []}
    assert stalls.share(0) == pytest.approx(0.0004)
    assert stalls.worst_share == stalls.share(0)
    assert stalls.longest_ms == pytest.approx(4)


def test_without_stalls_a_request_takes_its_work_and_some_waiting() -> None:
    assert 0.26 < _queued(CALM) < 4


def test_more_work_waits_longer() -> None:
    assert _queued(CALM, worker_us=50) < _queued(CALM, worker_us=150)


def test_a_queue_with_one_customer_at_a_time_takes_its_work_alone() -> None:
    stalls = Stalls(seconds=100.0, by_processor={0: [], 1: []})
    alone = queued_p99_ms(stalls, edge_us=120, worker_us=100, generator_us=40, rate_per_s=2)
    assert alone == pytest.approx(0.26, abs=0.02)


def test_stalls_for_over_a_hundredth_of_the_time_decide_the_percentile() -> None:
    at = random.Random(2)
    stalls = [(second + at.random() * 0.9, 0.020) for second in range(5)]
    for processor in (0, 1):
        stalled = Stalls(seconds=5.0, by_processor={processor: stalls, 1 - processor: []})
        assert stalled.worst_share == pytest.approx(0.02)
        assert 10 < _queued(stalled, edge_us=2, worker_us=2, generator_us=2) < 20, "the work is next to nothing"
        assert _queued(stalled) > _queued(CALM)
