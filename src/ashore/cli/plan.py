"""`ashore plan`: parts of GPUs for models, and what pooling GPUs brings. Plans and simulations; nothing is changed."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import Annotated

from cyclopts import App, Parameter

from ashore.cli.columns import table
from ashore.errors import InvalidRequest
from ashore.planning.fractions import FractionWay, Part, device_plugin, mig_commands, plan_parts
from ashore.planning.pooling import ASKED_SHARE, WAYS, Pool, best_load, sensitivity

app = App(name="plan", help="Plan parts of GPUs, and simulate what pooling them brings.")
AsJson = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON.")]
_PART = re.compile(r"(?P<name>[^=]+)=(?P<compute>0?\.\d+|1(?:\.0*)?|\d+%):(?P<memory>\d+(?:\.\d+)?)(?P<unit>GB|GiB|G)")


@app.command
def gpus(*parts: str, gpu: str = "h100-80", way: FractionWay = "mig", as_json: AsJson = False) -> None:
    """Plan which part of which GPU each model gets, and print what sets it up. Changes nothing on any device.

    MIG keeps memory and faults apart, in sizes of the maker's. MPS takes any size; a fault ends all models of that GPU.
    Slices keep nothing apart.

    Args:
        parts: NAME=COMPUTE:MEMORY, such as chat=0.5:40GB or chat=50%:40GB; one for each model.
        gpu: Kind of GPU: a100-40, a100-80, h100-80 or h200.
        way: mig, mps or slices.
        as_json: Print JSON.
    """
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


@app.command
def pool(
    *,
    cards: Annotated[int, Parameter(name="--cards")] = 32,
    fractions: int = 2,
    models: int = 64,
    objective_s: float = 10.0,
    wake_s: float = 2.2,
    minutes: float = 4.0,
    seed: int = 7,
    as_json: AsJson = False,
) -> None:
    """Simulate what pooling GPUs brings: the share of their time spent on answers within the objective, at the highest
    load of which 99 percent is within it. Takes a minute or two. Simulated: no GPU is used.

    Args:
        cards: GPUs.
        fractions: Logical GPUs for each.
        models: Models that share them, by Zipf's law.
        objective_s: Longest time to an answer that counts.
        wake_s: Time to exchange the model of a fraction; a sleeping vLLM of 8B takes 2.2 s.
        minutes: Simulated time.
        seed: Draws the requests.
        as_json: Print JSON.
    """
    if min(cards, fractions, models) < 1 or min(objective_s, wake_s, minutes) <= 0:
        raise InvalidRequest("cards, fractions, models and times must be above 0")
    shape = Pool(
        cards=cards,
        fractions=fractions,
        models=models,
        objective_s=objective_s,
        wake_s=wake_s,
        horizon_s=minutes * 60,
        seed=seed,
    )
    found = [best_load(shape, way) for way in WAYS]
    wakes = sensitivity(shape)
    if as_json:
        more = [{"wake_factor": factor, **asdict(use)} for factor, use in wakes]
        print(json.dumps({"simulated": True, "items": [asdict(use) for use in found], "sensitivity": more}, indent=1))
        return
    print(
        f"simulated: {cards} GPUs as {cards * fractions}, {models} models, {ASKED_SHARE:.0%} within {objective_s:g} s"
    )
    rows = [
        (
            use.way,
            f"{use.load:.1f}",
            f"{use.within:.1%}",
            f"{use.productive:.1%}",
            f"{use.deferred:.1%}",
            str(use.wakes),
        )
        for use in found
    ]
    table(("way", "load", "within", "productive", "of it deferred", "wakes"), rows, names=1)
    for factor, use in wakes:
        print(f"with wake times x {factor:g}: {use.productive:.1%} productive, {use.within:.1%} within")


def _part(text: str) -> Part:
    found = _PART.fullmatch(text)
    if found is None:
        raise InvalidRequest(
            f"{text[:60]!r} is not a part of a GPU", hint="expected NAME=COMPUTE:MEMORY: chat=0.5:40GB"
        )
    compute = found["compute"]
    share = float(compute[:-1]) / 100 if compute.endswith("%") else float(compute)
    unit = 1 << 30 if found["unit"] == "GiB" else 10**9
    return Part(model=found["name"], compute=share, memory_bytes=int(float(found["memory"]) * unit))
