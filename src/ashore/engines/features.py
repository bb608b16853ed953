"""What each engine kind can do with a model that generates: one table, read by the adapters and by `engine list`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, cast

from ashore.core import SAMPLING_FIELDS, EngineKind
from ashore.engines.model import Feature

OPENVINO_ARCHITECTURES: Final = frozenset({"llama", "qwen2", "qwen3"})
"""Decoders that OpenVINO's GGUF reader takes."""

ENCODER_ARCHITECTURES: Final = frozenset({"bert"})
"""Models that embed and do not generate; the openvino engine runs them."""

_SAMPLING: Final = cast(tuple[Feature, ...], (*SAMPLING_FIELDS, "logprobs", "top_logprobs"))

FEATURES: Final[Mapping[EngineKind, tuple[Feature, ...]]] = MappingProxyType({
    "fake": tuple(sorted((*_SAMPLING, "adapters", "distributions", "embed", "score"))),
    "llamacpp": tuple(sorted((*_SAMPLING, "distributions", "grammar", "score"))),
    "openvino": tuple(sorted((*_SAMPLING, "adapters", "distributions", "grammar", "score"))),
    "torch": tuple(sorted((*_SAMPLING, "distributions", "score"))),
    "vllm": tuple(sorted((*_SAMPLING, "grammar", "score"))),
})  # fmt: skip

LLAMACPP_KEPT: Final = 0.5
"""Beside the cells of its KV cache llamacpp keeps prefixes in ordinary memory, so many tokens for each cell at most."""
