"""How long a model takes: memory, arithmetic, communication, batching and queueing, for many cases at once.

Every quantity of a case is an array with one number for each case. The efficiencies are not physics: they come from
published measurements (`efficiencies.json`), as a value for all and a deviation for each engine, device, precision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ashore.core.shapes import kv_bytes
from ashore.lab.sizing.case import Case, weight_bytes

Array = npt.NDArray[np.float64]

COEFFICIENTS: Final[Mapping[str, tuple[float, float, float]]] = {
    "bandwidth": (0.80, 0.03, 1.0),
    "layer_s": (40e-6, 5e-7, 3e-3),
    "step_s": (5e-4, 1e-6, 3e-2),
    "token_s": (4e-6, 1e-7, 2e-3),
    "decode_flops": (0.35, 0.005, 1.0),
    "prefill_flops": (0.70, 0.02, 2.0),
    "reduce_s": (8e-6, 1e-7, 1e-3),
    "far_s": (40e-6, 1e-6, 5e-3),
    "link": (0.30, 0.005, 1.5),
    "first_s": (0.015, 0.0005, 1.0),
    "launch_s": (3e-4, 1e-6, 1e-2),
    "mix": (0.8, 0.1, 4.0),
    "queue": (1.0, 0.02, 12.0),
    "crowd": (0.5, 0.05, 1.0),
    "surge": (0.05, 0.001, 1.0),
    "lump": (1.0, 0.5, 6.0),
    "even": (0.3, 0.02, 1.0),
    "wait": (0.8, 0.2, 2.0),
    "steps": (1.5, 0.3, 12.0),
    "arrive_s": (1e-3, 1e-5, 0.05),
    "room": (1.5, 0.3, 5.0),
    "token_power": (0.8, 0.4, 1.0),
    "cache": (1.0, 0.2, 6.0),
    "expert_bandwidth": (0.7, 0.05, 1.2),
    "eager": (2.5, 1.0, 6.0),
    "drafts": (1.7, 1.0, 4.0),
    "slots": (0.8, 0.1, 2.0),
    "steady": (0.85, 0.3, 1.2),
    "burst": (1.0, 0.2, 3.0),
    "median_first": (0.8, 0.2, 1.0),
    "tail_first": (2.0, 1.0, 4.0),
    "tail_token": (1.1, 1.0, 1.25),
    "official": (0.75, 0.2, 1.5),
    "near_first": (0.5, 0.1, 1.0),
    "near_token": (0.9, 0.5, 1.0),
}
"""Name: where the fit begins, least, most. Efficiencies are shares of the data sheet; *_s are seconds."""

_SPEED: Final = frozenset({"bandwidth", "layer_s", "step_s", "decode_flops", "prefill_flops"})
_BATCHING: Final = frozenset(
    {"token_s", "mix", "queue", "crowd", "surge", "arrive_s", "room", "cache", "slots", "steps", "lump"}
)
_LEVELS: Final = frozenset({"near_first", "near_token", "tail_first", "official"})
LEVELS: Final[Mapping[str, frozenset[str]]] = {
    "engine": _SPEED | _BATCHING | _LEVELS | {"first_s", "launch_s", "expert_bandwidth"},
    "engine with precision": frozenset({"bandwidth"}),
    "engine with form": frozenset({"launch_s", "layer_s"}),
    "form": frozenset({"launch_s", "layer_s", "prefill_flops"}),
    "vendor": frozenset({"bandwidth", "decode_flops", "prefill_flops", "step_s"}),
    "year": frozenset({"layer_s", "step_s"}),
    "chip": _SPEED | {"first_s", "token_s"},
}
"""Which coefficients an engine, the form of a model and a maker may change; the change of a year is taken as often as
years have passed since YEAR_ZERO. A device is changed by measurements of one's own alone: what published ones say of a
device did not hold for other models on it."""
YEAR_ZERO: Final = 2025.8
SUPERNODES: Final = frozenset({"GB200", "GB300", "Ascend-910C"})
"""Devices that reach more than eight others over their own links."""
MOST_AT_ONCE: Final = 1024.0
"""Sequences that engines run at once unless they are told otherwise."""
LEVEL_WEIGHT: Final = 0.8
"""How much a level that a rate was raised to says about what is seen, beside physics."""
CHUNK: Final = 8192.0
"""Tokens of prompts that engines compute at once."""
LAUNCH_ON_CPU: Final = 0.1
"""What a layer of a prompt costs beside its work, as a share of the same on a device that is told what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """How near the data sheet matrix products come: `peak / (1 + rows0 / rows) / (1 + width0 / width)` of it."""

    peak: float
    rows0: float
    width0: float
    expert_peak: float
    """The same for products of experts, in groups."""
    expert_width0: float


