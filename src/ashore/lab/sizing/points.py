"""Read published measurements: a CSV file with one row for each."""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import ceil, inf
from pathlib import Path
from typing import Any, Final

from ashore.core.errors import InvalidRequest
from ashore.lab.sizing.case import Case, LoadKind, Statistic, engine_of, precision_of, weight_bytes, year_of
from ashore.lab.sizing.chips import Chip, find_machine
from ashore.lab.sizing.networks import find_network
from ashore.lab.sizing.steps import SUPERNODES

NEEDED: Final = ("model", "hardware")
"""Columns without which a file is refused. The others may be empty or missing: quant, params_b, active_b, n, tp, isl,
osl, load_kind, load, ttft_ms, tpot_ms, tok_s, ttft_stat, tpot_stat, engine, note."""

VLLM_WIDE: Final = 2025.5
"""Since then vLLM works on 1,024 requests at once on the newer devices, before it was 256 on all."""
_CHAT: Final = (225.0, 230.0)
"""ShareGPT, the usual load of a row that states no lengths."""
_OPENVINO: Final = (225.0, 465.0)
"""The sweeps of OpenVINO's model server print tokens a second of about 465 for each request a second."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One row: a measurement and its case, or why it cannot be planned."""

    model: str
    hardware: str
    case: Case | None
    first_s: float | None
    token_s: float | None
    tokens_per_s: float | None
    grade: str = ""
    source: str = ""
    why_not: str = ""


def read_points(path: Path) -> tuple[Point, ...]:
    """Return every row of a file of measurements.

    Raises:
        InvalidRequest: it is not a CSV file with the columns model and hardware.
    """
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines, restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        raise InvalidRequest(f"{path} cannot be read: {fault}", hint="give a CSV file", param="--points") from fault
    missing = [name for name in NEEDED if not rows or name not in rows[0]]
    if missing:
        raise InvalidRequest(
            f"{path} has no column {' and no column '.join(missing)}" if rows else f"{path} has no rows",
            hint="the first line names the columns: model, hardware, quant, n, tp, isl, osl, load_kind, load, ttft_ms, "
            "tpot_ms, tok_s",
            param="--points",
        )
    return tuple(point_of(row) for row in rows)


def point_of(row: Mapping[str, str]) -> Point:
    """Return one row, by column; model and hardware are there."""
    try:
        case, why = _case(row)
    except (ValueError, OverflowError):
        case, why = None, "one of its numbers is out of all bounds"
    return Point(
        model=row["model"],
        hardware=row["hardware"],
        case=case,
        first_s=_measured(row, "ttft_ms", 1e-3),
        token_s=_measured(row, "tpot_ms", 1e-3),
        tokens_per_s=_measured(row, "tok_s", 1.0),
        grade=row.get("grade") or "",
        source=row.get("source") or "",
        why_not=why,
    )


def _measured(row: Mapping[str, str], name: str, scale: float) -> float | None:
    value = _number(row, name)
    return value * scale if value > 0 else None


def _number(row: Mapping[str, str], name: str) -> float:
    try:
        value = float(row.get(name) or 0)
    except ValueError:
        return 0.0
    return value if 0 <= value < 1e15 else 0.0


