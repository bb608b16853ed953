"""Task files read, asked and judged; what is wrong in them is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from eval_subjects import Scripted, local_subject

from ashore.core.errors import ContextTooLong, InvalidRequest, NotFound
from ashore.lab.evaluation import TaskResult, accuracy_change, open_task, parse_task, run_task, shipped_tasks
from ashore.lab.evaluation.tasks.results import ItemResult, calibration
from ashore.lab.evaluation.tasks.run import cut, extracted, f1, normal, satisfies


def task_of(header: dict[str, Any], *items: dict[str, Any]) -> Any:
    lines = [{"task": "t", **header}, *items]
    return parse_task("\n".join(json.dumps(line) for line in lines).encode(), "t.jsonl")


CHOICE = {"prompt": "The sky is", "choices": ["blue", "square"], "answer": 0}


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("", "empty", ""),
        ('{"task": "t", "kind": "choice"}', "no items", ""),
        ("{", "line 1 is not JSON", ""),
        ("[1]", "line 1 is a list", ""),
        ('{"task": "t", "kind": "chioce"}\n{}', "'chioce'", "did you mean 'choice'"),
        ('{"task": "t", "kind": "choice", "sepparator": ""}\n{}', "'sepparator'", "did you mean 'separator'"),
        ('{"task": "t", "kind": "choice", "template": "Q:"}\n{}', "does not contain {prompt}", ""),
        ('{"kind": "choice"}\n{}', "line 1: Object missing required field `task`", ""),
        ('{"task": "t", "kind": "choice"}\n\n{"prompt": "x"', "line 3 is not JSON", ""),
        ('{"task": "t", "kind": "choice"}\n{"prompt": "x", "choises": ["a"]}', "line 2 has the unknown field",
         "choices"),
        ('{"task": "t", "kind": "choice"}\n{"prompt": "x", "choices": ["a", "b"], "answer": 2}', "0 to 1", ""),
        ('{"task": "t", "kind": "choice"}\n{"prompt": "x", "choices": ["a"], "answer": 0}', "1 choices", ""),
        ('{"task": "t", "kind": "classify", "labels": ["good", "bad"]}\n{"prompt": "x", "answer": "goood"}', "'goood'",
         "did you mean 'good'"),
        ('{"task": "t", "kind": "classify"}\n{"prompt": "x", "answer": "a"}', "0 labels", ""),
        ('{"task": "t", "kind": "exact"}\n{"prompt": "x"}', "expected a text", ""),
        ('{"task": "t", "kind": "extract"}\n{"prompt": "x", "answer": "a"}', "expected a list", ""),
        ('{"task": "t", "kind": "schema"}\n{"prompt": "x"}', "nor the header has a schema", ""),
        ('{"task": "t", "kind": "schema", "schema": {"type": 5}}\n{"prompt": "x"}', "the schema is not valid", ""),
        ('{"task": "t", "kind": "exact"}\n{"prompt": "", "answer": "a"}', "prompt is empty", ""),
        ('{"task": "t", "kind": "exact"}\n{"prompt": 5, "answer": "a"}', "line 2: Expected `str`", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_line(text: str, says: str, hint: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_task(text.encode(), "t.jsonl")
    assert "t.jsonl" in caught.value.message
    assert says in caught.value.message
    assert hint in caught.value.hint


def test_every_shipped_task_opens_and_says_where_it_is_from(tmp_path: Path) -> None:
    assert shipped_tasks() == ("reviews-zh", "stdlib-en")
    for name in shipped_tasks():
        task = open_task(name)
        assert task.name == name
        assert task.header.source and task.header.licence and task.header.language in ("en", "zh")
        assert len(task.items) == {"reviews-zh": 1200, "stdlib-en": 400}[name]
        assert len(task.first(5).items) == 5
    with pytest.raises(NotFound) as caught:
        open_task("review-zh")
    assert "reviews-zh" in caught.value.hint


def test_the_likelier_choice_is_picked(tmp_path: Path) -> None:
    subject = Scripted(tmp_path, likes=("blue", "long"))
    items = [CHOICE, CHOICE | {"answer": 1}, {"prompt": "x", "choices": ["a b c d", "long"], "answer": 1}]
    result = run_task(subject, task_of({"kind": "choice"}, *items))
    assert [item.score for item in result.items] == [1, 0, 1]
    assert [item.line for item in result.items] == [2, 3, 4]
    assert result.accuracy.value == pytest.approx(2 / 3)
    assert all(0.5 <= item.confidence <= 1 for item in result.items if item.confidence is not None)
    assert result.calibration is not None
    assert result.style == "plain"


def test_normalising_by_length_changes_what_is_compared(tmp_path: Path) -> None:
    subject = Scripted(tmp_path, cost=-2.0)
    item = {"prompt": "x", "choices": ["aaaa", "b"], "answer": 0}
    plain = run_task(subject, task_of({"kind": "choice", "separator": ""}, item))
    assert plain.items[0].picked == 1  # each byte costs the same, so the shorter is likelier
    fair = run_task(subject, task_of({"kind": "choice", "separator": " ", "normalise": True}, item))
    assert fair.items[0].picked == 0  # the space weighs less in the longer one
    assert fair.metrics["accuracy_normalised"] == 1.0
    assert fair.metrics["accuracy_plain"] == 0.0


def test_labels_are_judged_with_f1(tmp_path: Path) -> None:
    subject = Scripted(tmp_path, likes=("good",))
    items = [{"prompt": "a", "answer": "good"}, {"prompt": "b", "answer": "good"}, {"prompt": "c", "answer": "bad"}]
    result = run_task(subject, task_of({"kind": "classify", "labels": ["good", "bad"]}, *items))
    assert result.accuracy.value == pytest.approx(2 / 3)
    assert result.metrics["macro_f1"] == pytest.approx((0.8 + 0.0) / 2)


def test_the_prompt_of_a_question_has_its_examples_and_nothing_twice(tmp_path: Path) -> None:
    subject = Scripted(tmp_path)
    header = {
        "kind": "choice", "system": "Answer.", "template": "Q: {prompt}\nA:",
        "shots": [{"prompt": "1+1", "answer": "2"}],
    }  # fmt: skip
    run_task(subject, task_of(header, {"prompt": "{prompt}", "choices": ["3", "4"], "answer": 0}))
    ids, start = subject.scored[0]
    assert subject.text.decode(ids) == "Answer.\n\nQ: 1+1\nA: 2\n\nQ: {prompt}\nA: 3"
    assert subject.text.decode(ids[start:]) == " 3"
    run_task(subject, task_of(header | {"style": "chat"}, CHOICE))
    assert "Answer." in subject.text.decode(subject.scored[-1][0])
    assert subject.text.decode(subject.scored[-1][0][subject.scored[-1][1] :]) == "square"


@pytest.mark.parametrize(
    ("header", "item", "said", "score"),
    [
        ({"kind": "exact"}, {"answer": "Paris"}, " paris.\n", 1),
        ({"kind": "exact"}, {"answer": ["Paris", "Lutetia"]}, "Lutetia", 1),
        ({"kind": "exact"}, {"answer": "Paris"}, "Paris, I think", 0),
        ({"kind": "exact", "stop": [","]}, {"answer": "Paris"}, "Paris, I think", 1),
        ({"kind": "exact"}, {"answer": "42"}, "<think>41? no</think>42", 1),
        ({"kind": "exact"}, {"answer": "北京"}, "「北京」。", 1),
        ({"kind": "extract"}, {"answer": ["Ada", "Bob"]}, "Ada\nBob\n", 1),
        ({"kind": "extract"}, {"answer": ["Ada", "Bob"]}, '```json\n["ada"]\n```', 2 / 3),
        ({"kind": "extract"}, {"answer": []}, "", 1),
        ({"kind": "extract"}, {"answer": ["Ada"]}, '{"people": [{"name": "Ada"}]}', 1),
        ({"kind": "schema", "schema": {"type": "object", "required": ["a"]}}, {}, '{"a": 1}', 1),
        ({"kind": "schema", "schema": {"type": "object", "required": ["a"]}}, {}, '{"b": 1}', 0),
        ({"kind": "schema"}, {"schema": {"type": "array"}}, "Here: [1]", 0),
        ({"kind": "schema"}, {"schema": {"type": "array"}}, "Here:\n```json\n[1]\n```", 1),
    ],
)
def test_written_answers_are_judged(
    tmp_path: Path, header: dict[str, Any], item: dict[str, Any], said: str, score: float
) -> None:
    result = run_task(Scripted(tmp_path, says=said), task_of(header, {"prompt": "q", **item}))
    assert result.items[0].score == pytest.approx(score)
    assert result.accuracy.value == pytest.approx(score)
    assert result.style == "chat"
    assert result.calibration is None


def test_an_item_that_does_not_fit_is_named_before_anything_is_computed(tmp_path: Path) -> None:
    subject = Scripted(tmp_path)
    long = {"prompt": "x" * 600, "choices": ["a", "b"], "answer": 0}
    with pytest.raises(ContextTooLong, match="t, line 3"):
        run_task(subject, task_of({"kind": "choice"}, CHOICE, long))
    with pytest.raises(ContextTooLong, match="line 2"):
        run_task(subject, task_of({"kind": "exact", "max_new_tokens": 600}, {"prompt": "x", "answer": "y"}))
    assert subject.scored == []


def test_a_real_engine_runs_a_task(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with local_subject(tmp_path) as subject:
        result = run_task(subject, task_of({"kind": "choice"}, *[CHOICE] * 20), told=lambda *n: told.append(n))
    assert result.num_items == 20
    assert told[-1] == (20, 20)


def test_only_the_same_items_are_compared(tmp_path: Path) -> None:
    subject = Scripted(tmp_path, likes=("blue",))
    one: TaskResult = run_task(subject, task_of({"kind": "choice"}, CHOICE))
    two = run_task(subject, task_of({"kind": "choice"}, CHOICE, CHOICE))
    assert accuracy_change(one, one).value == 0
    with pytest.raises(InvalidRequest):
        accuracy_change(one, two)


def test_calibration_is_the_distance_of_sure_and_right() -> None:
    sure = [ItemResult(line=n, score=float(n < 6), confidence=0.95) for n in range(10)]
    unsure = [ItemResult(line=n, score=float(n < 5), confidence=0.55) for n in range(10)]
    found = calibration([*sure, *unsure])
    assert found is not None
    assert found.ece == pytest.approx(0.5 * 0.35 + 0.5 * 0.05)
    assert [b.items for b in found.bins] == [10, 10]
    assert calibration([ItemResult(line=1, score=1.0)]) is None


def test_small_rules() -> None:
    assert normal("  Ｈello,  World! ") == "hello, world"
    assert cut("ab\nSTOP c", ("STOP", "zz")) == "ab\n"
    assert extracted("a, b；c") == {"a", "b", "c"}
    assert f1({"a"}, set()) == 0.0
    assert not satisfies("[" * 100_000, {"type": "array"})
