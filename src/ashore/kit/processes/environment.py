"""The environment of our children: only what they need, not everything in the operator's shell."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Final

from ashore.kit.processes.silence import QUIET_ENVIRONMENT, QUIET_MODULES

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
