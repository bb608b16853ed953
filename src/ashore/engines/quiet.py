"""Keeps every dependency silent: no telemetry, no look at a hub, no core dump with a prompt in it."""

from __future__ import annotations

import os
import resource
import sys
from types import ModuleType
from typing import Final

QUIET_ENVIRONMENT: Final = {
    "DO_NOT_TRACK": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "VLLM_DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
"""Set in every engine host and in what it starts. An engine reads files; fetching them is the store's work."""


class _Silent:
    """Stands where `openvino_telemetry.Telemetry` would: takes any call, sends nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __getattr__(self, name: str) -> _Silent:
        return self

    def __call__(self, *args: object, **kwargs: object) -> _Silent:
        return self


def stub_openvino_telemetry() -> None:
    """Put an empty `openvino_telemetry` in place of the real one, which OpenVINO's tools and nncf import and use.

    Call it before anything imports openvino or nncf. May be called twice.
    """
    if getattr(sys.modules.get("openvino_telemetry"), "Telemetry", None) is _Silent:
        return
    names = ("openvino_telemetry", "openvino_telemetry.main", "openvino_telemetry.backend", "openvino_telemetry.utils")
    for name in names:
        module = ModuleType(name)
        module.__dict__.update(Telemetry=_Silent, __path__=[])
        sys.modules[name] = module


def be_quiet() -> None:
    """Silence this process and its children: environment, telemetry stub, core dumps off. May be called twice."""
    os.environ.update(QUIET_ENVIRONMENT)
    stub_openvino_telemetry()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