KERNELS: Final[Mapping[str, Kernels]] = {
    "bf16": Kernels(peak=0.78, rows0=40, width0=30, expert_peak=0.35, expert_width0=150),
    "fp8": Kernels(peak=0.72, rows0=170, width0=1700, expert_peak=0.30, expert_width0=400),
    "int8": Kernels(peak=0.86, rows0=130, width0=440, expert_peak=0.30, expert_width0=400),
    "fp4": Kernels(peak=0.55, rows0=250, width0=2000, expert_peak=0.32, expert_width0=1000),
    "cpu": Kernels(peak=0.70, rows0=8, width0=0, expert_peak=0.40, expert_width0=0),
}
"""By arithmetic units; those of CPUs are ours. The others were fitted to the measured kernels of aiconfigurator-core
0.12.0 (NVIDIA, Apache-2.0), of vLLM, SGLang and TensorRT-LLM on A100, H100, H200, B200, B300 and GB200. They meet dense
products within 4 to 15 % in the median, and those of experts within 10 to 50 %."""
USABLE: Final = 0.94
"""Share of a device's memory that engines take."""
FIXED_BYTES: Final = 2.5e9
"""Graphs, communication buffers and activations on each device."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Many cases as arrays."""

    values: Mapping[str, Array]
    entries: Mapping[str, tuple[str, ...]]
    """For each level of LEVELS, the entries that occur."""
    codes: Mapping[str, npt.NDArray[np.int64]]
    """For each level, the place in `entries` of each case."""

    def __len__(self) -> int:
        return len(self.values["isl"])

    def __getitem__(self, name: str) -> Array:
        return self.values[name]

    def take(self, chosen: npt.NDArray[Any]) -> Batch:
        index = np.arange(len(self))[chosen]
        return Batch(
            {name: column[index] for name, column in self.values.items()},
            self.entries,
            {name: column[index] for name, column in self.codes.items()},
        )

    def has(self, level: str, entry: str) -> npt.NDArray[np.bool_]:
        """Return which cases have this entry."""
        if entry not in self.entries[level]:
            return np.zeros(len(self), dtype=bool)
        found: npt.NDArray[np.bool_] = self.codes[level] == self.entries[level].index(entry)
        return found


def make_batch(cases: Sequence[Case]) -> Batch:
    """Return cases as arrays."""
    rows = [_row(case) for case in cases]
    values = {name: np.array([row[name] for row in rows], dtype=float) for name in rows[0]}
    keys: dict[str, tuple[str, ...]] = {
        "engine": tuple(case.engine for case in cases),
        "chip": tuple(case.chip.name for case in cases),
        "vendor": tuple(case.chip.vendor for case in cases),
        "form": tuple(_form(case) for case in cases),
        "engine with form": tuple(f"{case.engine} {_form(case)}" if case.engine else "" for case in cases),
        "engine with precision": tuple(_kernels(case) for case in cases),
        "year": ("passed",) * len(cases),
    }
    entries = {level: tuple(sorted(set(column))) for level, column in keys.items()}
    places = {level: {entry: at for at, entry in enumerate(column)} for level, column in entries.items()}
    codes = {level: np.array([places[level][entry] for entry in column]) for level, column in keys.items()}
    return Batch(values, entries, codes)


def _kernels(case: Case) -> str:
    """Return engine and precision if the engine unpacks weights or has unusual kernels; else empty."""
    unpacks = case.precision.name in ("int8", "weight8", "weight4") or case.engine == "transformers"
    return f"{case.engine} {case.precision.name}" if case.engine and unpacks else ""


