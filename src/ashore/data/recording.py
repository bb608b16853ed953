"""Audit sink of a process without an audit log: one log line per entry."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from ashore.kit.recorder import Act

log = logging.getLogger("ashore.acts")


class LogRecorder:
    """A `Recorder` that stores nothing. Every act is one JSON object on one line, so that no name can forge another
    line."""

    def record(self, act: Act, *, on: Any = None) -> None:
        log.info("%s", msgspec.json.encode(act).decode())

    def check_acts(self) -> None:
        return None

    def settle(self, timeout_s: float) -> None:
        return None
