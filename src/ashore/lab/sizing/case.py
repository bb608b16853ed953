"""One case to plan: a model on devices under a load. Published measurements have the same form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from ashore.lab.sizing.chips import Chip
from ashore.lab.sizing.networks import Network

LoadKind = Literal["closed", "burst", "rate", "saturated"]
Statistic = Literal["mean", "median", "p99"]

ENGINES: Final = (
    "trtllm",
    "vllm",
    "sglang",
    "transformers",
    "llama.cpp",
    "openvino",
    "ktransformers",
    "turbomind",
    "mindie",
    "ipex",
)
"""Families of engines that the efficiencies tell apart. What none of them is, is planned as the average."""


NOW: Final = 2026.3
"""Of the newest engines that were measured: what is bought runs these or newer ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """How weights and cache are stored, and on which units the work is done."""

    name: str
    """Class for the efficiencies: 16, fp8, fp4, int8, weight8, weight4."""
    weight: float
    """Bytes of a weight of feed-forward layers and experts, scales included."""
    attention: float
    """Bytes of a weight of attention and of shared matrices."""
    cache: float
    """Bytes of one number in the KV cache."""
    head: float = 2.0
    """Bytes of a weight of the output matrix, which engines on GPUs leave as it is."""
    units: Literal["bf16", "fp8", "int8", "fp4"]


STEADY: Final = 1000.0
"""Requests for each at once of users, who neither begin nor end together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A planned or measured case."""

    chip: Chip
    host: Chip | None
    """A CPU that holds the experts of a model in its own memory; None: all weights are on the devices."""
    network: Network
    precision: Precision
    engine: str
    """One of ENGINES, or empty."""
    devices: int
    tp: int
    """Devices that share one layer."""
    attention_dp: int = 1
    """Groups inside an instance that each hold attention whole and share the experts."""
    ep: int = 1
    """Devices over which the experts are spread; 1: each device has a part of every expert."""
    isl: float
    """Tokens of a prompt."""
    osl: float
    """Tokens of an answer."""
    load_kind: LoadKind
    load: float
    """Requests at once (closed), in all and all at the beginning (burst), a second (rate); saturated: none."""
    year: float = NOW
    """When the engine was released; 2025.5 is the middle of 2025."""
    statistic: Statistic = "mean"
    eager: bool = False
    """Without CUDA graphs."""
    speculative: bool = False
    """With drafted tokens (MTP, EAGLE)."""
    official: bool = False
    """Tuned for a benchmark (MLPerf), not for service."""
    slots: int = 0
    """Requests that one instance may work on at once; 0: as many as the engine does by itself."""
    rounds: float = 0.0
    """Requests that were sent for each at once, all of the first ones at the same moment; 0: not known."""
    even: bool = False
    """All requests have the same lengths: a prompt then rarely meets another, after the first ones."""
    held_steps: float = 0.0
    """Steps of answers for which a new prompt is made to wait."""
    beams: int = 1
    """Answers that are made side by side, of which the best is given."""
    level: tuple[float, float] | None = None
    """First token and time a token, in seconds, up to which a rate was raised; None: it was not."""


def engine_of(name: str) -> str:
    """Return the family of an engine: `TensorRT 10.11` is trtllm, `vLLM 0.9.0` is vllm."""
    told = name.lower()
    words = {
        "tensorrt": "trtllm",
        "trt": "trtllm",
        "lightllm": "vllm",
        "vllm": "vllm",
        "mango": "vllm",
        "llmboost": "vllm",
        "sglang": "sglang",
        "transformers": "transformers",
        "llama": "llama.cpp",
        "openvino": "openvino",
        "ktransformers": "ktransformers",
        "turbomind": "turbomind",
        "lmdeploy": "turbomind",
        "mindie": "mindie",
        "ipex": "ipex",
        "pytorch": "ipex",
    }
    if "ktransformers" in told:
        return "ktransformers"
    return next((family for word, family in words.items() if word in told), "")


