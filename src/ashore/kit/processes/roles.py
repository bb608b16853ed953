"""Role of a home's process, by its command line. `/metrics`, the doctor and the drills share this table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

Role = Literal["supervisor", "host", "api", "control", "jobs", "edge", "cache", "other"]

BY_MODULE: Final[tuple[tuple[str, Role], ...]] = (
    ("ashore.data.engines.host", "host"),
    ("ashore.data.worker", "api"),
    ("ashore.control", "control"),
    ("ashore.control.jobs.worker", "jobs"),
)
"""The modules that a supervisor starts, in the words of `python -m`."""


def role_of(words: Sequence[str]) -> tuple[Role, str]:
    """Return the role of a home's process, and what distinguishes it from others of its kind: the index of a worker,
    the program of any other process.
    """
    for module, role in BY_MODULE:
        if module in words:
            return role, words[words.index("--index") + 1] if role == "api" and "--index" in words[:-1] else ""
    program = Path(words[0]).name if words else ""
    if program.startswith("envoy") or "--disable-hot-restart" in words:
        return "edge", ""
    if program.startswith(("valkey", "redis-server")):
        return "cache", ""
    if "up" in words and any(word.endswith(("ashore", "ashore.cli.main")) for word in words[:4]):
        return "supervisor", ""
    return "other", program
