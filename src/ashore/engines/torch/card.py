"""The card of the torch engine."""

from __future__ import annotations

from typing import Final

from ashore.engines.card import EngineCard, Memory, Tuning, features

CARD: Final = EngineCard(
    kind="torch",
    adapter="ashore.engines.torch.engine:TorchEngine",
    title="PyTorch",
    what="PyTorch and transformers: the reference for correctness, slow",
    formats=("safetensors", "gguf"),
    native="safetensors",
    architectures="what transformers takes without remote code",
    features=features("distributions", "score"),
    packages=("torch", "transformers"),
    modules=("torch", "transformers"),
    extra="train",
    libraries=("torch",),
    memory=Memory(parameter_bytes=4),  # single precision
    tuning=Tuning(why_not="the reference for correctness, several times slower; not measured"),
    no_precisions=(
        "PyTorch's dynamic INT8 is a yardstick, not a form to serve: it rounds whole tensors with one scale, and the "
        "perplexity suffers",
        "to see it beside the others: python -m benchmarks.optimise.quantise",
    ),
)
