"""The user's own machine: its estimate by data sheet, corrected by its own measurements."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from ashore.core.errors import InvalidRequest
from ashore.core.foreign import foreign_errors
from ashore.lab.sizing.calibration import Calibration, Estimate, estimate, logarithms, shipped
from ashore.lab.sizing.case import STEADY, Case, engine_of, precision_of
from ashore.lab.sizing.chips import GB, Chip, find_machine
from ashore.lab.sizing.nearby import Measurements, pair_of
from ashore.lab.sizing.networks import find_network
from ashore.lab.sizing.steps import Efficiencies, make_batch, times

MOVED: Final = ("bandwidth", "prefill_flops", "layer_s", "first_s", "decode_flops", "token_s")
"""What measurements of one's own may change, in the order in which they are told apart."""
HELD: Final = (0.5, 0.5, 0.5, 0.15, 0.3, 0.3)
"""How strongly each stays at what was published, against one measured figure."""
LEAST_BAND: Final = 0.10
"""Measurements of one's own repeat within this, at best."""
MOST: Final = 1e15
"""Of any figure of a load test; NaN is not below it either."""
_FLOPS_A_CYCLE: Final = {"avx512f": 64.0, "avx2": 32.0}
_AMX: Final = 16.0
"""How many times as many operations in BF16 a core with AMX does as in FP32."""
SEEN_BANDWIDTH: Final = 0.75
SEEN_FLOPS: Final = 0.85
"""What a long sum and a large product reach of the data sheet, where engines reach as much or a little less."""
_BYTES_A_CORE: Final = 20e9
"""That one core of a server reads from memory in a second; a socket reads what its channels give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One load test of a server: a mean of many requests."""

    isl: float
    osl: float
    load: float
    load_kind: str
    """closed or rate."""
    first_s: float
    token_s: float
    tokens_per_s: float
    rounds: float = STEADY
    """Requests for each at once; they all begin together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Current speed of a processor, on all usable cores."""

    bytes_per_s: float
    """Read from memory by a long sum of products."""
    flops: float
    """Of a large matrix product in FP32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """Results of calibrating one machine: changes of the efficiencies, as logarithms, and their fit."""

    machine: str
    engine: str
    changes: tuple[tuple[str, float], ...]
    misses: tuple[float, float, float]
    """Largest miss of first token, time a token and speed, as logarithms, after the change."""
    num_reports: int
    rates: Rates | None = None
    """What the processor did when this was found, which the changes are relative to; None: its name said it."""


def read_report(path: Path) -> Measured:
    """Return the output of `ashore bench serve --json`.

    Raises:
        InvalidRequest: the file is none of these, or nothing in it succeeded.
    """
    with foreign_errors(f"{path} is not a report of `ashore bench serve --json`", InvalidRequest, hint="run it again"):
        told = json.loads(path.read_text(encoding="utf-8"))
        number = int(told["succeeded"])
        if not number:
            raise InvalidRequest(f"{path}: no request succeeded", hint="look at its errors, and run it again")
        words = str(told["load"])
        amount = re.search(r"[\d.]+", words)
        if amount is None:
            raise ValueError(f"its load is {words[:40]!r}")
        found = Measured(
            isl=max(1.0, (float(told["prompt_tokens"]) - float(told["cached_tokens"])) / number),
            osl=max(1.0, float(told["completion_tokens"]) / number),
            load=float(amount[0]),
            load_kind="rate" if "open" in words else "closed",
            rounds=STEADY if "open" in words else max(1.0, number / max(float(amount[0]), 1.0)),
            first_s=float(told["ttft_ms"]["mean"]) / 1e3,
            token_s=float(told["tpot_ms"]["mean"]) / 1e3,
            tokens_per_s=float(told["tok_per_s"]),
        )
        figures = (found.isl, found.osl, found.load, found.first_s, found.token_s, found.tokens_per_s)
        if number < 0 or not all(0 < one < MOST for one in figures):
            raise ValueError("one of its numbers is out of all bounds")
        return found


def this_machine(
    *,
    cores: int,
    memory_bytes: int,
    cpu: str,
    flags: frozenset[str],
    clock_hz: float = 2.5e9,
    rates: Rates | None = None,
) -> Chip:
    """Return the part of a CPU that a process may use, as a device.

    Args:
        cores: That may be used.
        memory_bytes: That may be used.
        cpu: As the kernel names it.
        flags: Of /proc/cpuinfo.
        clock_hz: That all cores hold under load.
        rates: What was measured of it; None: name, cores and flags say it.
    """
    like, _ = find_machine(f"CPU {cpu}")
    whole = like.bandwidth if like is not None else 100e9
    bandwidth = min(whole, _BYTES_A_CORE * cores)
    flops = next((each for flag, each in _FLOPS_A_CYCLE.items() if flag in flags), 16.0) * clock_hz * cores
    source = "cores, flags and name of this machine"
    if rates is not None:
        bandwidth, flops = rates.bytes_per_s / SEEN_BANDWIDTH, rates.flops / SEEN_FLOPS
        source = "measured on this machine"
    bf16 = _AMX if "amx_bf16" in flags else 2.0 if "avx512_bf16" in flags else 1.0
    int8 = 2 * _AMX if "amx_int8" in flags else 4.0 if {"avx512_vnni", "avx_vnni"} & flags else 2.0
    return Chip(
        name=f"{cpu or 'CPU'}, {cores} cores",
        vendor="cpu",
        memory_bytes=memory_bytes,
        bandwidth=bandwidth,
        bf16=bf16 * flops,
        fp8=0.0,
        int8=int8 * flops,
        fp4=0.0,
        link=48.0 * GB,
        watts=10.0 * cores,
        usd=100.0 * cores,
        source=source,
    )


def case_of(one: Measured, chip: Chip, *, model: str, engine: str, precision: str, devices: int = 1) -> Case:
    """Return a load test as a case.

    Raises:
        InvalidRequest: the model is unknown, and its name has no size.
    """
    network = find_network(model)
    if network is None:
        raise InvalidRequest(
            f"no model is known as {model[:80]!r}", hint="give a name with its size: acme-1.5b", param="--model"
        )
    family = engine_of(engine)
    return Case(
        chip=chip,
        host=None,
        network=network,
        precision=precision_of(precision, model=model, chip=chip, network=network, engine=family),
        engine=family,
        devices=devices,
        tp=devices,
        isl=one.isl,
        osl=one.osl,
        load_kind="rate" if one.load_kind == "rate" else "closed",
        load=one.load,
        rounds=one.rounds,
        even=one.rounds < STEADY,
    )


def calibrate(
    machine: str,
    cases: Sequence[tuple[Case, Measured]],
    using: Calibration | None = None,
    *,
    rates: Rates | None = None,
) -> Own:
    """Return the changes of the published efficiencies from measurements of one machine.

    Few measurements change little: each change is pulled towards the published value, so that a single report mostly
    changes bandwidth and prompt speed.

    Args:
        machine: Name of the device of the cases.
        cases: What was measured, and of what; one engine.
        using: Where to begin; None: what is shipped.
        rates: What the devices of the cases were made with.

    Raises:
        InvalidRequest: there is no case, or more than one engine.
    """
    engines = {case.engine for case, _ in cases}
    if len(engines) != 1:
        raise InvalidRequest("no report is given" if not cases else "give the reports of one engine at a time")
    begin = (using or shipped()).efficiencies
    batch = make_batch([case for case, _ in cases])
    there = np.log([[one.first_s, one.token_s, one.tokens_per_s] for _, one in cases])

    def missed(changes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        moved = with_changes(begin, machine, tuple(zip(MOVED, changes, strict=True)))
        left = (logarithms(times(batch, moved)) - there).ravel()
        return np.concatenate([left, np.array(HELD) * changes])

    changes = np.zeros(len(MOVED))
    for _ in range(30):
        left = missed(changes)
        slopes = np.stack(
            [(missed(changes + 1e-4 * unit) - left) / 1e-4 for unit in np.eye(len(MOVED))],
            axis=1,
        )
        step = np.linalg.lstsq(slopes.T @ slopes + 1e-6 * np.eye(len(MOVED)), -slopes.T @ left, rcond=None)[0]
        changes = changes + np.clip(step, -0.7, 0.7)
        if np.abs(step).max() < 1e-4:
            break
    left = missed(changes)[: there.size].reshape(there.shape)
    worst = np.abs(left).max(axis=0)
    return Own(
        machine=machine,
        engine=engines.pop(),
        changes=tuple((name, round(float(value), 4)) for name, value in zip(MOVED, changes, strict=True)),
        misses=(float(worst[0]), float(worst[1]), float(worst[2])),
        num_reports=len(cases),
        rates=rates,
    )


def with_changes(begin: Efficiencies, machine: str, changes: Sequence[tuple[str, float]]) -> Efficiencies:
    """Return efficiencies with the changes of one machine."""
    effects = {level: dict(entries) for level, entries in begin.effects.items()}
    effects.setdefault("chip", {})[machine] = {name: float(value) for name, value in changes}
    return Efficiencies(begin.base, effects)


def expect(cases: Sequence[Case], own: Own | None) -> Estimate:
    """Return the estimates for one's own machine: by its measurements, or by published ones."""
    if own is None:
        return estimate(cases)
    begin = shipped()
    bands = tuple(max(LEAST_BAND, miss) for miss in own.misses)
    measured = replace(
        begin,
        efficiencies=with_changes(begin.efficiencies, own.machine, own.changes),
        measured=Measurements({}, {pair_of(case): 0 for case in cases}, np.zeros((len(cases), 7)), ()),
        intervals={"fitted": tuple((-band, band) for band in bands)},
        misses={},
    )
    return estimate(cases, measured)


