"""`ashore optimize evaluate` and `compare` as commands, on fake models and on one that llama.cpp runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from commands import run_command
from tiny_models import make_tiny_model
from waiting import eventually

from ashore.core.clock import ManualClock
from ashore.kit.store import ModelStore, convert_safetensors_to_gguf, gate_verdict

TEXT = "The rain in Spain stays mainly in the plain.\n" * 30
FAKE = "fake:random?context=1024"
TASK = """{"task": "sky", "kind": "choice"}
{"prompt": "The sky is", "choices": ["blue", "square"], "answer": 0}
{"prompt": "Snow is", "choices": ["white", "loud"], "answer": 0}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rain.txt").write_text(TEXT)
    (tmp_path / "sky.jsonl").write_text(TASK)
    return tmp_path


def ashore(folder: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    ended = run_command(*words, home=folder / "home", cwd=folder, timeout_s=240)
    assert ended.returncode == code, ended.stderr
    return ended


def evaluate(folder: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    return ashore(folder, "optimize", "evaluate", *words, "--threads", "1", code=code)


def parsed(ended: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(ended.stdout)


def test_a_model_is_judged_against_another(folder: Path) -> None:
    words = [FAKE, "--against", "fake:echo?context=1024", "--text", "rain.txt", "--task", "sky.jsonl", "--task",
             "reviews-zh", "--limit", "8", "--out", "page"]  # fmt: skip
    report = parsed(evaluate(folder, *words, "--json"))["report"]
    assert [task["num_items"] for task in report["tasks"]] == [2, 8]
    assert report["comparison"]["divergence"]["rain.txt"]["method"] == "exact"
    assert report["speed"]["prefill_tok_per_s"] > 0
    assert sorted(p.name for p in (folder / "page").iterdir()) == ["report.json", "report.md"]


def test_a_gate_decides_the_exit_code(folder: Path) -> None:
    (folder / "gate.toml").write_text("[gate]\nperplexity_max = 1.0\nweight_bytes_max = 10")
    words = [FAKE, "--text", "rain.txt", "--no-speed", "--gate", "gate.toml"]
    failed = evaluate(folder, *words, code=1)
    assert "\n**GATE: FAILED: perplexity_max (rain.txt): " in failed.stdout
    assert "| perplexity_max | rain.txt | **FAIL** |" in failed.stdout
    assert "| weight_bytes_max | - | pass |" in failed.stdout
    (folder / "gate.toml").write_text("[gate]\nperplexity_max = 1e9")
    assert "passes the gate" in evaluate(folder, *words).stdout
    (folder / "gate.toml").write_text("[gate]\nperplexity_mx = 1")
    assert "perplexity_max" in evaluate(folder, *words, code=2).stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["smoll", "--task", "sky.jsonl"], 2, "smollm2"),
        ([FAKE, "--task", "skies"], 2, "no built-in task 'skies'"),
        ([FAKE, "--text", "none.txt"], 2, "none.txt"),
        ([FAKE, "--text", "empty.txt"], 2, "empty.txt is empty"),
        ([FAKE, "--text", "latin.txt"], 2, "not UTF-8"),
        ([FAKE, "--task", "broken.jsonl"], 2, "broken.jsonl, line 3"),
        ([FAKE, "--text", "rain.txt", "--gate", "none.toml"], 2, "none.toml"),
        ([FAKE, "--text", "rain.txt", "--option", "fast"], 2, "NAME=VALUE"),
        (["fake:echo?fail_load=1", "--text", "rain.txt"], 4, "loading fails"),
        ([FAKE, "--text", "rain.txt", "--limit=-1"], 2, "--limit"),
    ],
)
def test_what_cannot_be_done_is_said(folder: Path, words: list[str], code: int, says: str) -> None:
    (folder / "empty.txt").write_text(" \n")
    (folder / "latin.txt").write_bytes("é".encode("latin-1"))
    (folder / "broken.jsonl").write_text(TASK.replace('"Snow is"', '"Snow is'))
    ended = evaluate(folder, *words, "--no-speed", code=code)
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_a_stored_model_keeps_its_reports_and_they_are_compared(folder: Path) -> None:
    for seed, name in enumerate(("one", "two")):
        convert_safetensors_to_gguf(make_tiny_model(folder / name, "llama", seed=seed), folder / f"{name}.gguf")
        ashore(folder, "model", "pull", f"{name}.gguf", "--name", name)
        evaluate(folder, name, "--text", "rain.txt", "--task", "sky.jsonl", "--no-speed")
    shown = json.loads(ashore(folder, "model", "show", "one", "--json").stdout)
    assert [one["kind"] for one in shown["attachments"]] == ["evaluation"]
    assert "attached: evaluation" in ashore(folder, "model", "show", "one").stdout
    both = ["one", "two"]
    told = ashore(folder, "optimize", "compare", *both, "--out", "page").stdout
    assert "perplexity, rain.txt" in told
    assert "perplexity, rain.txt" in (folder / "page" / "compare.md").read_text()
    items = json.loads(ashore(folder, "optimize", "compare", *both, "--json").stdout)["items"]
    assert items[1]["change"]["perplexity_increase"]["rain.txt"]["value"] != 0
    convert_safetensors_to_gguf(make_tiny_model(folder / "new", "llama", seed=2), folder / "new.gguf")
    ashore(folder, "model", "pull", "new.gguf", "--name", "new")
    assert "never evaluated" in ashore(folder, "optimize", "compare", "two", "new", code=2).stderr


