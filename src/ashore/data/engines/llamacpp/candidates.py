"""Tuning candidates on llama.cpp."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ashore.data.engines.llamacpp.card import CARD, DECODERS
from ashore.data.engines.llamacpp.library import BUILT
from ashore.data.engines.tuning.candidates import Here, ModelSource, Offer, candidate, costly
from ashore.data.engines.tuning.model import Rejected

Q8_BITS: Final = 8.5
"""Bits a weight of GGUF's Q8_0: 32 of 8 bits with a scale of 16."""
_Q8: Final = CARD.prepared[0]


def candidates(source: ModelSource, here: Here) -> Iterator[Offer]:
    """Return the model as pulled, unless it has to be converted, and in eight bits; each also with a locally built
    library if there is one."""
    converted = source.format != CARD.native
    if source.format not in CARD.formats or (converted and source.architecture not in DECODERS):
        reason = f"it reads {CARD.native}; this model was pulled as {source.format} of {source.architecture}"
        yield Rejected(label=CARD.kind, reason=reason)
        return
    bits = source.bits_per_weight
    built = CARD.kind in here.built
    ways: list[dict[str, str | int | float | bool]] = [{"library": BUILT}, {}] if built else [{}]
    for way in () if converted else ways:
        yield 6, candidate(source, CARD.kind, "", gguf_precision(bits), here, way)
    if 0 < bits < Q8_BITS + 0.5 and not converted:
        return  # already that small
    if reason := costly(source, _Q8):
        yield Rejected(label=f"{CARD.kind} {_Q8}", reason=reason)
        return
    for way in ways:
        yield 4, candidate(source, CARD.kind, _Q8, _Q8, here, way)


def gguf_precision(bits_per_weight: float) -> str:
    """Return the name of a GGUF's precision by its bits per weight; embeddings of another type shift the figure
    slightly."""
    if bits_per_weight <= 0:
        return "gguf"
    for most, name in ((4.2, "q3"), (5.2, "q4"), (6.2, "q5"), (7.5, "q6"), (12.0, "q8_0"), (20.0, "f16")):
        if bits_per_weight < most:
            return name
    return "f32"
