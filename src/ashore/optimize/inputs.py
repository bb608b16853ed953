"""Which layers read their inputs as they are, where the engine rounds activations as they come.

Rounding activations makes products fast and costs quality, nearly all of it where a layer reads the normalised stream.
So there are three ways, the fastest first: to round all, to leave those into q, k, v, or those into gate and up too. To
leave those into the other layers gains nothing: the engine computes them in bfloat16 then, which loses as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ashore.engines import Layer
from ashore.optimize.layersearch import Choice

_SEEN: Final = "with the demo model and 38 of 120 layers in four bits on a Zen 4, times uniform int8: one stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What becomes of the inputs of a model's layers."""

    told: str
    unrounded: Choice
    """Layers whose inputs stay as they are."""
    speed: str
    """What the user is told of it."""


ROUND_ALL: Final = Way(told="rounded", unrounded=frozenset(), speed=f"{_SEEN} 1.17, sixteen 0.97, long prompts 0.89")
_LEFT: Final = (
    ("q, k, v", frozenset({"q", "k", "v"}), f"{_SEEN} 1.16, sixteen 0.90, long prompts 0.85"),
    ("q, k, v, gate, up", frozenset({"q", "k", "v", "gate", "up"}), f"{_SEEN} 1.07, sixteen 0.76, long prompts 0.73"),
)
"""Source of the speeds: ADR 17, "Activations left as they are"."""


def ways_of(layers: Sequence[Layer]) -> tuple[Way, ...]:
    """Return the ways of a model with these layers, the fastest first; no two of them are the same."""
    found = [ROUND_ALL]
    for told, projections, speed in _LEFT:
        names = frozenset(layer.name for layer in layers if projections_of(layer) & projections)
        found.append(Way(told=f"as they are into {told}", unrounded=names, speed=speed))
    return tuple(way for i, way in enumerate(found) if way.unrounded not in {w.unrounded for w in found[:i]})


def projections_of(layer: Layer) -> frozenset[str]:
    """Return what a layer joins: `q`, `k`, `v` of `7.q+k+v`."""
    return frozenset(layer.name.partition(".")[2].split("+"))
