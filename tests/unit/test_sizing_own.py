"""What load tests of a machine change in the plans for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ashore.cli.main import main
from ashore.core.errors import InvalidRequest
from ashore.lab.sizing.here import measure_rates
from ashore.lab.sizing.own import (
    Measured,
    Rates,
    calibrate,
    case_of,
    expect,
    own_bytes,
    read_own,
    read_report,
    this_machine,
)

FLAGS = frozenset({"avx2", "avx512f", "avx512_vnni"})
CHIP = this_machine(cores=4, memory_bytes=16 << 30, cpu="AMD EPYC 9654", flags=FLAGS)


def measured(load: float, isl: float, first_s: float, token_s: float) -> Measured:
    speed = load * 64 / (first_s + 63 * token_s)
    return Measured(
        isl=isl, osl=64, load=load, load_kind="closed", first_s=first_s, token_s=token_s, tokens_per_s=speed
    )


def test_a_processor_is_what_it_does_where_that_was_measured() -> None:
    seen = Rates(bytes_per_s=30e9, flops=200e9)
    told, tried = (
        this_machine(cores=4, memory_bytes=16 << 30, cpu="AMD EPYC 9654", flags=FLAGS | {"avx512_bf16"}, rates=rates)
        for rates in (None, seen)
    )
    assert tried.bandwidth > seen.bytes_per_s and tried.bandwidth != told.bandwidth
    assert tried.int8 == 2 * tried.bf16 and tried.bf16 > 2 * seen.flops, "half the bits, twice the operations"
    tiles = this_machine(cores=4, memory_bytes=16 << 30, cpu="", flags=FLAGS | {"amx_bf16", "amx_int8"}, rates=seen)
    assert tiles.int8 > 5 * tried.int8
    here = measure_rates()
    assert here.bytes_per_s > 1e8 and here.flops > 1e8


def report(path: Path, one: Measured) -> Path:
    told = {
        "load": f"closed loop, {one.load:.0f} users",
        "succeeded": 10,
        "prompt_tokens": 10 * one.isl,
        "cached_tokens": 0,
        "completion_tokens": 10 * one.osl,
        "tok_per_s": one.tokens_per_s,
        "ttft_ms": {"mean": 1e3 * one.first_s},
        "tpot_ms": {"mean": 1e3 * one.token_s},
    }
    path.write_text(json.dumps(told))
    return path


LOADS = [measured(1, 64, 0.30, 0.040), measured(4, 64, 0.55, 0.055), measured(1, 512, 1.30, 0.042)]


def test_measurements_move_the_plan_to_them_and_to_what_was_not_measured() -> None:
    cases = [case_of(one, CHIP, model="qwen2.5-1.5b", engine="openvino", precision="int8") for one in LOADS]
    own = calibrate(CHIP.name, list(zip(cases, LOADS, strict=True)))
    after = expect(cases, own)
    truth = np.array([[one.first_s, one.token_s, one.tokens_per_s] for one in LOADS])
    assert np.abs(after.value / truth - 1).max() < 0.35
    assert np.abs(after.value / truth - 1).mean() < np.abs(expect(cases, None).value / truth - 1).mean()
    assert ((after.low < truth) & (truth < after.high)).mean() > 0.7 and set(after.trust) == {"fitted"}
    larger = case_of(LOADS[0], CHIP, model="qwen2.5-7b", engine="openvino", precision="int8")
    ratio = expect([larger], own).value[0, 1] / after.value[0, 1]
    assert 3 < ratio < 7, "five times the weights to read"


def test_what_was_found_is_kept_and_read_again(tmp_path: Path) -> None:
    cases = [case_of(one, CHIP, model="qwen2.5-1.5b", engine="openvino", precision="int8") for one in LOADS[:1]]
    own = calibrate(CHIP.name, list(zip(cases, LOADS[:1], strict=True)), rates=Rates(bytes_per_s=3e10, flops=2e11))
    file = tmp_path / "plan.json"
    assert read_own(file) is None
    file.write_bytes(own_bytes(own))
    again = read_own(file)
    assert again is not None and again.changes == own.changes and again.machine == CHIP.name
    assert again.rates == own.rates, "the changes are relative to what the processor did then"
    told = json.loads(own_bytes(own))
    del told["rates"]
    file.write_text(json.dumps(told))
    older = read_own(file)
    assert older is not None and older.rates is None
    file.write_text('{"machine": 1}')
    with pytest.raises(InvalidRequest, match="is damaged"):
        read_own(file)


def test_the_command_takes_reports_of_the_load_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(report(tmp_path / f"{at}.json", one)) for at, one in enumerate(LOADS)]
    out = tmp_path / "plan.json"
    asked = ["plan", "calibrate", *files, "--model", "qwen2.5-1.5b", "--chip", "EPYC-9654", "--out", str(out)]
    assert main(asked) == 0
    assert "what was planned before and after" in capsys.readouterr().out
    own = read_own(out)
    assert own is not None and own.num_reports == 3 and own.engine == "openvino"
    assert main(["plan", "calibrate", "--model", "qwen2.5-1.5b"]) != 0
    assert "no report is given" in capsys.readouterr().err


def test_a_file_that_is_no_report_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text("{}")
    with pytest.raises(InvalidRequest, match="is not a report of"):
        read_report(file)
    report(file, LOADS[0])
    told = json.loads(file.read_text()) | {"succeeded": 0}
    file.write_text(json.dumps(told))
    with pytest.raises(InvalidRequest, match="no request succeeded"):
        read_report(file)
    assert read_report(report(file, LOADS[0])) == replace(LOADS[0], rounds=10.0)


@pytest.mark.parametrize(
    "said",
    (
        {"tok_per_s": float("nan")}, {"tok_per_s": 0}, {"ttft_ms": {"mean": -1}}, {"tpot_ms": {"mean": float("inf")}},
        {"load": "9" * 400}, {"load": "0 closed"}, {"prompt_tokens": 1e300}, {"succeeded": -5},
    ),
)  # fmt: skip
def test_a_report_with_impossible_numbers_is_refused(tmp_path: Path, said: dict[str, object]) -> None:
    file = report(tmp_path / "x.json", LOADS[0])
    file.write_text(json.dumps(json.loads(file.read_text()) | said))
    with pytest.raises(InvalidRequest, match="one of its numbers is out of all bounds"):
        read_report(file)
