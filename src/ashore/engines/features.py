"""What each engine kind can do with a model that generates: one table, read by the adapters and by `engine list`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ashore.engines.model import EngineKind, Feature

_SAMPLING: Final[tuple[Feature, ...]] = (
    "frequency_penalty", "logit_bias", "logprobs", "min_p", "presence_penalty", "repetition_penalty", "seed",
    "temperature", "top_k", "top_logprobs", "top_p",
)  # fmt: skip

FEATURES: Final[Mapping[EngineKind, tuple[Feature, ...]]] = MappingProxyType({
    "fake": tuple(sorted((*_SAMPLING, "adapters", "embed", "score"))),
    "llamacpp": tuple(sorted((*_SAMPLING, "grammar", "score"))),
    "openvino": tuple(sorted((*_SAMPLING, "adapters", "grammar", "score"))),
    "torch": tuple(sorted((*_SAMPLING, "score"))),
    "vllm": tuple(sorted((*_SAMPLING, "grammar", "score"))),
})  # fmt: skip