def _form(case: Case) -> str:
    shape = case.network.shape
    attention = "latent" if shape.latent_rank else "linear" if shape.linear_layers else "grouped"
    return attention + (" experts" if shape.num_experts else "")


def _row(case: Case) -> dict[str, float]:
    network, precision, chip, shape = case.network, case.precision, case.chip, case.network.shape
    instances = max(1, case.devices // (case.tp * case.attention_dp))
    together = case.tp * case.attention_dp
    context = case.isl + case.osl / 2
    far = together > (72 if chip.name in SUPERNODES else 8)
    return {
        "isl": case.isl,
        "osl": max(case.osl, 1.0),
        "load": case.load,
        "closed": float(case.load_kind == "closed"),
        "burst": float(case.load_kind == "burst"),
        "rate": float(case.load_kind == "rate"),
        "saturated": float(case.load_kind == "saturated"),
        "p99": float(case.statistic == "p99"),
        "median": float(case.statistic == "median"),
        "eager": float(case.eager),
        "speculative": float(case.speculative),
        "official": float(case.official),
        "beams": float(case.beams),
        "rounds": case.rounds,
        "even": float(case.even),
        "prompts_first": float(case.engine == "sglang"),
        "held_steps": case.held_steps,
        "slots": float(case.slots),
        "level_first": case.level[0] if case.level else 0.0,
        "level_token": case.level[1] if case.level else 0.0,
        "instances": float(instances),
        "tp": float(case.tp),
        "dp": float(case.attention_dp),
        "n": float(together),
        "ep": float(case.ep),
        "layers": float(shape.num_layers),
        "hidden": float(shape.hidden_size),
        "experts": float(shape.num_experts),
        "chosen": float(shape.experts_per_token),
        "attention": network.attention,
        "dense": network.dense,
        "shared": network.shared,
        "expert": network.expert,
        "head": network.head,
        "active": network.active,
        "weight_item": precision.weight,
        "attention_item": precision.attention,
        "head_item": precision.head,
        "weights": weight_bytes(network, precision),
        "kv": kv_bytes(shape, tokens=max(1, int(context)), itemsize=1, tensor_parallel=case.tp) * precision.cache,
        "kv_full": kv_bytes(shape, tokens=max(1, int(case.isl + case.osl)), itemsize=1, tensor_parallel=case.tp)
        * precision.cache,
        "pair_flops": network.pair_flops,
        "decode_pair_flops": network.decode_pair_flops,
        "bandwidth": chip.bandwidth,
        "memory": float(chip.memory_bytes),
        "flops": getattr(chip, precision.units) or chip.bf16,
        **_kernel_row(case),
        "bf16": chip.bf16,
        "link": min(chip.link, 50e9) if far else chip.link,
        "far": float(far),
        "host_bandwidth": case.host.bandwidth if case.host else 0.0,
        "host_flops": (case.host.int8 if precision.weight < 2 else case.host.bf16) if case.host else 0.0,
        "cpu": float(chip.is_cpu),
        "year": case.year - YEAR_ZERO,
    }


def _kernel_row(case: Case) -> dict[str, float]:
    """Return what products of this precision reach, and how narrow a device's part of them is."""
    network, shape, kernels = (
        case.network,
        case.network.shape,
        KERNELS["cpu" if case.chip.is_cpu else case.precision.units],
    )
    hidden = max(shape.hidden_size, 1)
    heads = max(shape.num_heads * shape.head_dim, 1)
    inner = shape.ffn_size or max(shape.shared_size, 1) if network.dense + network.shared else 1
    narrow = network.attention * (0.6 * case.tp / (1.3 * heads) + 0.4 / hidden)
    narrow += (network.dense + network.shared) * (case.tp / (3.0 * inner) + 1 / (3.0 * hidden))
    split = case.tp if case.ep <= 1 else 1
    expert_narrow = split / (3.0 * max(shape.expert_size, 1)) + 1 / (3.0 * hidden)
    return {
        "rows0": kernels.rows0,
        "dense_work": (1 + kernels.width0 * narrow / max(network.attention + network.dense + network.shared, 1.0))
        / kernels.peak,
        "expert_work": (1 + kernels.expert_width0 * expert_narrow) / kernels.expert_peak,
    }


@dataclass(frozen=True, slots=True)
class Efficiencies:
    """Factors on the physical model: logarithms, a common value and deviations by level and entry."""

    base: Mapping[str, float]
    effects: Mapping[str, Mapping[str, Mapping[str, float]]]
    """By level, entry, coefficient."""

    def of(self, batch: Batch, name: str) -> Array:
        """Return one coefficient for each case."""
        total = np.full(len(batch), self.base[name])
        for level, names in LEVELS.items():
            if name in names:
                found = self.effects.get(level, {})
                of_entry = np.array([found.get(entry, {}).get(name, 0.0) for entry in batch.entries[level]])
                change = of_entry[batch.codes[level]]
                total += change * batch["year"] if level == "year" else change
        _, least, most = COEFFICIENTS[name]
        value: Array = np.clip(np.exp(total), least, most)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Results of the physical model, in seconds and tokens a second, for each case."""

    first_s: Array
    token_s: Array
    tokens_per_s: Array
    concurrency: Array
    """Requests that one instance works on at once."""
    capacity: Array
    """Requests for which one instance has KV cache."""
    weight_s: Array
    cache_s: Array
    compute_s: Array
    overhead_s: Array
    network_s: Array
    prefill_s: Array


def times(batch: Batch, efficiencies: Efficiencies) -> Times:
    """Return the times of a model, by physics and efficiencies only.

    A decode step reads what its tokens need (of the experts those that any of them chose), computes, and crosses the
    network twice a layer; the slower of reading and computing rules, with a smooth corner. Prompts are computed between
    the steps, a chunk at a time: in the steady state of a closed loop each request brings one prompt for `osl` steps.
    Offered all at once, requests wait for a slot and for the prompts before theirs. With a rate, the requests at once
    follow from Little's law.
    """
    e = {name: efficiencies.of(batch, name) for name in COEFFICIENTS}
    b = batch.values
    capacity = np.maximum(b["memory"] * USABLE - b["weights"] / b["n"] - FIXED_BYTES, 0.03 * b["memory"])
    capacity = e["room"] * capacity / b["kv_full"] / b["beams"]
    capacity = np.maximum(1.0, capacity * np.where(b["dp"] > 1, b["dp"], 1.0))
    slots = np.where(b["slots"] > 0, b["slots"], MOST_AT_ONCE * e["slots"]) * b["dp"]
    slots = np.maximum(1.0, np.minimum(capacity, slots / b["beams"]))
    prefill, lonely = _prefill(b, e)
    offered = np.where(b["saturated"] > 0, slots, b["load"] / b["instances"])
    rate = b["load"] / b["instances"]
    at_once = np.clip(offered, 1.0, slots)
    rows = np.flatnonzero(b["rate"])
    if len(rows):
        some_b, some_e = ({name: column[rows] for name, column in each.items()} for each in (b, e))
        at_once[rows] = _underway(some_b, some_e, rate[rows], slots[rows], prefill[rows])
    parts = _decode(b, e, at_once)
    share = _share(b, e, at_once, prefill, parts[0])
    step = parts[0]
    token = np.minimum(step / (1 - np.minimum(share, 0.985)), step + prefill * CHUNK / b["isl"])
    drafts = np.where(b["speculative"] > 0, 1 + (e["drafts"] - 1) / (1 + at_once / 64), 1.0)
    pace, token = token, token / drafts
    token = token * np.where(b["burst"] > 0, e["burst"], 1.0)
    passes = np.maximum(1.0, np.ceil(b["isl"] / CHUNK))
    launch_s = e["launch_s"] * np.where(b["cpu"] > 0, LAUNCH_ON_CPU, 1.0)
    waited = (e["steps"] + e["wait"] * b["held_steps"]) * pace
    alone = e["first_s"] + b["layers"] * passes * launch_s + lonely + waited
    behind = np.maximum(at_once - 1, 0)
    in_step = np.where((b["even"] > 0) & (b["prompts_first"] > 0) & (b["rounds"] <= 10), 1.0, b["rounds"] / e["lump"])
    surge = np.where(b["rounds"] > 0, 0.5 / np.maximum(in_step, 1.0), e["surge"])
    meets = e["queue"] * np.where(b["even"] > 0, e["even"], 1.0)
    first = alone + prefill * meets * share * behind ** e["crowd"] + surge * behind * (prefill + e["arrive_s"])
    answer = b["osl"] * token
    waiting = np.maximum(b["load"] / b["instances"] - slots, 0.0)
    turn = answer + prefill
    late = waiting / (2 * np.maximum(offered, 1.0)) * waiting / slots * turn
    first_burst = alone + (0.5 * e["queue"] * prefill + e["arrive_s"]) * at_once + late
    first_closed = first + np.where(b["load"] / b["instances"] > slots, turn * waiting / slots, 0.0)
    first = np.where(b["burst"] > 0, first_burst, np.where(b["closed"] > 0, first_closed, first))
    whole = first + np.maximum(b["osl"] - 1, 0) * token
    closed = b["load"] * b["osl"] / whole
    rounds = np.maximum(1.0, b["load"] / b["instances"] / slots)
    burst = b["load"] * b["osl"] / (rounds * turn + e["queue"] * prefill * at_once * 0.5 + e["first_s"]) * e["steady"]
    full = b["instances"] * at_once * b["osl"] / (b["osl"] * token + prefill) * e["steady"]
    full = np.where(b["osl"] > 1, full, b["instances"] / prefill)
    keeps_up = (at_once < 0.98 * slots) | (b["level_token"] > 0)
    offers = b["load"] * b["osl"]
    opened = np.where(keeps_up, offers, np.minimum(offers, full))
    speed = np.select([b["burst"] > 0, b["saturated"] > 0, b["rate"] > 0], [burst, full, opened], closed)
    speed = speed * np.where((b["official"] > 0) & (b["rate"] == 0), 1 / e["official"], 1.0)
    first = first * np.where(b["p99"] > 0, e["tail_first"], np.where(b["median"] > 0, e["median_first"], 1.0))
    token = token * np.where(b["p99"] > 0, e["tail_token"], 1.0) * np.where(b["official"] > 0, e["official"], 1.0)
    first = _up_to(first, b["level_first"], e["near_first"])
    token = _up_to(token, b["level_token"], e["near_token"])
    _, weight_s, cache_s, compute_s, overhead_s, network_s = parts
    return Times(
        first_s=first,
        token_s=token,
        tokens_per_s=speed,
        concurrency=at_once,
        capacity=capacity,
        weight_s=weight_s,
        cache_s=cache_s,
        compute_s=compute_s,
        overhead_s=overhead_s,
        network_s=network_s,
        prefill_s=prefill,
    )


def _up_to(physics: Array, level: Array, near: Array) -> Array:
    """Return the observed value where a rate was raised until a level was nearly reached: almost always close to it."""
    raised = (level * near) ** LEVEL_WEIGHT * physics ** (1 - LEVEL_WEIGHT)
    return np.where(level > 0, raised, physics)


def _share(b: Mapping[str, Array], e: Mapping[str, Array], at_once: Array, prefill: Array, step: Array) -> Array:
    """Return the share of time that prompts take from running answers."""
    # the first waits for all that arrived with it, the last for none
    in_step = (b["even"] > 0) & (b["prompts_first"] > 0)
    mix = np.where(in_step, 0.5, e["mix"])
    work = mix * np.maximum(at_once - 1, 0) * prefill / (np.maximum(b["osl"], 1) * step)
    share: Array = work / (1 + work)
    return share


def _underway(b: Mapping[str, Array], e: Mapping[str, Array], rate: Array, slots: Array, prefill: Array) -> Array:
    """Return the concurrency under a rate: Little's law with times that depend on it, by bisection."""
    at_once = np.ones(len(rate))
    for _ in range(12):
        step = _decode(b, e, at_once)[0]
        token = step / (1 - np.minimum(_share(b, e, at_once, prefill, step), 0.97))
        at_once = np.clip(0.5 * at_once + 0.5 * rate * (prefill + b["osl"] * token), 1.0, slots)
    return at_once


def _decode(b: Mapping[str, Array], e: Mapping[str, Array], at_once: Array) -> tuple[Array, ...]:
    """Return the seconds of one decode step, and of its parts: weights, cache, arithmetic, overhead, network."""
    n, tp, dp = b["n"], b["tp"], b["dp"]
    at_once = at_once * b["beams"]
    ratio = np.where(b["experts"] > 0, np.minimum(b["chosen"] / np.maximum(b["experts"], 1), 1.0), 0.0)
    seen = np.where(b["experts"] > 0, 1 - (1 - ratio) ** at_once, 0.0)
    on_device = np.where(b["host_bandwidth"] > 0, 0.0, 1.0)
    fixed = b["attention"] * b["attention_item"] / tp + b["head"] * b["head_item"] / tp
    fixed = fixed + (b["dense"] + b["shared"]) * b["weight_item"] / n
    experts = b["expert"] * b["experts"] * seen * b["weight_item"] / n * on_device
    weight_s = fixed / (b["bandwidth"] * e["bandwidth"])
    weight_s = weight_s + experts / (b["bandwidth"] * e["bandwidth"] * e["expert_bandwidth"])
    cache_s = at_once / dp * b["kv"] * e["cache"] / (b["bandwidth"] * e["bandwidth"])
    work = 2 * b["active"] * at_once / (n * b["flops"] * e["decode_flops"])
    work = work + at_once / n * b["decode_pair_flops"] * (b["isl"] + b["osl"] / 2) / (b["bf16"] * e["decode_flops"])
    read_s = weight_s + cache_s
    busy = (read_s**3 + work**3) ** (1 / 3)
    graphs = np.where(b["eager"] > 0, e["eager"], 1.0)
    overhead = (b["layers"] * e["layer_s"] + e["step_s"]) * graphs + e["token_s"] * at_once ** e["token_power"]
    crossing = e["reduce_s"] + b["far"] * e["far_s"] + at_once / dp * b["hidden"] * 2 / (b["link"] * e["link"])
    crossing = np.where(n > 1, 2 * b["layers"] * crossing, 0.0)
    host = np.where(
        b["host_bandwidth"] > 0,
        b["expert"] * b["experts"] * seen * b["weight_item"] / np.maximum(b["host_bandwidth"] * 0.7, 1.0),
        0.0,
    )
    return busy + overhead + crossing + host, weight_s + host, cache_s, work, overhead, crossing


def _prefill(b: Mapping[str, Array], e: Mapping[str, Array]) -> tuple[Array, Array]:
    """Return the seconds that the prompt of one request takes of an instance, and those until it is done.

    They differ where groups of devices hold attention whole: a prompt is then with one of them, others with the others.
    """
    n = b["n"]
    experts = b["expert"] * b["chosen"]
    dense = 2 * (b["active"] - b["head"] - experts) * b["dense_work"] * (b["isl"] + b["rows0"])
    linear = (dense + 2 * experts * b["expert_work"] * b["isl"]) / (n * b["flops"] * e["prefill_flops"])
    pairs = b["pair_flops"] * b["isl"] ** 2 / 2 / (n * b["bf16"] * e["prefill_flops"])
    crossing = np.where(n > 1, 2 * b["layers"] * b["isl"] * b["hidden"] * 2 / (b["link"] * e["link"]), 0.0)
    host = np.where(
        b["host_flops"] > 0,
        2 * b["expert"] * b["chosen"] * b["isl"] / np.maximum(b["host_flops"] * 0.15, 1.0),
        0.0,
    )
    passes = np.maximum(1.0, np.ceil(b["isl"] / CHUNK))
    reading = passes * np.where(b["host_flops"] > 0, 0.0, b["weights"] / n / (b["bandwidth"] * e["bandwidth"]))
    busy = ((linear + pairs) ** 3 + reading**3) ** (1 / 3)
    spread = experts / np.maximum(b["active"] - b["head"], 1.0)
    alone = (linear * (spread + (1 - spread) * b["dp"]) + pairs * b["dp"]) ** 3
    return busy + crossing + host, (alone + reading**3) ** (1 / 3) + crossing + host
