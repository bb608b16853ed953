"""Orders and results of quantizing a model, shared by every engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ashore.core.kinds import ModelFormat

Told = Callable[[str, float], None]
"""Called with the current activity and the completed share, 0 to 1."""

Samples = tuple[tuple[int, ...], ...]
"""Texts as token ids, in the order in which they were read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundOrder:
    """How to quantize a model's weights."""

    precision: str
    """`fp16`, `int8`, `int4`, `q8_0`, `q4_k_m`…"""
    group_size: int = 0
    """Weights of a row that share one scale; 0 where the precision has only one way."""
    samples: Samples = ()
    """Calibration text; empty where the weights alone decide."""
    ranking: Samples = ()
    """Text on which layers are compared, one by one; empty where all are treated alike, or `small` is known."""
    eight_share: float = 0.0
    """Share of the weights, of the layers that lose most on `ranking`, that keeps eight bits."""
    small: frozenset[str] | None = None
    """Layers that get four bits where that was decided before; the others get eight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounded:
    """The quantized model."""

    format: ModelFormat
    weights: str
    """Main file among those that were written."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Facts about the result worth showing; `precision` is among them."""
    packages: tuple[str, ...] = ()
    """Python packages that the bytes depend on."""
    small: frozenset[str] | None = None
    """Layers that got four bits, if layers were compared."""


class Rounder(Protocol):
    """A quantization method."""

    def __call__(self, source: Path, weights: str, order: RoundOrder, out: Path, *, told: Told) -> Rounded:
        """Write the model of `source / weights` to `out`, which exists; files of an earlier attempt are overwritten.

        Equal input gives equal bytes on one machine. An interrupted call leaves `out` incomplete; its owner clears it.

        Raises:
            UnsupportedModel: it does not support such a model.
            EngineFailed: a library failed; the message has its own text.
            DiskFull: no room.
        """
        ...


def quietly(stage: str, share: float) -> None:
    """Progress callback for callers that show nothing."""
