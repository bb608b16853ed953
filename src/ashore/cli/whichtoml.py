"""The ashore.toml that this home's server reads, for hints."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from ashore.core.errors import AshoreError
from ashore.kit.processes import ask
from ashore.kit.settings import Settings

WAIT_S: Final = 2.0
NONE_READ: Final = (
    "this server reads no ashore.toml: `ashore config example > ashore.toml` writes one with every key; "
    "start with `ashore up --config ashore.toml`"
)


def which_toml(settings: Settings) -> str:
    """Return which file the running server reads, or how to give it one; empty where no server runs that says it."""
    told: Any = {}
    with suppress(AshoreError, OSError, ValueError):
        *_, told = ask(settings.home.control_socket, {"op": "status"}, timeout_s=WAIT_S)
    if "request" not in told:
        return ""
    config = told["request"].get("config")
    return f"this server reads {config}" if config else NONE_READ
