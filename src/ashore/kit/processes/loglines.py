"""Parses log lines: time, level, text. Reads what our processes, Envoy, Valkey and vLLM write."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal, get_args

from ashore.core.timespan import human_moment

Level = Literal["debug", "info", "warning", "error"]
LEVELS: Final[tuple[Level, ...]] = get_args(Level)

_PYTHON: Final = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ ([A-Z]+) (.*)", re.DOTALL)
_ENVOY: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)[.\d]*([+-]\d{4}|Z)? (.*)", re.DOTALL)
_ENVOY_LEVEL: Final = re.compile(r"(trace|debug|info|warning|error|critical) (.*)", re.DOTALL)
_ENVOY_STATUS: Final = re.compile(r" HTTP/[\d.]+ (\d{3}) ")
_VALKEY: Final = re.compile(r"\d+:[A-Z] (\d\d \w{3} \d{4} \d\d:\d\d:\d\d)\.\d+ ([.*#-]) (.*)", re.DOTALL)
_VLLM: Final = re.compile(r"(?:\([^)]*\) ?)?([A-Z]+) \d\d-\d\d \d\d:\d\d:\d\d (.*)", re.DOTALL)
_BY_WORD: Final[Mapping[str, Level]] = {
    "trace": "debug", "debug": "debug", "info": "info", "warning": "warning", "error": "error", "critical": "error",
    ".": "debug", "-": "debug", "*": "info", "#": "warning",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a log."""

    at_s: float = 0.0
    """Seconds since 1970; 0: it does not say, and neither does any line above it."""
    level: Level = "info"
    message: str
    request: Mapping[str, Any] = field(default_factory=dict)
    """The fields of a line about one request; empty: it is about something else."""


def entries_of(lines: Iterable[str], before: Entry | None = None) -> Iterator[Entry]:
    """Yield each line as an entry. A line without a time, such as those of a traceback, inherits time and level from
    the line above; `before` is the one above the first.
    """
    last = before or Entry(message="")
    for line in lines:
        text = line.rstrip("\n")
        found = _read(text)
        last = found if found is not None else replace(last, message=text, request={})
        yield last


def is_at_least(entry: Entry, level: Level) -> bool:
    """Return whether an entry has at least `level`."""
    return LEVELS.index(entry.level) >= LEVELS.index(level)


def _read(text: str) -> Entry | None:
    if text.startswith('{"'):
        return _of_request(text)
    if found := _PYTHON.fullmatch(text):  # in local time, as `logging` writes it
        at_s = time.mktime(time.strptime(found[1], "%Y-%m-%d %H:%M:%S"))
        return Entry(at_s=at_s, level=_BY_WORD.get(found[2].lower(), "info"), message=found[3])
    if found := _ENVOY.fullmatch(text):
        at_s = datetime.fromisoformat(found[1] + (found[2] or "Z")).timestamp()
        word = _ENVOY_LEVEL.fullmatch(found[3])
        if word is not None:
            return Entry(at_s=at_s, level=_BY_WORD[word[1]], message=word[2])
        status = _ENVOY_STATUS.search(found[3])
        return Entry(at_s=at_s, level=_level_of(int(status[1])) if status else "info", message=found[3])
    if found := _VALKEY.fullmatch(text):
        at_s = time.mktime(time.strptime(found[1], "%d %b %Y %H:%M:%S"))
        return Entry(at_s=at_s, level=_BY_WORD[found[2]], message=found[3])
    if found := _VLLM.fullmatch(text):  # it does not write the year
        return Entry(level=_BY_WORD.get(found[1].lower(), "info"), message=found[2])
    return None


def _of_request(text: str) -> Entry | None:
    try:
        told = json.loads(text)
    except ValueError:
        return None
    if not isinstance(told, dict) or not {"t", "method", "route", "status", "ms"} <= told.keys():
        return None
    model = f", {told.get('model')}" if told.get("model", "-") != "-" else ""
    tokens = f", {told['tokens']} tokens" if told.get("tokens") else ""
    error = f", {told['error']}" if told.get("error") else ""
    message = (
        f"{told['method']} {told['route']} {told['status']}{error} in {told['ms']} ms{model}{tokens}, "
        f"by {told.get('by')}, {told.get('id')}"
    )
    return Entry(at_s=float(told["t"]), level=_level_of(int(told["status"])), message=message, request=told)


def _level_of(status: int) -> Level:
    """Return how serious a status is; 499: the client left, as a browser does that leaves a page."""
    return "info" if status == 499 else "error" if status >= 500 else "warning" if status >= 400 else "info"


def shown_time(at_s: float) -> str:
    """Return a time as text: `2026-12-01 14:24:57 UTC`; dashes if there is none."""
    return human_moment(at_s) if at_s else "-" * 23
