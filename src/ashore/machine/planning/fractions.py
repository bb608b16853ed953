"""GPU slices for models: MIG instances, MPS limits or time slices, planned and rendered. No device is touched.

    mig      instances with memory and compute of their own; faults stay inside. Sizes are the maker's.
    mps      any percentage of the compute and any memory; a fault in one ends all of that GPU
    slices   all take turns; neither memory nor faults are kept apart

Source: NVIDIA, Multi-Instance GPU User Guide (profiles and placements of A100, H100, H200); CUDA Multi-Process Service.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from ashore.core.bytesize import human_bytes
from ashore.core.errors import InvalidRequest
from ashore.core.nearest import did_you_mean

FractionWay = Literal["mig", "mps", "slices"]
COMPUTE_SLICES: Final = 7
MEMORY_SLICES: Final = 8
PLACEMENTS: Final[Mapping[int, tuple[int, tuple[int, ...], int]]] = MappingProxyType(
    {
        1: (1, (0, 1, 2, 3, 4, 5, 6), 19),
        2: (2, (0, 2, 4), 14),
        3: (4, (0, 4), 9),
        4: (4, (0,), 5),
        7: (8, (0,), 0),
    }
)
"""By compute slices of a profile: memory slices, where it may begin, and its number for `nvidia-smi mig -cgi`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A kind of GPU."""

    name: str
    memory_gb: int
    slice_gb: int
    """Memory of a MIG slice, as its profiles are named."""


GPUS: Final = (
    Gpu(name="a100-40", memory_gb=40, slice_gb=5),
    Gpu(name="a100-80", memory_gb=80, slice_gb=10),
    Gpu(name="h100-80", memory_gb=80, slice_gb=10),
    Gpu(name="h200", memory_gb=141, slice_gb=18),
)
PROFILE_GB: Final[Mapping[str, Mapping[int, int]]] = MappingProxyType({"h200": {1: 18, 2: 35, 3: 71, 4: 71, 7: 141}})
"""Memory in the names of profiles, where it is no multiple of the slice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A model's needs on one GPU."""

    model: str
    compute: float
    """Part of a GPU's compute, above 0 to 1."""
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A model on a GPU."""

    gpu: int
    model: str
    what: str
    """`3g.40gb` at slice 0, `50 %, 40 GiB`, `1 of 2 turns`."""
    kubernetes: str
    """Resource that a pod asks for."""
    environment: tuple[tuple[str, str], ...] = ()
    vllm: str = ""
    """Options of vLLM that keep it inside."""
    start: int = 0
    """First memory slice of a MIG instance."""
    slices: int = 0
    profile_id: int = -1


def plan_parts(gpu_name: str, way: FractionWay, parts: Sequence[Part]) -> tuple[Placed, ...]:
    """Return the GPU of each model, on as few GPUs as first fit finds, largest first.

    Raises:
        InvalidRequest: the GPU is unknown, or cannot provide a part.
    """
    gpu = _gpu(gpu_name)
    for part in parts:
        if not 0 < part.compute <= 1 or part.memory_bytes > gpu.memory_gb * 10**9:
            raise InvalidRequest(
                f"{part.model} asks for {part.compute:g} of a {gpu.name} and {human_bytes(part.memory_bytes)}",
                hint=f"a part is above 0 and at most 1, with at most {gpu.memory_gb} GB; several GPUs need one engine "
                "that spans them",
            )
    order = sorted(parts, key=lambda one: (-max(one.compute, one.memory_bytes / (gpu.memory_gb * 1e9)), one.model))
    return tuple(_place_mig(gpu, order) if way == "mig" else _place_shared(gpu, way, order))


def mig_commands(placed: Sequence[Placed]) -> tuple[str, ...]:
    """Return the commands that create the MIG instances of a plan. They are not run here."""
    gpus = sorted({one.gpu for one in placed})
    lines = [f"nvidia-smi -i {gpu} -mig 1" for gpu in gpus]
    for gpu in gpus:
        ids = ",".join(
            f"{one.profile_id}:{one.start}" for one in sorted(placed, key=lambda p: p.start) if one.gpu == gpu
        )
        lines.append(f"nvidia-smi mig -i {gpu} -cgi {ids} -C")
    return tuple(lines)


def device_plugin(way: FractionWay, placed: Sequence[Placed]) -> str:
    """Return the configuration of NVIDIA's Kubernetes device plugin; empty if MIG only needs its strategy."""
    if way == "mig":
        return "version: v1\nflags:\n  migStrategy: mixed\n"
    most = max((sum(one.gpu == gpu for one in placed) for gpu in {one.gpu for one in placed}), default=1)
    name = "mps" if way == "mps" else "timeSlicing"
    return f"version: v1\nsharing:\n  {name}:\n    resources:\n      - name: nvidia.com/gpu\n        replicas: {most}\n"


