"""The search for layers with four bits: on invented losses, the answer is known."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ashore.engines import Layer
from ashore.optimize import Increase
from ashore.optimize.layersearch import choice_of, narrow, rank_layers, search_prefix


def layer(name: str, saved: int) -> Layer:
    return Layer(name=name, num_weights=2 * saved, saved_bytes=saved)


def sure(loss: float) -> Increase:
    return Increase(mean=loss, error=0.0, num_tokens=1000)


def test_layers_go_by_loss_for_each_byte_and_gains_first_by_size() -> None:
    layers = [layer("dear", 10), layer("cheap", 100), layer("lucky", 5), layer("luckier", 50)]
    losses = {"dear": 0.01, "cheap": 0.01, "lucky": -0.1, "luckier": -0.001}
    assert [x.name for x in rank_layers(layers, losses)] == ["luckier", "lucky", "cheap", "dear"]


@given(st.lists(st.floats(0, 0.01), min_size=1, max_size=60), st.floats(0.0001, 0.05))
def test_the_longest_beginning_within_the_floor_is_found(losses: list[float], floor: float) -> None:
    layers = [layer(str(i), 1) for i in range(len(losses))]
    asked: list[int] = []

    def measure(small: frozenset[str]) -> float:
        asked.append(len(small))
        return sum(losses[int(name)] for name in small)

    found = search_prefix(layers, measure, floor=floor)
    count = len(found.small)
    assert found.small == choice_of(layers, count)
    assert sum(losses[:count]) <= floor
    assert count == len(layers) or sum(losses[: count + 1]) > floor
    assert len(asked) <= len(layers).bit_length()


@given(st.integers(0, 120), st.integers(0, 120), st.floats(0.5, 3))
def test_narrowing_ends_at_a_number_that_holds(first: int, limit: int, steepness: float) -> None:
    def judge(count: int) -> Increase:
        return sure(0.002 + 0.008 * (count / max(limit, 1)) ** steepness)

    found = narrow(first, judge, floor=0.01, most=120, trials=7)
    assert found is not None and found[1] == judge(found[0]) and found[1].upper <= 0.01


def test_narrowing_comes_close_within_its_trials() -> None:
    asked: list[int] = []

    def loss(count: int) -> float:
        return 0.002 + 0.00005 * count + 0.000001 * count**2

    def judge(count: int) -> Increase:
        asked.append(count)
        return sure(loss(count))

    found = narrow(110, judge, floor=0.01, most=120, trials=7)
    assert found is not None and len(asked) <= 7
    assert found[0] >= 0.9 * max(c for c in range(121) if loss(c) <= 0.01)


def test_where_eight_bits_lose_too_much_nothing_is_found() -> None:
    assert narrow(5, lambda count: sure(0.02), floor=0.01, most=10, trials=3) is None


def test_a_loss_within_the_floor_by_less_than_its_error_does_not_hold() -> None:
    def judge(count: int) -> Increase:
        return Increase(mean=0.008, error=0.001 if count <= 4 else 0.003, num_tokens=1000)

    found = narrow(8, judge, floor=0.01, most=10, trials=7)
    assert found is not None and found[0] == 4
