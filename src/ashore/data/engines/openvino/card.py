"""The card of the openvino engine."""

from __future__ import annotations

from typing import Final

from ashore.core.shapes import ENCODERS
from ashore.data.engines.card import (
    Choosing,
    EngineCard,
    KvPrecision,
    Memory,
    Options,
    Precision,
    Rounding,
    Tuning,
    features,
)

DECODERS: Final = frozenset({"llama", "qwen2", "qwen3"})
"""Architectures that `decodergraph` builds."""

CARD: Final = EngineCard(
    kind="openvino",
    spins=True,
    adapter="ashore.data.engines.openvino.engine:OpenVinoEngine",
    title="OpenVINO",
    what="CPU, the default: the OpenVINO runtime with ashore's own scheduler and sampler",
    formats=("gguf", "safetensors", "openvino"),
    native="openvino",
    architectures=", ".join((*sorted(DECODERS), *sorted(ENCODERS))),
    decoders=DECODERS,
    encoders=ENCODERS,
    variant="int8",
    exact="fp16",
    prepared=("int8", "fp16"),
    features=features("adapters", "distributions", "grammar", "score"),
    packages=("openvino",),
    modules=("openvino", "gguf"),
    extra="cpu",
    libraries=("openvino",),
    choosing=Choosing(
        rank=1,
        why="{architecture} on CPU: INT8 per channel is fastest at equal quality",
        why_native="prepared for OpenVINO",
        why_encoder="an encoder, for embeddings or ranking",
    ),
    options=Options(
        tune=(
            "full_precision", "lookup", "max_stall_ms", "rung_tpot_ms", "rung_ttft_ms", "rungs", "second_form",
            # of the CPU plugin
            "DYNAMIC_QUANTIZATION_GROUP_SIZE", "ENABLE_CPU_PINNING", "ENABLE_CPU_RESERVATION", "ENABLE_HYPER_THREADING",
            "EXECUTION_MODE_HINT", "INFERENCE_NUM_THREADS", "INFERENCE_PRECISION_HINT", "KEY_CACHE_GROUP_SIZE",
            "KEY_CACHE_PRECISION", "KV_CACHE_PRECISION", "NUM_STREAMS", "PERFORMANCE_HINT", "SCHEDULING_CORE_TYPE",
            "VALUE_CACHE_GROUP_SIZE", "VALUE_CACHE_PRECISION",
        ),
        passed_on="capitals",
        short={"DYNAMIC_QUANTIZATION_GROUP_SIZE": "dq", "KV_CACHE_PRECISION": "kv"},
        slower={
            "full_precision": (True,),
            "EXECUTION_MODE_HINT": ("ACCURACY",),
            "INFERENCE_PRECISION_HINT": ("f32",),
        },
        threads="INFERENCE_NUM_THREADS",
        stall=("max_stall_ms", 100.0),
    ),
    memory=Memory(kv=KvPrecision(option="KV_CACHE_PRECISION", usual="u8", exact="f32")),
    tuning=Tuning(candidates="ashore.data.engines.openvino.candidates:candidates"),
    precisions=(
        Precision(name="fp16", engine="openvino", bits=16, summary="half precision: the baseline for the others"),
        Precision(
            name="int8",
            engine="openvino",
            bits=8.03,
            group_sizes=(0, 96, 64, 32),
            summary="one scale per output channel, or per group of its weights; the default of `up`",
        ),
        Precision(
            name="int4",
            engine="openvino",
            bits=5.3,
            group_sizes=(64, 32, 96, 128),
            reads_text=True,
            ranking=1,
            eight_share=0.1,
            summary="four bits with one scale per group; the head keeps eight, and with text the worst layers too",
        ),
    ),
    rounding=Rounding(
        rounder="ashore.data.engines.openvino.prepare:prepare_openvino",
        holds_variant=True,
        scratch_halves=1,  # a GGUF of safetensors
        text_halves=2,  # the model that reads the text, on the disk and compiled
        squares=True,
    ),
)  # fmt: skip
