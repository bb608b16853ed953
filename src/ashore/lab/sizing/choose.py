"""Chooses what to buy: every layout that fits, the number needed for the load, and its cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil, sqrt
from typing import Final, Literal

import numpy as np

from ashore.core.bytesize import human_bytes
from ashore.core.shapes import kv_bytes
from ashore.lab.sizing.calibration import TRUST, Calibration, Estimate, Trust, estimate, shipped
from ashore.lab.sizing.case import STEADY, Case, Precision, precision_of, weight_bytes
from ashore.lab.sizing.chips import Chip
from ashore.lab.sizing.networks import Network
from ashore.lab.sizing.steps import FIXED_BYTES, USABLE
from ashore.lab.sizing.wish import HOURS_A_YEAR, Costs, Level, Load

PARALLEL: Final = (1, 2, 4, 8, 16)
AT_ONCE: Final = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
P99: Final = 2.326
"""Standard deviations at which the tails of the calibration stand."""
GIB: Final = 1 << 30
Bottleneck = Literal["reading weights", "reading the cache", "arithmetic", "overhead", "network", "KV cache", "prompts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A planned number with its 80 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One way to serve the load."""

    chip: Chip
    precision: Precision
    engine: str
    tp: int
    ep: int
    """Devices over which experts are spread; 1: none are."""
    replicas: int
    at_once: int
    """Requests that one replica works on at the level."""
    devices: Figure
    """In all; low and high follow from those of the times."""
    first_s: Figure
    token_s: Figure
    requests_per_s: Figure
    """That one replica answers at the level."""
    weight_bytes: int
    kv_tokens: int
    """For which one replica has cache."""
    ram_bytes: int
    """Of each machine."""
    disk_bytes: int
    network_gbit_s: float
    """Between the machines of one replica; 0: a replica is inside one machine."""
    machines: int
    watts: float
    """Of all devices and machines under this load."""
    usd: float
    """Of all devices and machines."""
    usd_per_million: Figure
    """Tokens of answers."""
    bottleneck: Bottleneck
    trust: Trust

    @property
    def name(self) -> str:
        return f"{round(self.devices.value)} x {self.chip.name} {self.precision.name} tp{self.tp}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A way that cannot serve the load, with the reason."""

    chip: str
    precision: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Options that serve the load, cheapest first, and refusals."""

    options: tuple[Option, ...]
    refused: tuple[Refusal, ...]


def choose(
    network: Network,
    load: Load,
    level: Level,
    *,
    model: str,
    catalogue: Iterable[Chip],
    precisions: Sequence[str] = (),
    engine: str = "vllm",
    most_devices: int = 1024,
    costs: Costs | None = None,
    calibration: Calibration | None = None,
) -> Choice:
    """Return every way to serve a load at a level: the cheapest of each device and precision, cheapest first.

    Args:
        network: The model.
        load: The users' load.
        level: The service level.
        model: Name of the model, which determines its published precision.
        catalogue: Devices that may be bought.
        precisions: Words such as bf16, fp8, int4; empty: the precisions of each device.
        engine: On accelerators; CPUs run OpenVINO, Ascend runs vLLM's port.
        most_devices: Larger options are refused.
        costs: Of money and electricity.
        calibration: None: the shipped one.
    """
    using, money = calibration or shipped(), costs or Costs()
    options: list[Option] = []
    refused: list[Refusal] = []
    for chip in catalogue:
        for word in precisions or _usual_precisions(network, model, chip):
            runs = "openvino" if chip.is_cpu else "llama.cpp" if chip.vendor == "apple" else engine
            precision = precision_of(word, model=model, chip=chip, network=network, engine=runs)
            found: list[Option] = []
            beyond: list[Option] = []
            why = ""
            for tp in _layouts(chip):
                one = _size(network, load, level, chip, precision, runs, tp, money, using)
                if isinstance(one, str):
                    why = one if "does not fit" not in one or not why or "does not fit" in why else why
                elif one.devices.value > most_devices:
                    beyond.append(one)
                else:
                    found.append(one)
            if found:
                options.append(min(found, key=lambda one: (one.usd_per_million.value, one.devices.value)))
            else:
                why = _too_many(beyond, load, level, most_devices) if beyond else why
                refused.append(Refusal(chip=chip.name, precision=word or precision.name, why=why))
    return Choice(options=tuple(sorted(options, key=lambda one: one.usd_per_million.value)), refused=tuple(refused))


def _too_many(options: Sequence[Option], load: Load, level: Level, most_devices: int) -> str:
    """Return the needs of the smallest layout, and the part of the load that the purchasable devices can serve."""
    fewest = min(one.devices.value for one in options)
    part = max(_part(one, load, level, most_devices // one.tp) for one in options)
    serves = f"{part:.0%} of this load" if part >= 0.01 else "none of it"
    return f"needs {fewest:,.0f} devices; at most {most_devices:,} may be bought, which serve {serves}"


def _part(one: Option, load: Load, level: Level, replicas: int) -> float:
    """Return the largest part of a load that so many replicas of an option serve at the level, in steps of 1 %."""
    if not replicas:
        return 0.0
    whole_s = one.first_s.value + max(load.osl - 1, 0) * one.token_s.value
    held, over = 0, 100
    while over - held > 1:
        part = (held + over) // 2
        less = replace(load, requests_per_s=load.requests_per_s * part / 100, users=load.users * part // 100)
        held, over = (part, over) if _replicas(less, level, whole_s, one.at_once) <= replicas else (held, part)
    return held / 100


def _layouts(chip: Chip) -> tuple[int, ...]:
    """Return the possible numbers of devices that share a layer: two sockets of a CPU, one machine of Apple's."""
    most = 2 if chip.is_cpu else 1 if chip.vendor == "apple" else PARALLEL[-1]
    return tuple(tp for tp in PARALLEL if tp <= most)


