"""What it means to round a model's weights to fewer bits, in words that every technology shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ashore.core import ModelFormat

Told = Callable[[str, float], None]
"""Called with what is being done and the share that is done, 0 to 1."""

Samples = tuple[tuple[int, ...], ...]
"""Texts as token ids, in the order in which they were read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundOrder:
    """What to make of a model's weights."""

    precision: str
    """`fp16`, `int8`, `int4`, `q8_0`, `q4_k_m`…"""
    group_size: int = 0
    """Weights of a row that share one scale; 0 where the precision has only one way."""
    samples: Samples = ()
    """Calibration text; empty where the weights alone decide."""
    text: Path | None = None
    """The file that the samples are from, for tools that cut their own."""
    seed: int = 0
    small: frozenset[str] | None = None
    """Layers that get four bits where the precision is `mixed`; the others get eight."""
    unrounded: frozenset[str] = frozenset()
    """Layers whose inputs the engine is to take as they are, where it rounds activations as they come."""
    keep_grids: bool = False
    """Whether weights that lie on a grid of four bits already, as those of an unpacked GGUF do, keep it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounded:
    """What was made."""

    format: ModelFormat
    weights: str
    """Main file among those that were written."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What is worth reading of how it went; `precision` is among them."""
    packages: tuple[str, ...] = ()
    """Python packages that the bytes depend on."""


class Rounder(Protocol):
    """A technology that rounds weights."""

    def __call__(self, source: Path, weights: str, order: RoundOrder, out: Path, *, told: Told) -> Rounded:
        """Make the model of `source / weights` in `out`, which exists; files of an earlier attempt are written over.

        Equal input gives equal bytes on one machine. A call that dies leaves `out` half full; its owner clears it.

        Raises:
            UnsupportedModel: it does not take such a model.
            EngineFailed: a library failed; its own words are in the message.
            DiskFull: no room.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A product of weights and activations whose precision can be chosen."""

    name: str
    """`0.q+k+v`, `7.down`: number of the block, projections."""
    num_weights: int
    saved_bytes: int
    """Bytes that four bits save over eight, scales included."""


def quietly(stage: str, share: float) -> None:
    """`Told` for callers that show nothing."""
