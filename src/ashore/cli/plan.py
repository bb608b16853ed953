"""`ashore plan`: what can serve a load, before anything is bought or started."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import cyclopts

from ashore.cli.columns import table
from ashore.cli.plansize import size
from ashore.cli.sure import AsJson, print_json
from ashore.core.errors import InvalidRequest
from ashore.kit.folders import make_folder
from ashore.kit.settings import read_settings
from ashore.machine.planning.fractions import FractionWay, Part, device_plugin, mig_commands, plan_parts

_PART = re.compile(r"(?P<name>[^=]+)=(?P<compute>0?\.\d+|1(?:\.0*)?|\d+%):(?P<memory>\d+(?:\.\d+)?)(?P<unit>GB|GiB|G)")


def calibrate(
    *reports: Path,
    model: str,
    engine: Literal["openvino", "llama.cpp", "vllm", "sglang", "trtllm"] = "openvino",
    precision: str = "int8",
    chip: str | None = None,
    devices: int = 1,
    out: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Fit the planner to load tests of this machine, and keep the result in the home for `ashore up --dry-run`.

    Take several, which tell more apart: one request at a time and many, short prompts and long ones. With
    `ashore bench serve --model chat --concurrency 1 --requests 20 --json > one.json`.

    Args:
        reports: Files that `ashore bench serve --json` wrote.
        model: What was measured, by name.
        engine: That answered.
        precision: Of its weights.
        chip: Device of the catalogue; default: this machine's processor.
        devices: How many of them.
        out: Write here in place of the home.
    """
    from ashore.lab.sizing import find_chip
    from ashore.lab.sizing.here import chip_here, measure_rates
    from ashore.lab.sizing.own import calibrate as fitted
    from ashore.lab.sizing.own import case_of, expect, own_bytes, read_report

    if not reports:
        raise InvalidRequest(
            "no report is given", hint="run `ashore bench serve --json > one.json`, and give one.json", param="reports"
        )
    measured = [read_report(path) for path in reports]
    rates = None if chip else measure_rates()
    device = find_chip(chip) if chip else chip_here(rates=rates)
    cases = [case_of(one, device, model=model, engine=engine, precision=precision, devices=devices) for one in measured]
    before = expect(cases, None)
    own = fitted(device.name, list(zip(cases, measured, strict=True)), rates=rates)
    after = expect(cases, own)
    place = out or read_settings().home.plan
    make_folder(place.parent, mode=0o700)
    scratch = place.with_name(f".{place.name}.new")
    scratch.write_bytes(own_bytes(own))
    scratch.replace(place)
    if as_json:
        rows = [
            {"measured": asdict(one), "before": list(before.value[i]), "after": list(after.value[i])}
            for i, one in enumerate(measured)
        ]
        print_json({"own": own, "written": place, "reports": rows})
        return

    def row(number: int) -> tuple[str, ...]:
        one = measured[number]
        told = (one.first_s, one.token_s, one.tokens_per_s)
        cells = [
            f"{scale * value:.3g} ({100 * (before.value[number, i] / value - 1):+.0f} %, "
            f"{100 * (after.value[number, i] / value - 1):+.0f} %)"
            for i, (value, scale) in enumerate(zip(told, (1e3, 1e3, 1.0), strict=True))
        ]
        return (reports[number].name, f"{one.load:g} {one.load_kind}", f"{one.isl:.0f} + {one.osl:.0f}", *cells)

    table(
        ("report", "load", "tokens", "first token, ms", "a token, ms", "tokens/s"),
        [row(number) for number in range(len(measured))],
    )
    print("in brackets: what was planned before and after, against what was measured")
    print(f"kept in {place} for {own.machine}")


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
        print_json({"items": placed, "commands": commands, "device_plugin": device_plugin(way, placed)})
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


def check(*, points: Path, as_json: AsJson = False) -> None:
    """Plan every row of a file of measurements, and print how far the plans are from what was measured.

    Prints the median error of first token, time a token and throughput, and the share of measurements inside the 80 %
    intervals; then the same by device and by model. A row that cannot be planned counts with an error of 100 %; one
    without lengths is planned with those of its publication, or else with those that its engine is usually measured
    with. Below are the errors on measurements that the planner was not fitted to.

    Args:
        points: CSV file. Columns: model, hardware; where known quant, n, tp, isl, osl, load_kind (closed, all_at_once,
            rate, saturated), load, engine, ttft_ms, tpot_ms, tok_s, params_b, active_b.
    """
    from ashore.lab.sizing import HELD_OUT, check, read_points, shipped

    report, using = check(read_points(points)), shipped()
    if as_json:
        document = {
            **asdict(report.whole),
            "hardware": {name: asdict(score) for name, score in report.by_hardware.items()},
            "family": {name: asdict(score) for name, score in report.by_family.items()},
            "not_planned": report.reasons,
            "held_out": {name: asdict(miss) for name, miss in using.overall.items()},
            "fitted_on": using.fitted_on,
        }
        print_json(document)
        return
    head = ("", "points", "first token", "a token", "throughput", "in the interval")
    rows = [("all", report.whole), *report.by_hardware.items(), *report.by_family.items()]
    table(head, [_row(name, score) for name, score in rows], names=1)
    for why, number in report.reasons.items():
        print(f"not planned, counted as 100 %: {number} points: {why}")
    print(f"\nMedian errors. The planner was fitted to {using.fitted_on}. On what was held out of the fit:")
    for name, miss in using.overall.items():
        print(
            f"  {HELD_OUT[name]}: first token {miss.first_percent} %, a token {miss.token_percent} %, "
            f"throughput {miss.speed_percent} %"
        )


def _row(name: str, score: object) -> tuple[str, ...]:
    from ashore.lab.sizing import Score

    assert isinstance(score, Score)
    shown = (score.ttft_median_percent, score.tpot_median_percent, score.tok_s_median_percent, score.covered_percent)
    return (name, f"{score.num_points:,}", *("-" if value is None else f"{value:.1f} %" for value in shown))


app = cyclopts.App(name="plan", help="Plan what to buy; plan parts of GPUs.")
app.default(size)
for _command in (size, check, calibrate, gpus):
    app.command(_command)
