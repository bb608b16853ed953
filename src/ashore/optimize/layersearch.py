"""Which layers may have four bits: the smallest model whose measured loss stays within what the user allows.

Pure: what a choice loses is asked of a function. The loss of each layer alone puts the layers in an order, cheapest
byte first; the loss of layers together, which is more than the sum and is what counts, finds how far to go along it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ashore.engines import Layer
from ashore.optimize.increase import Increase

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


def narrow(
    first: int, judge: Callable[[int], Increase], *, floor: float, most: int, trials: int
) -> tuple[int, Increase] | None:
    """Return the largest number of layers that `judge` finds within `floor`, and its loss; None where there is none.

    Within the floor is what is so with one standard error added: text that tells little allows little.

    `judge` is the costly measure that counts. Beginning at `first`, the next number is read off a straight line through
    what was measured, and kept inside the bracket of what held and what did not.

    Args:
        first: Guess of a cheaper measure.
        judge: Gives the loss of a number of layers.
        floor: Most loss that is allowed.
        most: There are no more layers.
        trials: Numbers to judge, at most, 0 layers apart.
    """
    held: tuple[int, Increase] | None = None
    too_many = most + 1
    count = min(first, most)
    for _ in range(trials):
        loss = judge(count)
        if loss.upper <= floor:
            held = (count, loss)
        else:
            too_many = count
        low = held[0] if held else -1
        if too_many - low <= 1:
            break
        scaled = int(count * floor / loss.upper) if loss.upper > 0 else most
        count = min(max(scaled, low + 1), too_many - 1)
    if held is None and too_many > 0:
        loss = judge(0)
        held = (0, loss) if loss.upper <= floor else None
    return held


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
