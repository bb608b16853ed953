"""Client view of an internal error. The operator sees files, addresses and driver messages in the log and on the
command line; the client gets file names only, and no address.
"""

from __future__ import annotations

import math
import re
from typing import Final

from ashore.core.errors import AshoreError, CapacityError, EnvironmentFault, StateUnavailable

DEFAULT_S: Final = 1
"""Sent with an error that may pass and names no time of its own."""
_FOLDERS: Final = re.compile(r"(?<![\w/.:~*%-])/(?:[^\s/'\"`,;:()]+/)+(?=[^\s/'\"`,;:()]+)")
_ADDRESSES: Final = re.compile(
    r"\b[a-z][a-z0-9+.-]*://[^\s'\"`,;()<>]*[^\s'\"`,;()<>.:]"  # a URL
    r"|\[[0-9a-fA-F]*:[0-9a-fA-F:.]+\](?::\d+)?"  # IPv6
    r"|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"  # IPv4
    r"|\b(?:localhost|[\w-]+(?:\.[\w-]+)+):\d{2,5}\b"
)


def outward(error: AshoreError) -> tuple[str, str]:
    """Return message and hint of an error for clients."""
    if isinstance(error, StateUnavailable):
        return error.meaning(), error.remedy()
    if not isinstance(error, EnvironmentFault | CapacityError):
        return error.message, error.hint
    return _hidden(error.message), _hidden(error.hint)


def _hidden(text: str) -> str:
    return _FOLDERS.sub("", _ADDRESSES.sub("[address]", text))


def retry_after(error: AshoreError) -> int | None:
    """Return the whole seconds, at least one, after which to retry; None if retrying is pointless."""
    if error.retry_after_s is not None:
        return max(1, math.ceil(error.retry_after_s))
    return DEFAULT_S if error.retryable else None
