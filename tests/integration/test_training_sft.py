"""Fine-tuning a tiny stored model: adapters and models, kept with their recipe, made again, served, refused."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from engine_bench import finish, order, run, token_ids
from store_making import make_store, pull_tiny

from ashore.core.errors import Conflict, InvalidRequest, MemoryFull, UnsupportedModel
from ashore.data.engines import EngineOptions, ModelFiles, Sampling
from ashore.data.engines.openvino.engine import OpenVinoEngine
from ashore.data.engines.openvino.prepare import prepare_openvino
from ashore.data.engines.rounding import RoundOrder
from ashore.kit.store import ModelStore
from ashore.lab.training import RunLogs, SftReport, SftRequest, SftRun, load_checkpoint, plan_sft

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

torch = pytest.importorskip("torch")

PLENTY = 64 << 30
PROMPT = [5 + 7 * n % 197 for n in range(70)]


def write_data(path: Path, answer: str = "abc", number: int = 24) -> Path:
    lines = [{"prompt": f"say {n}: ", "completion": answer * (2 + n % 3)} for n in range(number)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def asked(tmp_path: Path, **fields: Any) -> SftRequest:
    torch.set_num_threads(1)  # such a small model only waits for more
    data = tmp_path / "data.jsonl"
    if not data.exists():
        write_data(data)
    given: dict[str, Any] = {"epochs": 4, "batch_tokens": 256, "rank": 4, "learning_rate": 5e-3}
    return SftRequest(model="tiny", data=str(data), **(given | {"precision": "float32"} | fields))


def tune(store: ModelStore, tmp_path: Path, **fields: Any) -> SftReport:
    plan = plan_sft(store, asked(tmp_path, **fields), available_bytes=PLENTY, cache=tmp_path / "cache")
    report = SftRun(store, plan, runs=tmp_path / "runs", adapters=tmp_path / "adapters", logs=tmp_path / "logs").run(
        resume=True
    )
    assert report is not None
    return report


def opened(folder: Path, out: Path) -> OpenVinoEngine:
    prepare_openvino(folder, "model.safetensors", RoundOrder(precision="fp16"), out)
    engine = OpenVinoEngine()
    files = ModelFiles(name="tiny", digest="", directory=str(out), format="openvino", weights="openvino_model.xml")
    engine.load(files, EngineOptions(kind="openvino", kv_tokens=4096, extra={"full_precision": True}))
    return engine


def answers(engine: OpenVinoEngine, name: str, adapter: str | None, tenant: str) -> tuple[list[int], int]:
    one = order(
        name, PROMPT, max_new_tokens=16, adapter=adapter, sampling=Sampling(temperature=0), ignore_eos=True,
        prefix_partition=tenant,
    )  # fmt: skip
    events = run(engine, one)[one.order_id]
    return token_ids(events), finish(events).cached_tokens


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_model_of_its_own_name_is_kept_with_its_recipe(tmp_path: Path, method: str) -> None:
    store = make_store(tmp_path)
    parent = pull_tiny(store, tmp_path, kind="qwen2")
    held_out = write_data(tmp_path / "held-out.jsonl", number=4)
    fields = {"method": method, "merge": method == "lora", "name": "taught", "validation": str(held_out)}
    report = tune(store, tmp_path, **fields)
    assert report.validation_loss_before is not None and report.validation_loss_after is not None
    assert report.validation_loss_after < report.validation_loss_before - 0.5
    assert report.loss_last < report.loss_first and report.peak_memory_bytes > 100 << 20
    made = store.resolve("taught")
    assert (made.parent, made.digest) == (parent.digest, report.digest)
    recipe = made.recipe
    assert recipe["maker"] == "sft" and recipe["data.1"].startswith("train sha256:")
    assert {"version.torch", "version.transformers"} <= recipe.keys() and recipe["parameter.method"] == method
    assert not (tmp_path / "runs" / "taught").exists(), "a run that is done leaves nothing"
    assert tune(store, tmp_path, **fields).digest == report.digest, "equal seeds give equal models"


def test_adapters_are_served_apart_and_answer_as_their_merged_models(tmp_path: Path) -> None:
    """Two adapters that we trained, two tenants, one prompt: nothing is shared in the prefix cache."""
    store = make_store(tmp_path)
    pull_tiny(store, tmp_path, kind="qwen2")
    engine = opened(tmp_path / "tiny", tmp_path / "base-ov")
    merged = {}
    for name, answer in (("one", "abc"), ("two", "xyz")):
        write_data(tmp_path / "data.jsonl", answer)
        strong = {"epochs": 20, "learning_rate": 3e-2}
        report = tune(store, tmp_path, name=name, **strong)
        assert report.kind == "adapter" and Path(report.folder) == tmp_path / "adapters" / name
        notes = json.loads((Path(report.folder) / "ashore.json").read_text())
        assert notes["parent"] == "tiny" and notes["recipe"]["maker"] == "sft"
        engine.load_adapter(name, report.folder)
        tune(store, tmp_path, name=f"{name}-merged", merge=True, **strong)
        with store.reading(f"{name}-merged") as files:
            merged[name] = opened(files.directory, tmp_path / f"{name}-ov")
    try:
        found = {}
        for tenant in ("bank-a", "bank-b"):
            for adapter in ("one", "two", None):
                ids, cached = answers(engine, f"{tenant}-{adapter}", adapter, tenant)
                assert cached == 0, (tenant, adapter)
                assert found.setdefault(adapter, ids) == ids
        assert len({tuple(ids) for ids in found.values()}) == 3, "the adapters differ enough for the test to tell"
        for name, alone in merged.items():
            assert answers(alone, "alone", None, "bank-a")[0] == found[name]
        ids, cached = answers(engine, "again", "one", "bank-a")
        assert cached > 0 and ids == found["one"]
    finally:
        for one in (engine, *merged.values()):
            one.close()


def test_what_was_stopped_goes_on_to_the_same_adapter(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    pull_tiny(store, tmp_path, kind="qwen2")
    whole = tune(store, tmp_path, name="whole")
    plan = plan_sft(store, asked(tmp_path, name="cut"), available_bytes=PLENTY, cache=tmp_path / "cache")
    places = {"runs": tmp_path / "runs", "adapters": tmp_path / "adapters", "logs": tmp_path / "logs"}
    assert SftRun(store, plan, **places).run(resume=True, stop=lambda: True) is None
    assert not (tmp_path / "adapters" / "cut").exists()
    with pytest.raises(Conflict, match="unfinished run of cut"):
        SftRun(store, plan, **places).run(resume=False)
    other = dataclasses.replace(plan, learning_rate=0.25)
    with pytest.raises(Conflict, match="learning_rate was"):
        SftRun(store, other, **places).run(resume=True)
    cut = SftRun(store, plan, **places).run(resume=True)
    assert cut is not None and cut.resumed_at_step == 1
    logs = RunLogs(tmp_path / "logs")
    figures = logs.figures("cut")
    assert (figures.state, figures.begun, figures.steps, figures.tokens) == ("ended", 3, cut.steps, cut.tokens)
    assert [line.loss for line, _ in logs.lines("cut") if line.what == "step"] == [
        line.loss for line, _ in logs.lines("whole") if line.what == "step"
    ]
    assert {line.what for line, _ in logs.lines("cut")} == {"begin", "step", "stop", "end"}
    assert not [raw for _, raw in logs.lines() if b"say 1" in raw or b"abcabc" in raw], "no word of the data"
    assert cut.digest == whole.digest
    assert not (tmp_path / "runs" / "cut").exists()


def test_a_killed_command_leaves_nothing_behind(tmp_path: Path) -> None:
    home = tmp_path / "home"
    store = make_store(home)
    pull_tiny(store, tmp_path, kind="qwen2")
    data = write_data(tmp_path / "data.jsonl", number=400)
    words = [
        "train", "sft", "tiny", "--data", str(data), "--epochs", "30", "--batch-tokens", "256", "--json",
        "--precision", "float32",
    ]  # fmt: skip
    command = [sys.executable, "-m", "ashore.cli.main", *words]
    environment = {"ASHORE_HOME": str(home), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert first.stderr is not None
    for line in first.stderr:
        if line.startswith("train"):
            break
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert [m.reference for m in store.list()] == ["tiny"] and not (home / "adapters").exists()
    done = subprocess.run(
        [*command, "--max-tokens", "3000"], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["kind"] == "adapter" and (home / "adapters" / "tiny-sft" / "adapter_config.json").is_file()
    assert 0 < report["tokens"] <= 3000 and report["peak_memory_bytes"] > 0


def test_what_cannot_be_done_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    pull_tiny(store, tmp_path, kind="qwen2")
    pull_tiny(store, tmp_path, "other", kind="qwen2", seed=1)
    with pytest.raises(MemoryFull, match="--method full with rows of 256 tokens needs about") as caught:
        plan_sft(store, asked(tmp_path, method="full"), available_bytes=400 << 20, cache=tmp_path / "cache")
    assert "training this model needs at least" in caught.value.hint
    with pytest.raises(Conflict, match="is taken by a model from"):
        plan_sft(store, asked(tmp_path, method="full", name="other"), available_bytes=PLENTY, cache=tmp_path / "cache")
    with pytest.raises(InvalidRequest, match="--merge applies to adapters only"):
        plan_sft(store, asked(tmp_path, method="full", merge=True), available_bytes=PLENTY, cache=tmp_path / "cache")
    with store.reading("tiny") as files, pytest.raises(UnsupportedModel, match="cannot be trained"):
        load_checkpoint(dataclasses.replace(files, format="openvino"))
