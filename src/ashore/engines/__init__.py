"""Engines: the port, its adapters, and the host process around each.

Owns: running a model that lies on disk, scheduling its sequences, sampling. Refuses: text, HTTP, who may ask, where
models come from.
"""

from ashore.engines.model import (
    EngineEvent,
    EngineInfo,
    EngineKind,
    EngineOptions,
    EngineStats,
    Failed,
    Feature,
    Finished,
    GenerateOrder,
    Grammar,
    ModelFiles,
    Sampling,
    Token,
    TokenLogprob,
)
from ashore.engines.ports import CanEmbed, CanLoadAdapter, CanScore, Engine

__all__ = [
    "CanEmbed",
    "CanLoadAdapter",
    "CanScore",
    "Engine",
    "EngineEvent",
    "EngineInfo",
    "EngineKind",
    "EngineOptions",
    "EngineStats",
    "Failed",
    "Feature",
    "Finished",
    "GenerateOrder",
    "Grammar",
    "ModelFiles",
    "Sampling",
    "Token",
    "TokenLogprob",
]