def _usual_precisions(network: Network, model: str, chip: Chip) -> tuple[str, ...]:
    if network.name.startswith(("gpt-oss", "deepseek-v4")):
        return ("",)
    if chip.vendor == "apple":
        return ("q4_k_m",)
    words = ["int8", "int4"] if chip.is_cpu else ["bf16", "fp8"] if chip.fp8 else ["bf16", "int4"]
    if chip.fp4:
        words.append("fp4")
    if chip.vendor == "ascend":
        words = ["bf16", "w8a8"]
    if network.name.startswith("deepseek-v3") and "bf16" in words:
        words.remove("bf16")  # published in FP8
    return tuple(words)


def _size(
    network: Network,
    load: Load,
    level: Level,
    chip: Chip,
    precision: Precision,
    engine: str,
    tp: int,
    costs: Costs,
    using: Calibration,
) -> Option | str:
    """Return the option of one layout, or why it is not one."""
    sockets = 2 if chip.is_cpu else 8
    if (chip.is_cpu and tp > 2) or (chip.vendor == "apple" and tp > 1):
        return f"{chip.name}: layers are shared by {'two sockets' if chip.is_cpu else 'one device'} at most"
    weights = weight_bytes(network, precision)
    room = chip.memory_bytes * USABLE - FIXED_BYTES - weights / tp
    per_token = kv_bytes(network.shape, tokens=max(1, int(load.isl + load.osl)), itemsize=1, tensor_parallel=tp)
    per_request = per_token * precision.cache
    if room < per_request:
        return (
            f"does not fit: {human_bytes(int(weights / tp))} of weights and {human_bytes(int(per_request))} of KV "
            f"cache for one request on {human_bytes(chip.memory_bytes)}, with {tp} to a replica"
        )
    fits = int(room / per_request)
    at_once = [c for c in AT_ONCE if c <= fits] or [1]
    cases = [_case(network, load, chip, precision, engine, tp, c) for c in at_once]
    said = estimate(cases, using)
    tail_first = 1 + (float(np.exp(using.efficiencies.base["tail_first"])) - 1) * level.deviations / P99
    tail_token = 1 + (float(np.exp(using.efficiencies.base["tail_token"])) - 1) * level.deviations / P99
    kept = [
        i
        for i in range(len(at_once))
        if said.value[i, 0] * tail_first <= level.first_s and said.value[i, 1] * tail_token <= level.token_s
    ]
    if not kept:
        return (
            f"misses the level even for one request at a time: first token {said.value[0, 0] * tail_first:.2f} s, "
            f"a token {1e3 * said.value[0, 1] * tail_token:.0f} ms at the {level.percentile:g}th percentile"
        )
    best = max(kept, key=lambda i: at_once[i] / _whole_s(said, i, load))
    return _option(
        network, load, level, chip, precision, engine, tp, costs, said, at_once, best, fits, per_request, sockets
    )


def _case(network: Network, load: Load, chip: Chip, precision: Precision, engine: str, tp: int, at_once: int) -> Case:
    return Case(
        chip=chip,
        host=None,
        network=network,
        precision=precision,
        engine=engine,
        devices=tp,
        tp=tp,
        ep=tp if network.shape.num_experts > 32 else 1,
        isl=load.computed,
        osl=load.osl,
        load_kind="closed",
        load=float(at_once),
        rounds=STEADY,
    )


def _whole_s(said: Estimate, row: int, load: Load, bound: str = "value") -> float:
    first, token, _ = getattr(said, bound)[row]
    return float(first + max(load.osl - 1, 0) * token)