def _case(row: Mapping[str, str]) -> tuple[Case | None, str]:
    chip, host = find_machine(row["hardware"])
    if chip is None:
        return None, f"no device is known as {row['hardware'][:60]!r}"
    network = find_network(row["model"], parameters_b=_number(row, "params_b"), active_b=_number(row, "active_b"))
    if network is None:
        return None, f"no model is known as {row['model'][:60]!r}, and its number of parameters is not given"
    engine = engine_of(row.get("engine") or "")
    note = row.get("note") or ""
    precision = precision_of(row.get("quant") or "", model=row["model"], chip=chip, network=network, engine=engine)
    kind, official = _load_kind(row.get("load_kind") or "")
    rules = official_of(network.name) if official else {}
    protocol = protocol_of(row, at_once=_number(row, "load"), osl=_number(row, "osl"))
    isl, osl = (protocol.lengths * length for length in _lengths(row, rules))
    devices = max(1, int(_number(row, "n")))
    layout = {word: int(number) for word, number in re.findall(r"\b(pp|adp|ep)(\d{1,5})\b", note)}
    attention_dp = max(1, layout.get("adp", 1))
    if match := re.search(r"--(?:dp-size|data-parallel-size|dp)[= ](\d{1,5})\b", note):
        attention_dp = int(match[1]) if "enable-dp-attention" in note or "data-parallel" in note else 1
    tp = int(_number(row, "tp"))
    if not tp:
        fits = ceil(weight_bytes(network, precision) / (0.8 * chip.memory_bytes)) if not chip.is_cpu else devices
        tp = min(devices, 1 << max(0, (fits - 1).bit_length()))
    if engine in ("llama.cpp", "transformers") and not host:
        tp, devices = 1, 1  # devices hold layers one after the other
    if engine == "openvino" and chip.is_cpu:
        tp, devices = 1, 1  # its threads stay on one socket
    ep = layout.get("ep", 1)
    if match := re.search(r"--(?:ep-size|ep)[= ](\d{1,5})\b", note):
        ep = int(match[1])
    if ep > 1 and tp == ep * ep:  # seen in aiconfigurator's samples: the same figures as the row with tp = ep
        tp = devices = ep
    if attention_dp > 1 and attention_dp == ep * ep:
        attention_dp = devices = ep
    if attention_dp > 1 and tp * attention_dp == ep and tp == attention_dp:  # likewise
        attention_dp, ep, devices = 1, tp, tp
    untold = attention_dp == 1 and ep <= 1 and network.shape.num_experts > 0
    if untold and ((chip.name in SUPERNODES and devices > 8) or (kind == "saturated" and tp > 1)):
        attention_dp, ep, tp = tp, tp, 1  # so many, or all for throughput: each has whole requests, and some experts
    if attention_dp > 1:
        attention_dp = min(attention_dp, devices)
        tp = max(1, devices // attention_dp) if tp * attention_dp > devices else tp
    year = year_of(engine, row.get("engine_version") or "", row.get("date") or "")
    load = _number(row, "load") or (1e5 if kind == "burst" else 1.0)
    case = Case(
        chip=chip,
        host=host,
        network=network,
        precision=precision,
        engine=engine,
        devices=max(devices, tp * attention_dp),
        tp=tp,
        attention_dp=attention_dp,
        ep=max(1, ep),
        isl=isl,
        osl=osl,
        load_kind=kind,
        load=load,
        year=year,
        statistic=_statistic(row.get("ttft_stat") or row.get("tpot_stat") or ""),
        eager="eager" in note.lower(),
        speculative=protocol.speculative
        or (bool(re.search(r"^spec\b|speculative|num_speculative|\bMTP\b", note)) and "cells use MTP" not in note),
        official=official,
        slots=_slots(note, engine, chip, year),
        rounds=protocol.rounds,
        even=protocol.even,
        held_steps=protocol.held_steps,
        beams=rules.get("beams", 1),
        level=tuple(level) if (level := rules.get((row.get("load_kind") or "").removeprefix("mlperf_"))) else None,
    )
    return case, ""


def _slots(note: str, engine: str, chip: Chip, year: float) -> int:
    if told := re.search(r"--max-(?:num-seqs|running-requests)[= ](\d{1,5})\b", note):
        return int(told[1])
    return 256 if engine == "vllm" and (year < VLLM_WIDE or not chip.fp8) else 0


def _statistic(told: str) -> Statistic:
    return "p99" if told.startswith("p9") else "median" if told == "median" else "mean"


def _load_kind(told: str) -> tuple[LoadKind, bool]:
    kinds: Mapping[str, LoadKind] = {
        "closed": "closed",
        "all_at_once": "burst",
        "burst": "burst",
        "rate": "rate",
        "saturated": "saturated",
        "mlperf_offline": "saturated",
        "mlperf_server": "rate",
        "mlperf_interactive": "rate",
    }
    return kinds.get(told, "closed"), told.startswith("mlperf")


def _lengths(row: Mapping[str, str], rules: Mapping[str, Any]) -> tuple[float, float]:
    isl, osl, told = _number(row, "isl"), _number(row, "osl"), (row.get("engine") or "").lower()
    usual = rules.get("lengths") or (_OPENVINO if "openvino" in told else _CHAT)
    return isl or usual[0], osl or usual[1]
