"""What the choice by opening is worth, simulated with the real pool: prefix hits, times to the first token, skew."""

from __future__ import annotations

import functools

import pytest
from prefix_sim import Asked, Seen, load_of, replay, trace


@functools.cache
def asked(mix: str, views: int) -> tuple[Asked, ...]:
    return tuple(trace(1, 500, load_of(0.7, 4, mix), mix, views))


@functools.cache
def best(mix: str, views: int) -> Seen:
    return replay(list(asked(mix, views)), "clairvoyant", views=views)


@pytest.mark.parametrize("views", [1, 8])
def test_conversations_hit_as_if_every_cache_were_known_however_many_fronts_there_are(views: int) -> None:
    seen = replay(list(asked("all", views)), "opening", views=views)
    least = replay(list(asked("all", views)), "least", views=views)
    assert seen.hits >= 0.95 * best("all", views).hits
    assert seen.mean_s <= 0.6 * least.mean_s
    assert seen.fullest < 1.5


def test_a_server_that_is_lost_costs_its_own_prefixes_only() -> None:
    seen = replay(list(asked("all", 4)), "opening", servers=5, views=4, lose=True)
    assert seen.hits >= 0.95 * replay(list(asked("all", 4)), "clairvoyant", servers=5, views=4, lose=True).hits


@pytest.mark.parametrize("views", [1, 4])
def test_questions_that_never_return_wait_no_longer_than_at_the_least_loaded(views: int) -> None:
    seen = replay(list(asked("oneshot", views)), "opening", views=views)
    assert seen.mean_s <= 1.02 * replay(list(asked("oneshot", views)), "least", views=views).mean_s