def precision_of(name: str, *, model: str, chip: Chip, network: Network, engine: str) -> Precision:
    """Return storage and arithmetic of a published precision (`fp8`, `gptq-int4`, empty).

    An empty word means the published precision: FP8 for DeepSeek V3 and its like, MXFP4 for gpt-oss, INT4
    experts for Kimi K2.5, else BF16. If the device lacks units for a format, it computes in BF16.
    """
    told = f"{name.lower()} {'' if name else model.lower()}"
    family = network.name
    if not name and not re.search(r"fp8|fp4|int4|awq|gptq|int8|w8a8|bf16|fp16", told):
        published = {"deepseek-v3": "fp8", "deepseek-v3.2": "fp8", "deepseek-v4-flash": "v4", "deepseek-v4-pro": "v4"}
        told = published.get(family, "bf16")
        told = "mxfp4" if family.startswith("gpt-oss") else "fp8" if family.startswith("minimax-m2") else told
        told = "kimi-int4" if re.search(r"kimi-?k2\.[5-9]|kimi-?k2-?thinking", model.lower()) else told
    cache = 1.0 if engine == "trtllm" and re.search(r"fp8|fp4", told) and chip.fp8 else 2.0
    if family.startswith("gpt-oss"):
        return Precision(name="mxfp4", weight=0.53, attention=2.0, cache=cache, units="fp8" if chip.fp4 else "bf16")
    if family.startswith("deepseek-v4"):
        return Precision(name="fp4", weight=0.53, attention=1.0, cache=1.0, units="fp8" if chip.fp8 else "bf16")
    if family == "kimi-k2" and re.search(r"int4|w4", told):
        return Precision(name="weight4", weight=0.56, attention=2.0, cache=2.0, units="bf16")
    if "fp4" in told:
        units: Literal["bf16", "fp8", "int8", "fp4"] = "fp4" if chip.fp4 else "fp8" if chip.fp8 else "bf16"
        attention = 1.0 if network.shape.num_experts else 0.5625
        return Precision(name="fp4", weight=0.5625, attention=attention, cache=cache, units=units)
    if "w4a8" in told or "int8-cpu-int4" in told:
        return Precision(name="int8", weight=0.56, attention=1.0, cache=2.0, units="int8" if chip.int8 else "bf16")
    if re.search(r"int4|awq|gptq(?!.*8)|q4|uint4|w4", told):
        weight = 0.6 if "q4" in told else 0.56
        if chip.is_cpu:  # its engines round activations to INT8 on the way
            units = "int8" if chip.int8 else "bf16"
            return Precision(name="weight4", weight=weight, attention=weight, cache=1.0, units=units, head=1.03)
        return Precision(name="weight4", weight=weight, attention=weight, cache=2.0, units="bf16")
    if "gptq-int8" in told:
        return Precision(name="weight8", weight=1.03, attention=1.03, cache=2.0, units="bf16")
    if re.search(r"int8|w8a8|q8", told) and "fp8" not in told:
        units = "int8" if chip.int8 else "bf16"
        cache, head = (1.0, 1.03) if chip.is_cpu else (2.0, 2.0)
        return Precision(name="int8", weight=1.03, attention=1.03, cache=cache, units=units, head=head)
    if "fp8" in told:
        if not chip.fp8:
            return Precision(name="weight8", weight=1.0, attention=1.0, cache=2.0, units="bf16")
        return Precision(name="fp8", weight=1.0, attention=1.0, cache=cache, units="fp8")
    if "fp32" in told:
        return Precision(name="16", weight=4.0, attention=4.0, cache=4.0, units="bf16")
    return Precision(name="16", weight=2.0, attention=2.0, cache=1.0 if engine == "openvino" else 2.0, units="bf16")


def weight_bytes(network: Network, precision: Precision) -> float:
    """Return the bytes of all weights; input and output matrices are counted as engines keep them."""
    shape = network.shape
    wide = max(precision.attention, precision.head)
    return (
        network.attention * precision.attention
        + (network.dense + network.expert * shape.num_experts) * precision.weight
        + network.shared * precision.weight
        + (network.head + network.embedding) * wide
    )


YEAR_UNKNOWN: Final = 2025.8
RELEASED: Final[Mapping[str, float]] = {
    "vllm 0.5": 2024.5,
    "vllm 0.6": 2024.7,
    "vllm 0.7": 2025.1,
    "vllm 0.8": 2025.25,
    "vllm 0.9": 2025.45,
    "vllm 0.10": 2025.6,
    "vllm 0.11": 2025.8,
    "vllm 0.12": 2025.95,
    "vllm 0.13": 2026.0,
    "vllm 0.15": 2026.1,
    "vllm 0.18": 2026.2,
    "vllm 0.19": 2026.3,
    "sglang 0.4": 2025.2,
    "sglang 0.5.1": 2025.65,
    "sglang 0.5.3": 2025.75,
    "sglang 0.5.6": 2025.95,
    "sglang 0.5.8": 2026.05,
    "sglang 0.5.9": 2026.15,
    "sglang 0.5.10": 2026.25,
    "trtllm 0.5": 2023.8,
    "trtllm 0.6": 2023.95,
    "trtllm 1.0": 2025.5,
    "trtllm 1.1": 2025.7,
    "trtllm 1.2": 2026.0,
    "trtllm 1.3": 2026.2,
}
"""Year in which a version of an engine came out, as far as it is in published measurements."""


def year_of(engine: str, version: str, date: str) -> float:
    """Return when an engine was released: by its version, else by the date of the measurement, else YEAR_UNKNOWN.

    Args:
        engine: One of ENGINES.
        version: `0.5.6.post2`.
        date: `2025-11-03`, `2025-11`, `20251103` or `2025`; empty if unknown.
    """
    numbers = re.findall(r"\d+", version)[:3] if re.match(r"v?\d+\.\d", version) else []
    for length in (3, 2):
        if (found := RELEASED.get(f"{engine} {'.'.join(numbers[:length])}")) is not None:
            return found
    if told := re.match(r"(20\d\d)-?(\d\d)?", date):
        return int(told[1]) + (int(told[2]) - 0.5 if told[2] else 6) / 12
    return YEAR_UNKNOWN