def test_a_variant_is_judged_against_its_parent(folder: Path) -> None:
    store = ModelStore(folder / "home" / "store", folder / "home" / "run" / "models", ManualClock())
    for seed, name in enumerate(("one", "two")):
        convert_safetensors_to_gguf(make_tiny_model(folder / name, "llama", seed=seed), folder / f"{name}.gguf")
    parent = store.pull(str(folder / "one.gguf"), name="one")
    with store.scratch(parent) as scratch:
        (folder / "two.gguf").rename(scratch / "model.gguf")
        store.add_variant(parent, "worse", scratch, format="gguf", weights="model.gguf", recipe={"by": "test"})
    (folder / "gate.toml").write_text('[gate]\nperplexity_increase_max = "0.1%"\nkl_max = 1e-6\nsame_top_min = "99%"')
    words = ["one@worse", "--against", "parent", "--text", "rain.txt", "--no-speed", "--gate", "gate.toml"]
    document = parsed(evaluate(folder, *words, "--json", code=1))
    assert document["report"]["comparison"]["against"]["name"] == "one"
    assert document["report"]["comparison"]["divergence"]["rain.txt"]["method"] == "exact"
    failed = [line["metric"] for line in document["verdict"]["lines"] if not line["passed"]]
    assert {"kl_max", "same_top_min"} <= set(failed)
    verdict = gate_verdict(store, "one@worse")
    assert verdict is not None and not verdict.passed
    assert gate_verdict(store, "one") is None
    assert len(store.attachments(store.resolve("one"), "evaluation")) == 1
    same = evaluate(folder, "one", "--against", "one", "--text", "rain.txt", "--no-speed", "--gate", "gate.toml")
    assert "passes the gate" in same.stdout


def test_interrupted_it_leaves_nothing_behind(folder: Path) -> None:
    env = {**os.environ, "ASHORE_HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
    (folder / "tmp").mkdir()
    command = [sys.executable, "-m", "ashore.cli.main", "optimize", "evaluate", "fake:echo?context=1024&delay_s=60",
               "--text", "rain.txt", "--out", "page"]  # fmt: skip
    process = subprocess.Popen(command, cwd=folder, env=env, stderr=subprocess.PIPE, start_new_session=True)
    eventually(lambda: list((folder / "tmp").glob("ashore-host-*/host.sock")))
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert list((folder / "tmp").iterdir()) == []
    assert not (folder / "page").exists()
    hosts = subprocess.run(["pgrep", "-f", str(folder / "tmp")], capture_output=True, text=True)
    assert hosts.stdout == ""
