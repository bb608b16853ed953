"""`ashore plan gpus`: assign GPU slices to models. A plan; no device is touched."""

from __future__ import annotations

import json
import re
from dataclasses import asdict

from ashore.cli.columns import table
from ashore.cli.sure import AsJson
from ashore.core.errors import InvalidRequest
from ashore.machine.planning.fractions import FractionWay, Part, device_plugin, mig_commands, plan_parts

_PART = re.compile(r"(?P<name>[^=]+)=(?P<compute>0?\.\d+|1(?:\.0*)?|\d+%):(?P<memory>\d+(?:\.\d+)?)(?P<unit>GB|GiB|G)")


def gpus(*parts: str, gpu: str = "h100-80", way: FractionWay = "mig", as_json: AsJson = False) -> None:
    """Plan which part of which GPU each model gets, and print what sets it up. Changes nothing on any device.

    MIG keeps memory and faults apart, in sizes of the maker's. MPS takes any size; a fault ends all models of that GPU.
    Slices keep nothing apart.

    Args:
        parts: NAME=COMPUTE:MEMORY, such as chat=0.5:40GB or chat=50%:40GB; one for each model.
        gpu: Kind of GPU: a100-40, a100-80, h100-80 or h200.
        way: mig, mps or slices.
    """
    if not parts:
        raise InvalidRequest(
            "no part of a GPU is asked for", hint="give one for each model: chat=0.5:40GB code=25%:20GB"
        )
    placed = plan_parts(gpu, way, [_part(text) for text in parts])
    commands = mig_commands(placed) if way == "mig" else ("nvidia-cuda-mps-control -d",) if way == "mps" else ()
    if as_json:
        document = {"items": [asdict(one) for one in placed], "commands": commands}
        print(json.dumps({**document, "device_plugin": device_plugin(way, placed)}, indent=1))
        return
    rows = [
        (
            str(one.gpu),
            one.model,
            one.what,
            one.kubernetes,
            " ".join(f"{key}={value}" for key, value in one.environment) or "-",
            one.vllm or "-",
        )
        for one in placed
    ]
    table(("gpu", "model", "part", "kubernetes", "environment", "options"), rows)
    if commands:
        print("\ncommands")
    for line in commands:
        print(f"  {line}")
    print("\ndevice plugin for Kubernetes")
    for line in device_plugin(way, placed).splitlines():
        print(f"  {line}")


def _part(text: str) -> Part:
    found = _PART.fullmatch(text)
    if found is None:
        raise InvalidRequest(
            f"{text[:60]!r} is not a part of a GPU",
            hint="expected NAME=COMPUTE:MEMORY, the compute of one GPU at most: chat=0.5:40GB or chat=50%:40GB",
        )
    compute = found["compute"]
    share = float(compute[:-1]) / 100 if compute.endswith("%") else float(compute)
    unit = 1 << 30 if found["unit"] == "GiB" else 10**9
    return Part(model=found["name"], compute=share, memory_bytes=int(float(found["memory"]) * unit))
