"""Which layers may have four bits: the smallest model whose measured loss stays within what the user allows.

Pure: what a choice loses is asked of a function. The loss of each layer alone puts the layers in an order, cheapest
byte first; the loss of layers together, which is more than the sum, tells how far to go along it. What the choice
loses as served is for `trials` to find.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ashore.engines import Layer

Choice = frozenset[str]
"""Names of the layers that get four bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One choice that was measured."""

    num_layers: int
    saved_bytes: int
    loss: float
    """Relative increase of the perplexity, 0.01 is one per cent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The choice, and how it was found."""

    small: Choice
    loss: float
    """Measured, of this choice."""
    steps: tuple[Step, ...]


def rank_layers(layers: Sequence[Layer], losses: Mapping[str, float]) -> tuple[Layer, ...]:
    """Return the layers in the order in which to shrink them: least loss for each byte saved first.

    A layer that seems to gain by four bits gains by chance; it goes first, by size.
    """
    return tuple(
        sorted(layers, key=lambda layer: (max(losses[layer.name], 0.0) / layer.saved_bytes, -layer.saved_bytes))
    )


def search_prefix(
    ranked: Sequence[Layer], measure: Callable[[Choice], float], *, floor: float, most: int | None = None
) -> Found:
    """Return the longest beginning of `ranked` whose measured loss is within `floor`, by bisection.

    The loss is taken to grow along the order. Where it does not quite, what is returned was still measured, and holds.

    Args:
        ranked: From `rank_layers`.
        measure: Gives the loss of a choice; asked about log2(len(ranked)) times.
        floor: Most loss that is allowed.
        most: Longest beginning to consider; default: all.
    """
    steps: list[Step] = []
    best, best_loss = 0, 0.0
    low, high = 0, len(ranked) if most is None else most
    while low < high:
        middle = (low + high + 1) // 2
        loss = measure(choice_of(ranked, middle))
        steps.append(Step(num_layers=middle, saved_bytes=sum(x.saved_bytes for x in ranked[:middle]), loss=loss))
        if loss <= floor:
            low = best = middle
            best_loss = loss
        else:
            high = middle - 1
    return Found(small=choice_of(ranked, best), loss=best_loss, steps=tuple(steps))


def keep_worst(ranked: Sequence[Layer], share: float) -> Choice:
    """Return all layers but those that lose most for each byte, which together have up to `share` of the weights."""
    left = share * sum(layer.num_weights for layer in ranked)
    small = []
    for layer in reversed(ranked):
        if layer.num_weights <= left:
            left -= layer.num_weights
        else:
            small.append(layer.name)
    return frozenset(small)


def choice_of(ranked: Sequence[Layer], num_layers: int) -> Choice:
    """Return the names of the first `num_layers`."""
    return frozenset(layer.name for layer in ranked[:num_layers])
