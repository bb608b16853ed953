"""The search for layers with four bits: on invented losses, the answer is known."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ashore.engines import Layer
from ashore.optimize.layersearch import choice_of, rank_layers, search_prefix


def layer(name: str, saved: int) -> Layer:
    return Layer(name=name, num_weights=2 * saved, saved_bytes=saved)


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
