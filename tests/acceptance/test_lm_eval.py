"""lm-evaluation-harness as it is, its log-likelihood tasks asked over HTTP: its figures are `optimize evaluate`'s.

`make test-lm-eval` runs it; docs/how-to/evaluate-a-model.md tells how to do the same by hand, without a network.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import pytest
from commands import run_command
from demo_files import demo_files
from served import Served
from suite_venv import suite_python

pytestmark = [pytest.mark.full, pytest.mark.model, pytest.mark.timeout(1800)]

ITEMS: Final = 60
MODEL: Final = "smollm2"
TASK: Final = """
task: stdlib
dataset_path: json
dataset_kwargs:
  data_files: {{test: {items}}}
test_split: test
output_type: multiple_choice
doc_to_text: "What the Python function {{{{prompt}}}} does:"
doc_to_choice: choices
doc_to_target: answer
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
"""
ROLLING: Final = """
task: prose
dataset_path: json
dataset_kwargs:
  data_files: {{test: {text}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list:
  - {{metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What both judge: a task of ours and the same for the harness, and a text."""

    ours: Path
    text: Path
    tasks: Path


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    folder = tmp_path_factory.mktemp("tasks")
    shipped = (resources.files("ashore.lab.evaluation.tasks") / "sets" / "stdlib-en.jsonl").read_text(encoding="utf-8")
    header, *lines = shipped.splitlines()
    items = [json.loads(line) for line in lines[:ITEMS]]
    prose = " ".join(f"{one['prompt']}: {one['choices'][one['answer']]}" for one in items[:40])
    ours, theirs, text, rolling = (folder / name for name in ("ours.jsonl", "items.jsonl", "text.txt", "text.jsonl"))
    ours.write_text("\n".join([header, *lines[:ITEMS]]))
    theirs.write_text("\n".join(lines[:ITEMS]))
    text.write_text(prose)
    rolling.write_text(json.dumps({"text": prose}))
    tasks = folder / "yaml"
    tasks.mkdir()
    (tasks / "stdlib.yaml").write_text(TASK.format(items=theirs))
    (tasks / "prose.yaml").write_text(ROLLING.format(text=rolling))
    return Given(ours=ours, text=text, tasks=tasks)


@pytest.fixture(scope="module")
def own(given: Given, demo_home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of `ashore optimize evaluate`."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(demo_home / "store", home / "store")
    words = ("optimize", "evaluate", f"{MODEL}@int8", "--task", str(given.ours), "--text", str(given.text))
    done = run_command(*words, "--no-speed", "--json", home=home, timeout_s=900)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)["report"]
    return report


@pytest.fixture(scope="module")
def server(served_for_all: Callable[..., Served]) -> Served:
    return served_for_all(MODEL)


def harness(server: Served, given: Given, folder: Path, **options: object) -> dict[str, Any]:
    """Run `lm_eval`, and return its results by task."""
    python = suite_python("lm-eval")
    asked = {"model": MODEL, "base_url": f"{server.base_url}/completions", "num_concurrent": 2, **options}
    words = [str(python.with_name("lm_eval")), "run", "--model", "local-completions", "--model_args"]
    words += [",".join(f"{name}={value}" for name, value in asked.items())]
    words += ["--include_path", str(given.tasks), "--tasks", "stdlib,prose", "--batch_size", "16"]
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "OPENAI_API_KEY": server.key,
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "hf"),
    }
    out = folder / "out"
    done = subprocess.run(
        [*words, "--output_path", str(out)], env=env, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    [file] = out.glob("**/results_*.json")
    found: dict[str, Any] = json.loads(file.read_text())["results"]
    return found


@pytest.mark.parametrize("tokenizer", ["of the server", "of the model's folder"])
def test_the_harness_finds_what_optimize_evaluate_finds(
    tokenizer: str, server: Served, given: Given, own: dict[str, Any], demo_home: Path, tmp_path: Path
) -> None:
    options: dict[str, object] = {"auth_token": server.key}
    if tokenizer != "of the server":
        folder = demo_files(demo_home, f"{MODEL}@int8").directory
        options = {"tokenizer_backend": "huggingface", "tokenizer": folder, "custom_prefix_token_id": 1}
    found = harness(server, given, tmp_path, **options)
    [task] = own["tasks"]
    assert task["num_items"] == ITEMS
    assert task["accuracy"]["low"] <= found["stdlib"]["acc_norm,none"] <= task["accuracy"]["high"]
    for theirs, ours in (("acc", "accuracy_plain"), ("acc_norm", "accuracy_normalised")):
        assert found["stdlib"][f"{theirs},none"] == pytest.approx(task["metrics"][ours], abs=0.06)
    [text] = own["texts"]
    assert found["prose"]["bits_per_byte,none"] == pytest.approx(text["perplexity"]["bits_per_byte"], rel=0.03)
