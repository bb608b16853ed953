"""The card of the llamacpp engine."""

from __future__ import annotations

from typing import Final

from ashore.data.engines.card import Choosing, EngineCard, Memory, Options, Precision, Rounding, Tuning, features

KEPT: Final = 0.5
"""Tokens of prefixes that are kept in ordinary memory, for each cell of the KV cache, at most."""

DECODERS: Final = frozenset({"deepseek2", "llama", "qwen2", "qwen3", "qwen3_moe"})
"""Architectures whose safetensors are converted to GGUF; of GGUF it takes whatever llama.cpp takes."""

CARD: Final = EngineCard(
    kind="llamacpp",
    adapter="ashore.data.engines.llamacpp.engine:LlamaCppEngine",
    title="llama.cpp",
    what="CPU: llama.cpp in the engine process (xllamacpp)",
    formats=("gguf", "safetensors"),
    native="gguf",
    architectures=f"every GGUF; safetensors of {', '.join(sorted(DECODERS))}",
    decoders=DECODERS,
    variant="q8_0",
    prepared=("q8_0",),
    features=features("distributions", "grammar", "score"),
    packages=("xllamacpp",),
    modules=("xllamacpp",),
    extra="cpu",
    libraries=("llama-cpp-python", "xllamacpp"),
    # The host sends a token and then prepares the next step in one thread, while the others spin; a worker that wakes
    # at once takes their processor for nothing, and one that waits for a free processor gets it in the middle of the
    # step. On two cores of Zen 4, one stream: 3 to 6 % more tokens (four comparisons).
    waits_for_turns=False,
    spins=True,
    choosing=Choosing(
        rank=2,
        rank_converted=4,  # a server that was installed here runs the model as it is
        why="{architecture} on CPU, converted to GGUF with eight bits; {passed}",
        why_native="{passed}",
        instead="pull a GGUF file of the model for llamacpp",
    ),
    options=Options(tune=("kv_cache", "lookup"), operators=("library",)),
    memory=Memory(kept_share=KEPT),
    tuning=Tuning(
        candidates="ashore.data.engines.llamacpp.candidates:candidates",
        built="ashore.data.engines.llamacpp.library:built_library",
    ),
    precisions=(
        Precision(name="q8_0", engine="llamacpp", bits=8.5, summary="eight bits in blocks of 32"),
        Precision(name="q6_k", engine="llamacpp", bits=6.56, reads_text=True, summary="six bits in blocks of 256"),
        Precision(
            name="q5_k_m", engine="llamacpp", bits=5.7, reads_text=True, summary="five bits, six where it matters"
        ),
        Precision(
            name="q4_k_m", engine="llamacpp", bits=4.9, reads_text=True, summary="four bits, six where it matters"
        ),
        Precision(name="q4_0", engine="llamacpp", bits=4.5, reads_text=True, summary="four bits in blocks of 32"),
    ),
    rounding=Rounding(
        rounder="ashore.data.engines.llamacpp.rounding:prepare_gguf",
        text_halves=1,  # the file that reads the text, on the disk and in memory
    ),
)
