"""Wait for something that another process does, and fail where it never happens."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(
    what: Callable[[], T], limit_s: float = 60, told: Callable[[], str] = lambda: "it did not happen in time"
) -> T:
    """Ask `what` until it says something true, and return that; after `limit_s` raise with what `told` says."""
    end_s = time.monotonic() + limit_s
    while not (found := what()):
        assert time.monotonic() < end_s, told()
        time.sleep(0.02)
    return found
