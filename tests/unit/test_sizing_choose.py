"""What is bought for a load, and what is not."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.plan_matrix import judge_matrix

from ashore.cli.main import main
from ashore.cli.plansize import _name_in_toml
from ashore.core.errors import InvalidRequest, UnsupportedModel
from ashore.lab.sizing import Level, Load, chips, choose, network_of_config, networks, priced
from ashore.lab.sizing.choose import _replicas
from ashore.lab.sizing.settings import ashore_toml
from ashore.machine.config import read_spec

LOAD = Load(requests_per_s=10, isl=800, osl=250)
LEVEL = Level(first_s=2.0, token_s=0.1)


def bought(load: Load = LOAD, level: Level = LEVEL, model: str = "qwen2.5-7b", **given: object):  # type: ignore[no-untyped-def]
    names = given.pop("chips", ("A100-80G", "H100", "T4"))
    assert isinstance(names, tuple)
    catalogue = [chips()[name] for name in names]
    return choose(networks()[model], load, level, model=model, catalogue=catalogue, **given)  # type: ignore[arg-type]


def test_options_come_cheapest_first_with_intervals_around_each_figure() -> None:
    found = bought()
    costs = [one.usd_per_million.value for one in found.options]
    assert costs == sorted(costs) and len(found.options) >= 4
    for one in found.options:
        for figure in (one.devices, one.first_s, one.token_s, one.requests_per_s, one.usd_per_million):
            assert figure.low <= figure.value <= figure.high
        assert one.first_s.value <= LEVEL.first_s and one.token_s.value <= LEVEL.token_s
        assert one.replicas * one.tp == one.devices.value
        assert one.at_once * (LOAD.isl + LOAD.osl) <= one.kv_tokens


@pytest.mark.parametrize(
    ("changed", "grows"),
    [
        (lambda load: replace(load, requests_per_s=200), True),
        (lambda load: replace(load, requests_per_s=200, answered_from_cache=0.9), False),
    ],
)
def test_more_requests_need_more_and_cached_answers_less(changed: Callable[[Load], Load], grows: bool) -> None:
    usual = {one.name.split(" x ")[1]: one.devices.value for one in bought(replace(LOAD, requests_per_s=100)).options}
    other = {one.name.split(" x ")[1]: one.devices.value for one in bought(changed(LOAD)).options}
    both = usual.keys() & other.keys()
    assert both
    for name in both:
        assert other[name] >= usual[name] if grows else other[name] <= usual[name]


def test_a_percentile_is_held_by_more_replicas_than_the_mean() -> None:
    load = replace(LOAD, requests_per_s=50)
    mean, nearly_all = Level(first_s=2, token_s=0.1, percentile=50), Level(first_s=2, token_s=0.1, percentile=99)
    assert _replicas(load, mean, 10.0, 50) == 10, "Little: 50 a second for 10 s are 500 underway"
    assert _replicas(load, nearly_all, 10.0, 50) == 12, "500 and 2.33 roots of 500"


def test_what_does_not_fit_says_what_of_it() -> None:
    found = bought(model="deepseek-v3", chips=("T4", "L40S", "H200"))
    whys = {(one.chip, one.precision): one.why for one in found.refused}
    assert any("does not fit" in why and "GiB of weights" in why for (chip, _), why in whys.items() if chip == "T4")
    names = {one.chip.name for one in found.options}
    assert "H200" in names and "T4" not in names
    hard = bought(level=Level(first_s=2.0, token_s=0.0005))
    assert not hard.options and all("misses the level even for one request" in one.why for one in hard.refused)
    few = bought(replace(LOAD, requests_per_s=5000), most_devices=4)
    assert any("at most 4 may be bought" in one.why for one in few.refused)


def test_too_few_devices_say_how_many_it_takes_and_what_they_serve() -> None:
    free = {one.precision.name: one.devices.value for one in bought(chips=("L40S",), model="qwen2.5-32b").options}
    few = bought(chips=("L40S",), model="qwen2.5-32b", most_devices=4)
    for one in few.refused:
        needed, part = re.search(r"needs (\d+) devices; .* which serve (\d+)% of this load", one.why).groups()  # type: ignore[union-attr]
        assert int(needed) <= free["16" if one.precision == "bf16" else one.precision]
        fits = replace(LOAD, requests_per_s=LOAD.requests_per_s * int(part) / 100)
        assert bought(fits, chips=("L40S",), model="qwen2.5-32b", precisions=(one.precision,), most_devices=4).options


def test_what_is_there_already_costs_nothing(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('"L40S" = 0\n')
    (one, *_) = choose(
        networks()["qwen2.5-7b"], LOAD, LEVEL, model="qwen2.5-7b", catalogue=[priced(file)["L40S"]]
    ).options
    assert one.usd == 0 and one.usd_per_million.value > 0, "electricity is left"


PLAN = ["plan", "size", "DeepSeek-R1-Distill-Qwen-7B", "--rate", "1", "--isl", "100", "--osl", "100", "--ttft", "2s",
        "--tpot", "100ms"]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--chip", "4 x L40S"], '--chip "L40S" --most 4'),
        (["--precision", "int3"], "choose of bf16"),
        (["--engine", "llama"], "choose of vllm"),
    ],
)
def test_words_that_mean_nothing_are_refused(given: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PLAN, *given]) == 2
    assert says in capsys.readouterr().err


def test_what_write_wrote_is_what_up_reads_by_a_name_of_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ashore.toml"
    assert main([*PLAN, "--chip", "H100", "--top", "1", "--write", str(file)]) == 0
    assert tomllib.loads(file.read_text())["model"][0]["name"] == "deepseek-r1-distill-qwen-7b"
    said = capsys.readouterr()
    assert "1 more are dearer: --top 2 shows them" in said.out and "has the ashore.toml" in said.err
    assert said.out.startswith("DeepSeek-R1-Distill-Qwen-7B, of the shape of qwen2.5-7b: 7.62 billion parameters\n")
    assert _name_in_toml("Qwen/Qwen3-32B") == "hf:Qwen/Qwen3-32B"
    assert _name_in_toml(str(file)) == str(tmp_path), "the folder of a config.json"


def test_prices_of_ones_own_change_the_order(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text('"A100-80G" = 100\n')
    cheap = priced(file)
    assert cheap["A100-80G"].usd == 100
    found = choose(
        networks()["qwen2.5-7b"], LOAD, LEVEL, model="qwen2.5-7b", catalogue=[cheap["A100-80G"], cheap["H100"]]
    )
    assert found.options[0].chip.name == "A100-80G"
    file.write_text("A1000 = 1\n")
    with pytest.raises(InvalidRequest, match="not in the catalogue"):
        priced(file)


def test_a_choice_becomes_settings_that_ashore_reads(tmp_path: Path) -> None:
    for names, kind in ((("H100",), "vllm"), (("Xeon-6980P",), "openvino")):
        (option, *_) = bought(replace(LOAD, requests_per_s=0.5), Level(first_s=20, token_s=0.5), chips=names).options
        text = ashore_toml(option, model="deepseek-r1-distill-qwen-7b", load=LOAD)
        file = tmp_path / "ashore.toml"
        file.write_text(text)
        (model,) = read_spec(file).models
        assert model.engine.kind == kind and model.engine.max_sequences == option.at_once
        assert tomllib.loads(text)["model"][0]["name"] == "deepseek-r1-distill-qwen-7b"


def test_any_config_json_is_planned(tmp_path: Path) -> None:
    config = {
        "model_type": "acme",
        "num_hidden_layers": 61,
        "hidden_size": 7168,
        "num_attention_heads": 128,
        "vocab_size": 129280,
        "max_position_embeddings": 163840,
        "intermediate_size": 18432,
        "moe_intermediate_size": 2048,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "first_k_dense_replace": 3,
        "kv_lora_rank": 512,
        "qk_rope_head_dim": 64,
        "q_lora_rank": 1536,
        "v_head_dim": 128,
    }
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    network = network_of_config(file)
    assert network.parameters / 1e9 == pytest.approx(671, rel=0.01)
    assert network.shape.latent_rank == 576
    file.write_text(json.dumps(config | {"head_dim": 64, "qk_nope_head_dim": 192, "v_head_dim": 256}))  # as GLM-5 does
    assert network_of_config(file).shape.head_dim == 224


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_hidden_layers", -3), ("num_hidden_layers", 0), ("num_hidden_layers", 10**7), ("vocab_size", 1 << 40),
     ("hidden_size", 0), ("num_experts", -1), ("max_position_embeddings", -1)],
)  # fmt: skip
def test_a_config_json_of_no_model_is_refused(tmp_path: Path, name: str, value: int) -> None:
    config = {"model_type": "acme", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4,
              "vocab_size": 100, "max_position_embeddings": 128, "intermediate_size": 64}  # fmt: skip
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    assert network_of_config(file).parameters > 0
    file.write_text(json.dumps({**config, name: value}))
    with pytest.raises(UnsupportedModel):
        network_of_config(file)


def test_a_cell_without_lengths_and_level_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "size", "qwen2.5-7b", "--rate", "120"]) != 0
    assert "--isl, --osl, --ttft, --tpot" in capsys.readouterr().err
    assert main(["plan"]) != 0
    assert "MODEL, --rate or --users" in capsys.readouterr().err


def test_a_device_whose_published_figures_were_missed_by_far_comes_with_a_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ["plan", "size", "deepseek-r1", "--rate", "1", "--isl", "1000", "--osl", "300", "--ttft", "5s"]
    assert main([*asked, "--tpot", "100ms", "--chip", "Ascend-910C"]) == 0
    assert "warning: a fit that had seen no Ascend-910C missed" in capsys.readouterr().out


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["plan", "size", "qwen2.5-7b", "--rate", "20", "--isl", "800", "--osl", "250", "--ttft", "2s"]
    asked += ["--tpot", "100ms", "--chip", "H100", "--chip", "T4"]
    settings = tmp_path / "ashore.toml"
    assert main([*asked, "--write", str(settings)]) == 0
    out = capsys.readouterr().out
    assert "cheapest:" in out and "held out" in out and "H100 fp8" in out and "warning" not in out
    assert "tensor_parallel_size" in settings.read_text()
    assert main([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["options"][0]["devices"]["low"] <= told["options"][0]["devices"]["high"]
    assert told["errors"]["held_out"]["family"]["num_points"] > 3000
    trace = tmp_path / "trace.jsonl"
    trace.write_text(
        "".join(f'{{"arrival_s": {i / 4}, "prompt_tokens": 100, "output_tokens": 50}}\n' for i in range(400))
    )
    by_trace = [
        "plan",
        "qwen2.5-7b",
        "--trace",
        str(trace),
        "--ttft",
        "2s",
        "--tpot",
        "100ms",
        "--chip",
        "H100",
        "--json",
    ]
    assert main(by_trace) == 0
    load = json.loads(capsys.readouterr().out)["load"]
    assert load["isl"] == 100 and load["requests_per_s"] == pytest.approx(4, rel=0.05)


def test_the_first_matrix_is_judged_at_lengths() -> None:
    seven, thirteen, seventy = judge_matrix()
    assert seven.verdict.startswith(("unreachable", "reachable with short")) and seven.cached_share > 0.4
    assert thirteen.verdict.startswith(("unreachable", "reachable with short"))
    assert seventy.verdict in ("wasteful", "reachable") and seventy.cheaper
    for row in (seven, thirteen, seventy):
        rates = [one.requests_per_s.value for one in row.reach if one.requests_per_s]
        assert len(rates) == 4 and rates[0] == max(rates), "the shortest lengths give the most requests"
