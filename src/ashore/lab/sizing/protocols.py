"""Measurement protocols of publications, from their scripts: facts that the columns of a row lack."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import inf
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How load generator and server options affect a row. `protocols.toml` has it by publication."""

    lengths: float = 1.0
    """Mean of the lengths that were sent, as a share of those that the row states."""
    rounds: float = 0.0
    """Requests that were sent for each that is underway, the first ones of all at the same moment; 0: not known."""
    even: bool = False
    """Whether all requests have the same lengths, so that they stay as far from each other as they began."""
    held_steps: float = 0.0
    """Steps of answers for which the engine was told to let a new prompt wait, in the mean."""
    speculative: bool = False
    """Whether tokens were drafted, where the row does not say it."""


def protocol_of(row: Mapping[str, str], *, at_once: float, osl: float) -> Protocol:
    """Return the protocol of a row; a default one if its source is unknown.

    Args:
        row: By column; model and hardware are there.
        at_once: Requests at once.
        osl: Tokens of an answer.
    """
    said: dict[str, Any] = {}
    found = (one for one in _tables()["publication"] if re.search(one["source"], row.get("source") or ""))
    if told := next(found, None):
        said |= told["then"]
        for case in told["case"]:
            if _is_met(case, row, at_once):
                said |= case["then"]
    gathered = said.pop("gathered_steps", 0.0)
    joined = gathered * at_once / max(osl, 1.0)
    held_steps = said.pop("polled_steps", 0.0) / 2 + gathered * (1 + joined / 2) / (1 + joined)
    return Protocol(**said, held_steps=held_steps)


def _is_met(case: Mapping[str, Any], row: Mapping[str, str], at_once: float) -> bool:
    if not case.get("from", 0) <= at_once < case.get("below", inf) or (row.get("date") or "") < case.get("since", ""):
        return False
    return all(
        re.search(pattern, row.get(column) or "", re.IGNORECASE) for column, pattern in case.get("when", {}).items()
    )


def official_of(network: str) -> Mapping[str, Any]:
    """Return what MLPerf's rules say of a model: `lengths`, `server`, `interactive`, `beams`; empty where nothing."""
    found: Mapping[str, Any] = _tables()["mlperf"].get(network, {})
    return found


@cache
def _tables() -> dict[str, Any]:
    return tomllib.loads(files("ashore.lab.sizing").joinpath("protocols.toml").read_text(encoding="utf-8"))
