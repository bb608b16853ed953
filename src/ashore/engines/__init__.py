"""Engines: the port, its adapters, and the host process around each.

Owns: running a model that lies on disk, scheduling its sequences, sampling. Refuses: text, HTTP, who may ask, where
models come from.
"""

from ashore.core import EngineKind, Sampling
from ashore.engines.client import HostClient
from ashore.engines.content import content_of
from ashore.engines.failures import error_of
from ashore.engines.fake import FakeEngine, FakeSpec, fake_model_files
from ashore.engines.features import ENCODER_ARCHITECTURES, FEATURES, LLAMACPP_KEPT, OPENVINO_ARCHITECTURES
from ashore.engines.grammar import check_grammar
from ashore.engines.hostlaunch import HostLaunch, host_command, read_launch, why_file, write_launch
from ashore.engines.hostprocess import HostProcess, host_process
from ashore.engines.model import (
    EngineEvent,
    EngineInfo,
    EngineOptions,
    EngineStats,
    Failed,
    Feature,
    Finished,
    GenerateOrder,
    Grammar,
    ModelFiles,
    ScoredText,
    ScoreText,
    Token,
    TokenLogprob,
)
from ashore.engines.options import LIMITS, TUNING, OptionValue, is_passed_on, is_tame, known_options
from ashore.engines.ordercheck import check_ids, check_order
from ashore.engines.orderstream import OrderStream
from ashore.engines.ports import CanEmbed, CanLoadAdapter, CanScore, CanTellDistributions, CanWait, Engine
from ashore.engines.registry import engine_kinds, make_engine
from ashore.engines.rounding import Layer, Rounded, Rounder, RoundOrder, Samples, Told, quietly
from ashore.engines.torchmodel import TorchDtype, load_torch_model, torch_libraries

__all__ = [
    "ENCODER_ARCHITECTURES",
    "FEATURES",
    "LIMITS",
    "LLAMACPP_KEPT",
    "OPENVINO_ARCHITECTURES",
    "TUNING",
    "CanEmbed",
    "CanLoadAdapter",
    "CanScore",
    "CanTellDistributions",
    "CanWait",
    "Engine",
    "EngineEvent",
    "EngineInfo",
    "EngineKind",
    "EngineOptions",
    "EngineStats",
    "Failed",
    "FakeEngine",
    "FakeSpec",
    "Feature",
    "Finished",
    "GenerateOrder",
    "Grammar",
    "HostClient",
    "HostLaunch",
    "HostProcess",
    "Layer",
    "ModelFiles",
    "OptionValue",
    "OrderStream",
    "RoundOrder",
    "Rounded",
    "Rounder",
    "Samples",
    "Sampling",
    "ScoreText",
    "ScoredText",
    "Token",
    "TokenLogprob",
    "Told",
    "TorchDtype",
    "check_grammar",
    "check_ids",
    "check_order",
    "content_of",
    "engine_kinds",
    "error_of",
    "fake_model_files",
    "host_command",
    "host_process",
    "is_passed_on",
    "is_tame",
    "known_options",
    "load_torch_model",
    "make_engine",
    "quietly",
    "read_launch",
    "torch_libraries",
    "why_file",
    "write_launch",
]