def own_bytes(own: Own) -> bytes:
    """Return the stored form of a calibration."""
    told = {
        "machine": own.machine,
        "engine": own.engine,
        "changes": dict(own.changes),
        "misses": own.misses,
        "num_reports": own.num_reports,
        "rates": asdict(own.rates) if own.rates else None,
    }
    return (json.dumps(told, indent=2) + "\n").encode()


def read_own(path: Path) -> Own | None:
    """Return the calibration that `ashore plan calibrate` wrote at `path`, or None.

    Raises:
        InvalidRequest: the file is damaged.
    """
    if not path.is_file():
        return None
    with foreign_errors(f"{path} is damaged", InvalidRequest, hint="run `ashore plan calibrate` again"):
        told = json.loads(path.read_text(encoding="utf-8"))
        first, token, speed = (float(one) for one in told["misses"])
        changes = tuple((str(name), float(value)) for name, value in told["changes"].items())
        if not {name for name, _ in changes} <= set(MOVED):
            raise ValueError("it names an efficiency that is none")
        return Own(
            machine=str(told["machine"]),
            engine=str(told["engine"]),
            changes=changes,
            misses=(first, token, speed),
            num_reports=int(told["num_reports"]),
            rates=_rates(told.get("rates")),
        )


def _rates(told: Any) -> Rates | None:
    if told is None:
        return None
    return Rates(bytes_per_s=float(told["bytes_per_s"]), flops=float(told["flops"]))
