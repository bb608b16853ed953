"""A task in the form of lm-evaluation-harness, run by the real harness. Skipped aloud where it is not installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from eval_subjects import Scripted, local_subject

from ashore.errors import MissingExtra, NotFound
from ashore.evaluation.harness import HarnessTask, run_harness

pytestmark = pytest.mark.full

YAML = """
task: sky
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
ITEMS = [
    {"question": "The sky is", "choices": ["blue", "square"], "answer": 0},
    {"question": "Snow is", "choices": ["loud", "white"], "answer": 1},
    {"question": "Grass is", "choices": ["seven", "green"], "answer": 1},
]


@pytest.fixture
def yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    pytest.importorskip("lm_eval", reason="pip install lm-eval")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    data = tmp_path / "sky.jsonl"
    data.write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    (tmp_path / "tasks").mkdir()
    path = tmp_path / "tasks" / "sky.yaml"
    path.write_text(YAML.format(data=data))
    return str(path)


@pytest.mark.filterwarnings("default")
def test_a_task_of_the_harness_is_asked_of_the_subject(tmp_path: Path, yaml: str) -> None:
    subject = Scripted(tmp_path, likes=("blue", "white", "seven"))
    found = run_harness(subject, HarnessTask(place=yaml))
    assert found.task == "lm-eval:sky"
    assert [item.score for item in found.items] == [1, 1, 0]
    assert found.accuracy.value == pytest.approx(2 / 3)
    assert run_harness(subject, HarnessTask(place=yaml, limit=2)).num_items == 2
    with local_subject(tmp_path / "fake") as real:
        assert run_harness(real, HarnessTask(place=yaml)).num_items == 3


@pytest.mark.filterwarnings("default")
def test_a_task_that_is_not_there_is_named(tmp_path: Path, yaml: str) -> None:
    with pytest.raises(NotFound, match="task file none"):
        run_harness(Scripted(tmp_path), HarnessTask(place="none.yaml"))
    with pytest.raises(NotFound) as caught:
        run_harness(Scripted(tmp_path), HarnessTask(place="arc_eesy"))
    assert "arc_easy" in caught.value.hint


def test_without_the_harness_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(MissingExtra) as caught:
        run_harness(Scripted(tmp_path), HarnessTask(place="arc_easy"))
    assert "pip install lm-eval" in caught.value.hint