def _gpu(name: str) -> Gpu:
    found = next((gpu for gpu in GPUS if gpu.name == name), None)
    if found is None:
        raise InvalidRequest(f"there is no GPU {name[:40]!r} here", hint=did_you_mean(name, [gpu.name for gpu in GPUS]))
    return found


def _profile(gpu: Gpu, part: Part) -> int:
    """Return the compute slices of the smallest profile that suffices for a model."""
    for compute, (memory, _, _) in PLACEMENTS.items():
        usable = _profile_gb(gpu, compute, memory) * 10**9
        if compute / COMPUTE_SLICES + 1e-9 >= min(part.compute, 1.0) and usable >= part.memory_bytes:
            return compute
    return COMPUTE_SLICES


def _profile_gb(gpu: Gpu, compute: int, memory: int) -> int:
    return PROFILE_GB.get(gpu.name, {}).get(compute, memory * gpu.slice_gb)


def _place_mig(gpu: Gpu, parts: Sequence[Part]) -> list[Placed]:
    taken: list[tuple[set[int], int]] = []
    """Of each GPU: its memory slices that are taken, and how many compute slices."""
    placed = []
    for part in sorted(parts, key=lambda one: -_profile(gpu, one)):
        compute = _profile(gpu, part)
        memory, starts, number = PLACEMENTS[compute]
        at, start = _first_fit(taken, compute, memory, starts)
        slices, used = taken[at]
        taken[at] = slices | set(range(start, start + memory)), used + compute
        profile = f"{compute}g.{_profile_gb(gpu, compute, memory)}gb"
        placed.append(
            Placed(
                gpu=at,
                model=part.model,
                what=f"{profile} at slice {start}",
                kubernetes=f"nvidia.com/mig-{profile}: 1",
                start=start,
                slices=memory,
                profile_id=number,
            )
        )
    return placed


def _first_fit(taken: list[tuple[set[int], int]], compute: int, memory: int, starts: Sequence[int]) -> tuple[int, int]:
    """Return the first GPU and slice with room; a new GPU if there is none."""
    for at, (slices, used) in enumerate(taken):
        if used + compute > COMPUTE_SLICES:
            continue
        for start in starts:
            if start + memory <= MEMORY_SLICES and not slices & set(range(start, start + memory)):
                return at, start
    taken.append((set(), 0))
    return len(taken) - 1, starts[0]


def _place_shared(gpu: Gpu, way: FractionWay, parts: Sequence[Part]) -> list[Placed]:
    room: list[tuple[float, float]] = []
    """Of each GPU: compute and memory that are left, as parts of it."""
    at_gpu: list[tuple[int, Part]] = []
    for part in parts:
        memory = part.memory_bytes / (gpu.memory_gb * 1e9)
        at = next((n for n, (c, m) in enumerate(room) if part.compute <= c + 1e-9 and memory <= m + 1e-9), len(room))
        if at == len(room):
            room.append((1.0, 1.0))
        room[at] = room[at][0] - part.compute, room[at][1] - memory
        at_gpu.append((at, part))
    return [_shared(gpu, way, at, part, [one for n, one in at_gpu if n == at]) for at, part in at_gpu]


def _shared(gpu: Gpu, way: FractionWay, at: int, part: Part, mates: Sequence[Part]) -> Placed:
    share = part.memory_bytes / (gpu.memory_gb * 1e9)
    vllm = f"--gpu-memory-utilization {math.floor(share * 100) / 100:.2f}"
    if way == "slices":
        return Placed(
            gpu=at, model=part.model, what=f"1 of {len(mates)} turns", kubernetes="nvidia.com/gpu: 1", vllm=vllm
        )
    percent = math.floor(part.compute * 100)
    limit = f"0={part.memory_bytes >> 20}M"
    return Placed(
        gpu=at,
        model=part.model,
        what=f"{percent} %, {human_bytes(part.memory_bytes)}",
        kubernetes="nvidia.com/gpu: 1",
        environment=(("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", str(percent)), ("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", limit)),
        vllm=vllm,
    )
