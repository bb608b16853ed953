"""The environment of our children: only what they need, not everything in the operator's shell."""

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
PASSED: Final = frozenset(
    {
        "ASHORE_HOME",
        "ASHORE_LOG_LEVEL",
        "CUDA_VISIBLE_DEVICES",
        "HOME",
        "LANG",
        "LC_ALL",
        "LD_LIBRARY_PATH",
        "MALLOC_ARENA_MAX",
        "ONEDNN_MAX_CPU_ISA",
        "PATH",
        "PYTHONMALLOC",
        "PYTHONWARNINGS",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TMPDIR",
        "TZ",
        "TZDIR",
        "VIRTUAL_ENV",
    }
)
"""Names that go through. Credentials of hubs and clouds, proxies and whatever else stay behind: a host needs none."""

SEARCHED: Final = ("LD_LIBRARY_PATH", "PATH")
"""Lists of directories, in which an empty place stands for the current one: `$LD_LIBRARY_PATH:/usr/local/lib` has one
where the variable was not set."""


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


def python_command(module: str, *words: str) -> list[str]:
    """Return the command line of a child that runs a module of this Python, and never imports from its working
    directory.
    """
    return [sys.executable, "-P", "-m", module, *words]


def child_environment(
    environ: Mapping[str, str] | None = None, extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment of a child: the allowed names, telemetry off, unbuffered output, then `extra`. Nothing is
    searched in the working directory.
    """
    environ = os.environ if environ is None else environ
    searched = {name: _absolute(environ.get(name, "")) for name in SEARCHED}
    return {
        **{name: value for name, value in environ.items() if name in PASSED and name not in SEARCHED},
        **{name: value for name, value in searched.items() if value},
        **QUIET_ENVIRONMENT,
        "PYTHONPATH": str(QUIET_MODULES),
        "PYTHONUNBUFFERED": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONSAFEPATH": "1",
        **(extra or {}),
    }


def _absolute(searched: str) -> str:
    return os.pathsep.join(one for one in searched.split(os.pathsep) if os.path.isabs(one))
