"""The card of the torch engine."""

from __future__ import annotations

from typing import Final

from ashore.data.engines.card import EngineCard, Memory, Tuning, features

CARD: Final = EngineCard(
    kind="torch",
    adapter="ashore.data.engines.torch.engine:TorchEngine",
    title="PyTorch",
    what="PyTorch and transformers: slow, the reference for correctness",
    formats=("safetensors", "gguf"),
    native="safetensors",
    architectures="what transformers supports without remote code",
    features=features("distributions", "score"),
    packages=("torch", "transformers"),
    modules=("torch", "transformers"),
    extra="train",
    libraries=("torch",),
    memory=Memory(parameter_bytes=4),  # single precision
    tuning=Tuning(why_not="the reference for correctness, several times slower; not measured"),
    no_precisions=(
        "PyTorch's dynamic INT8 is a baseline, not a format to serve: it quantizes whole tensors with one scale, which "
        "hurts perplexity",
        "to compare it with the others: python -m benchmarks.optimise.quantise",
    ),
)