def _option(
    network: Network,
    load: Load,
    level: Level,
    chip: Chip,
    precision: Precision,
    engine: str,
    tp: int,
    costs: Costs,
    said: Estimate,
    at_once: Sequence[int],
    best: int,
    fits: int,
    per_request: float,
    in_machine: int,
) -> Option:
    requests = at_once[best]
    whole = {bound: _whole_s(said, best, load, bound) for bound in ("value", "low", "high")}
    replicas = {bound: _replicas(load, level, seconds, requests) for bound, seconds in whole.items()}
    devices = Figure(value=replicas["value"] * tp, low=replicas["low"] * tp, high=replicas["high"] * tp)
    rate = Figure(value=requests / whole["value"], low=requests / whole["high"], high=requests / whole["low"])
    machines = max(1, ceil(devices.value / in_machine))
    here = min(in_machine, devices.value)
    asked = _rate(load, whole["value"])
    busy = min(1.0, asked / (replicas["value"] * rate.value))
    watts = devices.value * chip.watts * (0.35 + 0.65 * busy) * 1.3
    usd = devices.value * chip.usd * (1 + costs.host_share)
    weights = int(weight_bytes(network, precision))

    def per_million(number: float) -> float:
        hourly = number * chip.usd * (1 + costs.host_share) / (costs.years * HOURS_A_YEAR)
        hourly += watts * number / devices.value / 1e3 * costs.pue * costs.usd_per_kwh
        return hourly / (asked * load.osl * 3600) * 1e6

    return Option(
        chip=chip,
        precision=precision,
        engine=engine,
        tp=tp,
        ep=tp if network.shape.num_experts > 32 else 1,
        replicas=int(replicas["value"]),
        at_once=requests,
        devices=devices,
        first_s=Figure(value=said.value[best, 0], low=said.low[best, 0], high=said.high[best, 0]),
        token_s=Figure(value=said.value[best, 1], low=said.low[best, 1], high=said.high[best, 1]),
        requests_per_s=rate,
        weight_bytes=weights,
        kv_tokens=int(fits * (load.isl + load.osl)),
        ram_bytes=_ram_bytes(chip, weights, int(here), tp, fits * per_request),
        disk_bytes=3 * weights + 100 * GIB,
        network_gbit_s=400.0 if tp > in_machine else 0.0,
        machines=machines,
        watts=watts,
        usd=usd,
        usd_per_million=Figure(
            value=per_million(devices.value), low=per_million(devices.low), high=per_million(devices.high)
        ),
        bottleneck=_bottleneck(said, best, requests, fits, load),
        trust=said.trust[best],
    )


def capacity(
    network: Network,
    load: Load,
    level: Level,
    *,
    model: str,
    chip: Chip,
    devices: int,
    precisions: Sequence[str] = (),
    engine: str = "vllm",
) -> tuple[Figure, Option] | str:
    """Return the request rate that so many devices serve at a level, with the layout; or why none does.

    Args:
        network: The model.
        load: Its lengths; the rate is ignored.
        level: The service level.
        model: Name of the model.
        chip: The device.
        devices: Their number.
        precisions: As in `choose`.
        engine: As in `choose`.
    """
    best: tuple[Figure, Option] | None = None
    why = f"{devices} devices are fewer than a replica needs"
    for word in precisions or _usual_precisions(network, model, chip):
        runs = "openvino" if chip.is_cpu else engine
        precision = precision_of(word, model=model, chip=chip, network=network, engine=runs)
        for tp in (tp for tp in _layouts(chip) if tp <= devices):
            one = _size(network, load, level, chip, precision, runs, tp, Costs(), shipped())
            if isinstance(one, str):
                why = one
                continue
            slots = one.at_once * (devices // tp)
            underway = ((sqrt(level.deviations**2 + 4 * slots) - level.deviations) / 2) ** 2
            share = underway / one.at_once
            rate = one.requests_per_s
            found = Figure(value=share * rate.value, low=share * rate.low, high=share * rate.high)
            if best is None or found.value > best[0].value:
                best = found, one
    return best or why


def _rate(load: Load, whole_s: float) -> float:
    """Return the request rate that must be computed."""
    rate = load.users / (load.think_s + whole_s) if load.users else load.requests_per_s
    return max(rate * (1 - load.answered_from_cache), 1e-9)


def _replicas(load: Load, level: Level, whole_s: float, at_once: int) -> int:
    """Return how many replicas hold the concurrent requests at the level's percentile.

    Arrivals are independent, so the requests underway follow a Poisson law around Little's mean; its standard deviation
    is the root of the mean.
    """
    mean = _rate(load, whole_s) * whole_s
    return max(1, ceil((mean + level.deviations * sqrt(mean)) / at_once))


def _ram_bytes(chip: Chip, weights: int, here: int, tp: int, cache: float) -> int:
    """Return the memory of one machine: files in the page cache and buffers of each device or, on a CPU, the model."""
    if chip.is_cpu:
        return int(1.15 * (weights + cache) * max(1, here // tp)) + 16 * GIB
    return int(1.15 * weights) + 8 * GIB * here + 16 * GIB


def _bottleneck(said: Estimate, row: int, requests: int, fits: int, load: Load) -> Bottleneck:
    parts: dict[Bottleneck, float] = {
        "reading weights": said.physics.weight_s[row],
        "reading the cache": said.physics.cache_s[row],
        "arithmetic": said.physics.compute_s[row],
        "overhead": said.physics.overhead_s[row],
        "network": said.physics.network_s[row],
        "prompts": said.physics.prefill_s[row] * requests / max(load.osl, 1),
    }
    if requests >= 0.9 * fits and fits < AT_ONCE[-1]:
        return "KV cache"
    return max(parts, key=lambda name: parts[name])


def words_of(trust: Trust) -> str:
    """Return the derivation of a figure as text."""
    return TRUST[trust]
