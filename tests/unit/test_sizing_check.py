"""The planner against measurements, and what it says of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ashore.cli.main import main
from ashore.core.errors import InvalidRequest
from ashore.lab.sizing import check, read_points
from ashore.lab.sizing.calibration import estimate
from ashore.lab.sizing.case import Case
from ashore.lab.sizing.points import point_of

SAMPLE = Path(__file__).parents[2] / "benchmarks/data/plan_points.csv"
HEAD = "model,hardware,quant,n,tp,isl,osl,load_kind,load,ttft_ms,tpot_ms,tok_s,engine\n"


@pytest.fixture
def points(tmp_path: Path) -> Path:
    file = tmp_path / "points.csv"
    file.write_text(
        HEAD
        + "llama-3.1-70b,H200,fp8,8,8,1024,1024,closed,32,137,11.0,2874,vllm\n"
        + "llama-3.1-70b,H200,fp8,4,4,1024,1024,closed,128,750,19.3,6403,trtllm\n"
        + "nobody-knows,H200,fp8,8,8,1024,1024,closed,32,137,11.0,2874,vllm\n"
        + "llama-3.1-70b,some new card,fp8,8,8,1024,1024,closed,32,,,2874,vllm\n"
    )
    return file


def test_a_row_that_cannot_be_planned_counts_with_its_whole_error(points: Path) -> None:
    report = check(read_points(points))
    assert (report.whole.num_points, report.whole.num_not_planned) == (4, 2)
    assert np.isnan(report.errors[3]).tolist() == [True, True, False] and report.errors[2].tolist() == [1, 1, 1]
    assert set(report.by_hardware) == {"H200", "some new card"}
    assert report.by_family["llama-3-70b"].num_points == 3
    assert report.by_hardware["some new card"].tok_s_median_percent == 100
    assert any("some new card" in why for why in report.reasons)


def test_published_measurements_are_met() -> None:
    score = check(read_points(SAMPLE)).whole
    assert score.num_points > 100 and score.num_not_planned == 0
    assert score.tpot_median_percent is not None and score.tpot_median_percent < 18
    assert score.tok_s_median_percent is not None and score.tok_s_median_percent < 18
    assert score.ttft_median_percent is not None and score.ttft_median_percent < 40
    assert score.covered_percent is not None and 65 < score.covered_percent < 97


def test_more_bandwidth_more_requests_and_longer_prompts_go_the_right_way() -> None:
    rows = [("A100-80G", 1, 512), ("H200", 1, 512), ("H200", 64, 512), ("H200", 1, 8192)]
    cases = [_case(*row) for row in rows]
    slow, fast, full, long = estimate(cases).value
    assert fast[1] < slow[1], "twice the bandwidth: less time a token"
    assert full[1] > fast[1] and full[2] > 10 * fast[2], "64 at once: each slower, all together faster"
    assert long[0] > 2 * fast[0], "16 times the prompt: later first token"


def _case(hardware: str, load: int, isl: int) -> Case:
    names = HEAD.strip().split(",")
    told = f"llama-3.1-8b,{hardware},bf16,1,1,{isl},256,closed,{load},,,,vllm".split(",")
    case = point_of(dict(zip(names, told, strict=True))).case
    assert case is not None
    return case


def test_the_command_prints_what_a_judge_reads(points: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "check", "--points", str(points), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    for name in ("tpot_median_percent", "ttft_median_percent", "tok_s_median_percent", "covered_percent", "num_points"):
        assert name in told and name in told["hardware"]["H200"] and name in told["family"]["llama-3-70b"]
    assert told["held_out"]["pair"]["num_points"] > 2000
    assert main(["plan", "check", "--points", str(points)]) == 0
    out = capsys.readouterr().out
    assert "not planned, counted as 100 %" in out and "devices: first token" in out


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_points(tmp_path / "nowhere.csv")
    file = tmp_path / "other.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(InvalidRequest, match="no column model and no column hardware"):
        read_points(file)


def test_rows_of_any_numbers_and_of_too_few_columns_are_rows_that_cannot_be_planned(tmp_path: Path) -> None:
    file, nines = tmp_path / "odd.csv", "9" * 400
    rows = (
        "llama", f"foo-{nines}b,H100", f"llama-3.1-70b,RTX-4090 + {nines}x Xeon", f"llama-3.1-70b,H100,1e308,ep{nines}",
        "llama-3.1-70b,H100,1e14,adp4",
    )  # fmt: skip
    file.write_text("\n".join(("model,hardware,n,note", *rows)), encoding="utf-8")
    assert check(read_points(file)).whole.num_not_planned == 3


def test_rows_are_read_as_they_were_meant() -> None:
    server = _row(
        "llama2-70b", "B200", n="8", load_kind="mlperf_server", load="360", engine="TensorRT", ttft_stat="p99"
    )
    assert server.level == (2.0, 0.2) and server.statistic == "p99"
    assert 0.1 < estimate([server]).value[0, 1] < 0.2, "a rate was raised until the level was all but reached"
    beams = _row("gptj-6b", "H100", n="1", load_kind="mlperf_offline", engine="TensorRT")
    single = _row("gptj-6b", "H100", n="1", load_kind="saturated", engine="TensorRT", isl="778", osl="69")
    assert beams.beams == 4 and estimate([beams]).value[0, 2] < estimate([single]).value[0, 2]
    rack = _row("deepseek-r1", "GB200", n="72", tp="72", load="4096", engine="sglang")
    assert (rack.tp, rack.attention_dp, rack.ep) == (1, 72, 72), "each has whole requests, and some experts"
    assert _row("llama-3.1-8b", "A100-80G", n="1", engine="vllm").slots == 256
    assert _row("llama-3.1-8b", "A100-80G", n="1", engine="vllm", note="--max-num-seqs=512").slots == 512
    assert _row("qwen2.5-72b", "A100-80G", n="2", engine="transformers").devices == 1, "one layer after the other"
    assert _row("llama-3.1-8b", "CPU Xeon 8480+", n="2", engine="openvino").devices == 1, "threads stay on a socket"
    assert _row("llama-3.1-8b", "H100", n="1", engine="sglang", ttft_stat="median").statistic == "median"


SAMPLES = "https://github.com/ai-dynamo/aiconfigurator/blob/0/silicon_sample.csv#"
EVEN = SAMPLES + "qwen3_32b_h100_sxm_vllm_agg_4096x512_c128_tp8_epnone_90"


def test_a_row_says_how_its_publication_measured() -> None:
    columns = {"n": "4", "tp": "4", "isl": "1024", "osl": "1024", "load_kind": "closed", "load": "64"}
    here = SAMPLES + "2026_04_06_llama_3_1_70b_h200_sxm_trtllm_fp8_agg_1024x1024_c64_tp4_ep1_917"
    drawn = _row("llama-3.1-70b", "H200", quant="fp8", engine="trtllm", source=here, **columns)
    plain = _row("llama-3.1-70b", "H200", quant="fp8", engine="trtllm", **columns)
    assert (drawn.isl, drawn.osl, drawn.rounds) == (0.9 * 1024, 0.9 * 1024, 10), "lengths are drawn from 80 to 100 %"
    assert 10 < drawn.held_steps < 20, "prompts are collected for 20 steps, and join those that wait"
    assert (plain.isl, plain.rounds, plain.held_steps) == (1024, 0, 0)
    assert estimate([drawn]).physics.first_s[0] > estimate([plain]).physics.first_s[0]
    polled = _row("qwen3.5-397b-a17b", "B200", engine="sglang", source=SAMPLES + "qwen3_5_b200_cfg1", **columns)
    assert polled.held_steps == 15 and _row("qwen3-32b", "H100", engine="vllm", source=EVEN, **columns).even
    drafted = columns | {"source": here, "date": "2026-02-06", "quant": "fp4"}
    assert _row("deepseek-r1", "B200", engine="trtllm", **drafted).speculative


def test_prompts_of_equal_length_that_go_first_all_come_at_once() -> None:
    columns = {"n": "4", "tp": "4", "isl": "4096", "osl": "512", "load_kind": "closed", "load": "64", "source": EVEN}
    cases = [_row("qwen3-32b", "H100", engine=engine, **columns) for engine in ("vllm", "sglang")]
    mixed, first = estimate(cases).physics.first_s
    assert first > 2 * mixed


def test_products_in_eight_and_four_bits_reach_less_of_the_data_sheet() -> None:
    rows = [("16", "bf16"), ("8", "fp8"), ("4", "fp4")]
    columns = {"n": "1", "isl": "8192", "osl": "128", "load_kind": "closed", "load": "1", "engine": "vllm"}
    found = estimate([_row("llama-3.1-8b", "B200", quant=quant, **columns) for _, quant in rows]).physics.prefill_s
    assert found[0] > found[1] > found[2] > found[0] / 4, "faster, but not by two and by four"


def _row(model: str, hardware: str, **columns: str) -> Case:
    case = point_of({"model": model, "hardware": hardware, **columns}).case
    assert case is not None
    return case


def test_trust_follows_what_was_seen() -> None:
    assert estimate([_case("H200", 1, 512), _case("T4", 1, 512)]).trust == ("fitted", "new device")
