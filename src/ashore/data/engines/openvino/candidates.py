"""Tuning candidates on OpenVINO."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Final

from ashore.data.engines.openvino.card import CARD, DECODERS
from ashore.data.engines.tuning.candidates import Here, ModelSource, Offer, candidate, costly
from ashore.data.engines.tuning.model import Rejected

GROUP_SIZES: Final = (128, 64, 0)
"""DYNAMIC_QUANTIZATION_GROUP_SIZE: activations are quantised in groups of this many; 0 leaves them as they are. Best
guess first. Larger groups are faster and are not offered: they cost more than 2 % of perplexity."""
KV_BYTES: Final = "u8"
"""Keys and values in bytes: a quarter or half of the memory. The other choice is the precision that the processor
computes in, which the plugin insists on."""


def candidates(source: ModelSource, here: Here) -> Iterator[Offer]:
    """Return INT8 with every group size and both cache precisions, and half precision if it is cheap to make.

    On a processor without byte products, rounding the activations gains nothing, but a second form of the weights for
    long prompts does.
    """
    kvs = (KV_BYTES, "bf16" if here.bf16 else "f32")
    if source.format == CARD.native:
        yield from _options(source, here, "", "as pulled", kvs)
        return
    if source.architecture not in DECODERS:
        taken = ", ".join(sorted(DECODERS))
        yield Rejected(label=CARD.kind, reason=f"it takes {taken}; this model is {source.architecture}")
        return
    yield from _options(source, here, CARD.variant, CARD.variant, kvs)
    if reason := costly(source, CARD.exact):
        yield Rejected(label=f"{CARD.kind} {CARD.exact}", reason=reason)
        return
    for place, kv in zip((5, 8), kvs, strict=True):
        yield place, candidate(source, CARD.kind, CARD.exact, CARD.exact, here, {"KV_CACHE_PRECISION": kv})


def _options(source: ModelSource, here: Here, variant: str, precision: str, kvs: tuple[str, str]) -> Iterator[Offer]:
    ways: list[dict[str, str | int | float | bool]] = [{"DYNAMIC_QUANTIZATION_GROUP_SIZE": g} for g in GROUP_SIZES]
    if not here.byte_products:
        ways = [{"second_form": True}, {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}]
    for (rank, kv), way in product(enumerate(kvs), ways):
        options = {**way, "KV_CACHE_PRECISION": kv}
        yield 7 * rank, candidate(source, CARD.kind, variant, precision, here, options)
