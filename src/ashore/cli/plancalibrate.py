"""`ashore plan calibrate`: adjust plans for this machine by its load tests."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from ashore.cli.columns import table
from ashore.cli.sure import AsJson
from ashore.core.errors import InvalidRequest
from ashore.kit.folders import make_folder
from ashore.kit.settings import read_settings


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
        print(json.dumps({"own": asdict(own), "written": str(place), "reports": rows}, indent=2))
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
