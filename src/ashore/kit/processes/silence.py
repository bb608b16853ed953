"""Turns off the telemetry of all dependencies."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

QUIET_MODULES: Final = Path(__file__).parent / "quiet"
"""Folder of modules that stand before telemetry modules of the same name."""

QUIET_ENVIRONMENT: Final[Mapping[str, str]] = {
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
}

HOST_ENVIRONMENT: Final[Mapping[str, str]] = {
    **QUIET_ENVIRONMENT,
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONSAFEPATH": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""Set in every engine host and in what it starts. An engine reads files; fetching them is the store's work."""


def silence_dependencies() -> None:
    """Disable telemetry of every library that this process may import later. May be called twice; costs nothing.

    `openvino_telemetry`, which the tools of OpenVINO and nncf import, sends by default: an inert module of the same
    name is first on the module path. The others read an environment variable.
    """
    os.environ.update(QUIET_ENVIRONMENT)
    if str(QUIET_MODULES) not in sys.path:
        sys.path.insert(0, str(QUIET_MODULES))


def silence_host() -> None:
    """Do the same for a process that runs an engine, and also forbid hub access and core dumps, which may contain
    prompts.

    Its children inherit the environment. May be called twice.
    """
    silence_dependencies()
    os.environ.update(HOST_ENVIRONMENT)
    forbid_core_dumps()


def forbid_core_dumps() -> None:
    """Forbid core dumps of this process and its children.

    The limit applies to files; for dumps through a pipe, the filter excludes all memory (Linux).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):
        Path("/proc/self/coredump_filter").write_text("0", encoding="ascii")
