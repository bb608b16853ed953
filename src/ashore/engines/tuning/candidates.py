"""Which ways to run a model are worth measuring here, as a pure function."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from ashore.core import EngineKind
from ashore.engines.features import OPENVINO_ARCHITECTURES
from ashore.engines.llamacpp.library import BUILT
from ashore.engines.model import EngineOptions
from ashore.engines.tuning.model import Candidate, Rejected

CHEAP_BYTES: Final = 4 << 30
"""A variant that is missing is made for the measurement if the model as pulled is no larger: seconds, not minutes."""

GROUP_SIZES: Final = (128, 64, 0)
"""DYNAMIC_QUANTIZATION_GROUP_SIZE: activations are quantised in groups of this many; 0 leaves them as they are. Best
guess first. Larger groups are faster and are not offered: they cost more than 2 % of perplexity."""
KV_BYTES: Final = "u8"
"""Keys and values in bytes: a quarter or half of the memory. The other choice is the precision that the processor
computes in, which the plugin insists on."""

SEQUENCES: Final = 16
CONTEXT_TOKENS: Final = 1024
"""Room for a prompt of 512 and its answer in each of `SEQUENCES`."""

Q8_BITS: Final = 8.5
"""Bits a weight of GGUF's Q8_0: 32 of 8 bits with a scale of 16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """What is known of a model before anything is loaded."""

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
class Proposal:
    """What to measure, best guesses first, and what not, with the reason."""

    candidates: tuple[Candidate, ...]
    skipped: tuple[Rejected, ...]


def propose(
    source: ModelSource,
    *,
    installed: Mapping[EngineKind, str],
    cores: int,
    bf16: bool,
    byte_products: bool,
    built_llamacpp: bool = False,
) -> Proposal:
    """Return the candidates for `source` on a machine of `cores`, all with every core; fewer are tried of the best.

    Args:
        source: The model.
        installed: By engine kind, what is missing to use it; empty where nothing is.
        cores: Cores that a host may use.
        bf16: Whether the processor computes in BF16.
        byte_products: Whether it multiplies bytes; without that, rounding the activations gains nothing, and a second
            form of the weights for long prompts does.
        built_llamacpp: Whether there is a llama.cpp that was built on this machine beside that of the wheel.
    """
    if source.format == "fake":
        return Proposal(candidates=(_candidate(source, "fake", "", "fake", cores, {}),), skipped=())
    kvs = (KV_BYTES, "bf16" if bf16 else "f32")
    found: list[tuple[int, Candidate]] = []
    skipped: list[Rejected] = []
    for kind, offers in (
        ("openvino", _openvino(source, cores, kvs, byte_products)),
        ("llamacpp", _llamacpp(source, cores, built=built_llamacpp)),
    ):
        if missing := installed.get(kind, "it is not installed"):  # type: ignore[call-overload]
            skipped.append(Rejected(label=kind, reason=missing))
            continue
        for offer in offers:
            if isinstance(offer, Rejected):
                skipped.append(offer)
            else:
                found.append(offer)
    skipped += [
        Rejected(label="torch", reason="the reference for correctness, several times slower; not measured"),
        Rejected(label="vllm", reason="an external server, measured at its address with `ashore bench serve`"),
    ]
    found.sort(key=lambda pair: pair[0])
    return Proposal(candidates=tuple(candidate for _, candidate in found), skipped=tuple(skipped))


_Offer = tuple[int, Candidate] | Rejected
"""A candidate with its place in the order of trying, or why there is none."""


def _openvino(source: ModelSource, cores: int, kvs: Sequence[str], byte_products: bool) -> Iterator[_Offer]:
    if source.format == "openvino":
        yield from _openvino_options(source, "", "as pulled", cores, kvs, byte_products)
        return
    if source.architecture not in OPENVINO_ARCHITECTURES:
        taken = ", ".join(sorted(OPENVINO_ARCHITECTURES))
        yield Rejected(label="openvino", reason=f"it takes {taken}; this model is {source.architecture}")
        return
    yield from _openvino_options(source, "int8", "int8", cores, kvs, byte_products)
    if reason := _costly(source, "fp16"):
        yield Rejected(label="openvino fp16", reason=reason)
        return
    for place, kv in zip((5, 8), kvs, strict=True):
        yield place, _candidate(source, "openvino", "fp16", "fp16", cores, {"KV_CACHE_PRECISION": kv})


def _openvino_options(
    source: ModelSource, variant: str, precision: str, cores: int, kvs: Sequence[str], byte_products: bool
) -> Iterator[_Offer]:
    ways: list[dict[str, str | int | float | bool]] = [{"DYNAMIC_QUANTIZATION_GROUP_SIZE": g} for g in GROUP_SIZES]
    if not byte_products:
        ways = [{"second_form": True}, {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}]
    for (rank, kv), way in product(enumerate(kvs), ways):
        options = {**way, "KV_CACHE_PRECISION": kv}
        yield 7 * rank, _candidate(source, "openvino", variant, precision, cores, options)


def _llamacpp(source: ModelSource, cores: int, *, built: bool) -> Iterator[_Offer]:
    if source.format != "gguf":
        yield Rejected(label="llamacpp", reason=f"it takes gguf; this model was pulled as {source.format}")
        return
    bits = source.bits_per_weight
    ways: list[dict[str, str | int | float | bool]] = [{"library": BUILT}, {}] if built else [{}]
    for way in ways:
        yield 6, _candidate(source, "llamacpp", "", gguf_precision(bits), cores, way)
    if 0 < bits < Q8_BITS + 0.5:
        return  # as small already
    if reason := _costly(source, "q8_0"):
        yield Rejected(label="llamacpp q8_0", reason=reason)
        return
    for way in ways:
        yield 4, _candidate(source, "llamacpp", "q8_0", "q8_0", cores, way)


def gguf_precision(bits_per_weight: float) -> str:
    """Return what a GGUF of so many bits a weight is called; embeddings of another type move the figure a little."""
    if bits_per_weight <= 0:
        return "gguf"
    for most, name in ((4.2, "q3"), (5.2, "q4"), (6.2, "q5"), (7.5, "q6"), (12.0, "q8_0"), (20.0, "f16")):
        if bits_per_weight < most:
            return name
    return "f32"


def _costly(source: ModelSource, variant: str) -> str:
    """Return why `variant` should not be made for a measurement, or an empty text where it is there or quickly made."""
    if variant in source.variants or source.weight_bytes <= CHEAP_BYTES:
        return ""
    return f"the store has no variant {variant}, and making one of so large a model takes minutes"


def _candidate(
    source: ModelSource,
    kind: EngineKind,
    variant: str,
    precision: str,
    cores: int,
    extra: dict[str, str | int | float | bool],
) -> Candidate:
    context = min(source.context_tokens or CONTEXT_TOKENS, CONTEXT_TOKENS)
    options = EngineOptions(
        kind=kind,
        context_tokens=context,
        kv_tokens=SEQUENCES * context,
        max_sequences=SEQUENCES,
        threads=cores,
        extra=extra,
    )
    return Candidate(kind=kind, variant=variant, precision=precision, options=options)
