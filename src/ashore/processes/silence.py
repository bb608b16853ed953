"""No dependency of ashore tells anybody anything."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

QUIET_MODULES = Path(__file__).parent / "quiet"
"""Folder of modules that stand before telemetry modules of the same name."""

QUIET_ENVIRONMENT: Mapping[str, str] = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
}


def silence_dependencies() -> None:
    """Stop telemetry of every library that this process may import later. May be called twice; costs nothing.

    `openvino_telemetry`, which the tools of OpenVINO and nncf import, sends unless it is stopped: a module of the same
    name that does nothing goes first on the module path. The others read an environment variable.
    """
    os.environ.update(QUIET_ENVIRONMENT)
    if str(QUIET_MODULES) not in sys.path:
        sys.path.insert(0, str(QUIET_MODULES))
