"""Where audit entries go in a process without an audit log: one log line each."""

from __future__ import annotations

import logging

import msgspec

from ashore.core import Act

log = logging.getLogger("ashore.acts")


class LogRecorder:
    """A `Recorder` that forgets. Every act is one JSON object on one line, so that no name can forge another line."""

    def record(self, act: Act) -> None:
        log.info("%s", msgspec.json.encode(act).decode())

    def settle(self, timeout_s: float) -> None:
        return None
