"""Candidates worth measuring for a model, as a pure function over the engines' cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ashore.core.kinds import EngineKind
from ashore.data.engines.cards import CARDS, card_by_name, loaded
from ashore.data.engines.model import EngineOptions
from ashore.data.engines.tuning.model import Candidate, Rejected

CHEAP_BYTES: Final = 4 << 30
"""A variant that is missing is made for the measurement if the model as pulled is no larger: seconds, not minutes."""

SEQUENCES: Final = 16
CONTEXT_TOKENS: Final = 1024
"""Room for a prompt of 512 and its answer in each of `SEQUENCES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Facts about a model before anything is loaded."""

    name: str
    """Store name without variant, or a name such as `fake:echo`."""
    format: str
    """Of the model as pulled: gguf, safetensors, openvino, fake, remote."""
    architecture: str = ""
    weight_bytes: int = 0
    num_parameters: int = 0
    context_tokens: int = 0
    variants: frozenset[str] = frozenset()
    """Variants that are in the store already."""

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.weight_bytes / self.num_parameters if self.num_parameters else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """Facts about this machine that decide what is worth measuring."""

    cores: int
    """That a host may use."""
    bf16: bool
    """Whether the processor computes in BF16."""
    byte_products: bool
    """Whether it multiplies bytes."""
    built: frozenset[EngineKind] = frozenset()
    """Engines of which there is a library that was built on this machine beside that of the wheel."""


Offer = tuple[int, Candidate] | Rejected
"""A candidate with its place in the order of trying, or why there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Candidates to measure, best guesses first, and rejected ones with the reason."""

    candidates: tuple[Candidate, ...]
    skipped: tuple[Rejected, ...]


def propose(source: ModelSource, *, installed: Mapping[EngineKind, str], here: Here) -> Proposal:
    """Return the candidates for `source` on this machine, all with every core; fewer cores are tried for the best only.

    Args:
        source: The model.
        installed: By engine kind, what is missing to use it; empty if it is usable.
        here: The machine.
    """
    own = card_by_name(source.name)
    found: list[tuple[int, Candidate]] = []
    skipped: list[Rejected] = []
    for card in (own,) if own else (card for card in CARDS if not card.prefix and "head" not in card.features):
        missing = "" if own else card.tuning.why_not or installed.get(card.kind, "it is not installed")
        if missing:
            skipped.append(Rejected(label=card.kind, reason=missing))
            continue
        for offer in loaded(card.tuning.candidates)(source, here):
            if isinstance(offer, Rejected):
                skipped.append(offer)
            else:
                found.append(offer)
    found.sort(key=lambda pair: pair[0])
    return Proposal(candidates=tuple(candidate for _, candidate in found), skipped=tuple(skipped))


def costly(source: ModelSource, variant: str) -> str:
    """Return why `variant` should not be made for a measurement, or an empty text if it exists or is quick to make."""
    if variant in source.variants or source.weight_bytes <= CHEAP_BYTES:
        return ""
    return f"the store has no variant {variant}, and making it takes minutes for a model of this size"


def candidate(
    source: ModelSource,
    kind: EngineKind,
    variant: str,
    precision: str,
    here: Here,
    extra: dict[str, str | int | float | bool],
) -> Candidate:
    """Return one way to run `source`, with every core and room for `SEQUENCES`."""
    context = min(source.context_tokens or CONTEXT_TOKENS, CONTEXT_TOKENS)
    options = EngineOptions(
        kind=kind,
        context_tokens=context,
        kv_tokens=SEQUENCES * context,
        max_sequences=SEQUENCES,
        threads=here.cores,
        extra=extra,
    )
    return Candidate(kind=kind, variant=variant, precision=precision, options=options)
