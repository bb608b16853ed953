"""The gate: limits read, kept or not, with evidence; reports compared, rendered and kept beside the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from eval_subjects import Scripted, local_subject
from store_making import make_store, pull_tiny

from ashore.control.releases import KeptVerdicts
from ashore.core.clock import ManualClock
from ashore.core.errors import InvalidRequest, InvalidSpec
from ashore.kit.store import gate_verdict, keep_verdict
from ashore.lab.evaluation import (
    Candidate,
    Judged,
    NamedText,
    Report,
    compare,
    comparison_markdown,
    decide,
    evaluate,
    keep_report,
    kept_reports,
    open_task,
    parse_gate,
    parse_task,
    read_report,
    report_files,
)

TEXT = NamedText(name="rain.txt", text="The rain in Spain stays mainly in the plain. " * 20)
TASK = b"""{"task": "sky", "kind": "choice"}
{"prompt": "The sky is", "choices": ["blue", "square"], "answer": 0}
{"prompt": "Snow is", "choices": ["white", "loud"], "answer": 0}
{"prompt": "Grass is", "choices": ["green", "seven"], "answer": 0}"""


def candidate(subject: Any, name: str = "it", digest: str = "", weight_bytes: int = 1000) -> Candidate:
    return Candidate(
        subject=subject,
        judged=Judged(name=name, digest=digest, weight_bytes=weight_bytes),
        options={"a": 1, "api_key": "sesame"},
    )


@pytest.fixture
def report(tmp_path: Path) -> Report:
    """A model against one that likes other answers, with everything measured."""
    with local_subject(tmp_path) as subject, local_subject(tmp_path) as parent:
        found, base = evaluate(
            candidate(subject),
            against=candidate(parent, "parent", weight_bytes=4000),
            texts=[TEXT],
            tasks=[parse_task(TASK, "sky")],
            clock=ManualClock(),
        )
    assert base is not None and base.comparison is None
    return found


def verdict_on(report: Report, text: str) -> Any:
    return decide(parse_gate(text, "gate.toml"), report)


def test_everything_that_was_asked_for_is_in_the_report(report: Report) -> None:
    assert [text.text for text in report.texts] == ["rain.txt"]
    assert [task.task for task in report.tasks] == ["sky"]
    assert report.speed is not None
    assert report.speed.one_tok_per_s > 0
    assert report.speed.resident_bytes > 1 << 20
    assert report.comparison is not None
    assert report.comparison.perplexity_increase["rain.txt"].value == 0.0
    assert report.comparison.divergence["rain.txt"].kl.value == pytest.approx(0, abs=1e-9)
    assert report.comparison.accuracy_change["sky"].value == 0.0
    assert report.comparison.not_compared == {}
    assert report.conditions.engine == "fake"


def test_a_report_holds_no_text(report: Report) -> None:
    for name, data in report_files(report).items():
        assert b"Spain" not in data, name
        assert b"square" not in data, name
        assert b"sesame" not in data, name


def test_a_report_is_read_back_as_it_was(report: Report) -> None:
    assert read_report(report_files(report)["report.json"]) == report


def test_limits_that_are_kept_pass(report: Report) -> None:
    verdict = verdict_on(
        report,
        """[gate]
        perplexity_increase_max = "0.5%"
        task_accuracy_drop_max = "1pp"
        kl_max = 0.001
        weight_bytes_max = "1KiB"
        one_tok_per_s_min = 0.1
        strict = true
        """,
    )
    assert [line.why for line in verdict.lines if not line.passed] == []
    assert [line.metric for line in verdict.lines] == [
        "perplexity_increase_max", "task_accuracy_drop_max", "kl_max", "weight_bytes_max", "one_tok_per_s_min",
    ]  # fmt: skip
    assert verdict.lines[0].limit == pytest.approx(0.005)
    assert verdict.against == "parent"


def test_one_limit_that_is_not_kept_fails_all_and_says_why(report: Report) -> None:
    verdict = verdict_on(report, "[gate]\nkl_max = 0.5\nweight_bytes_max = 999\ntask_accuracy_min = 2.0")
    assert not verdict.passed
    assert [line.passed for line in verdict.lines] == [True, False, False]
    assert "1000" in verdict.lines[1].why and "≤ 999" in verdict.lines[1].why
    assert verdict.lines[2].about == "sky"


def test_strict_asks_the_whole_interval(report: Report) -> None:
    accuracy = report.tasks[0].accuracy
    worse = msgspec.structs.replace(accuracy, value=0.9, low=0.7, high=1.0)
    report = msgspec.structs.replace(report, tasks=(msgspec.structs.replace(report.tasks[0], accuracy=worse),))
    assert verdict_on(report, "[gate]\ntask_accuracy_min = '80%'").passed
    strict = verdict_on(report, "[gate]\ntask_accuracy_min = '80%'\nstrict = true")
    assert not strict.passed
    assert strict.lines[0].worst == 0.7


def test_what_was_not_measured_does_not_pass(report: Report) -> None:
    bare = Report(model=report.model, conditions=report.conditions)
    verdict = verdict_on(bare, "[gate]\nperplexity_increase_max = '1%'\nttft_ms_p95_max = 50")
    assert not verdict.passed
    assert [line.seen for line in verdict.lines] == [None, None]
    assert "--against" in verdict.lines[0].why


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("[gate]\nperplexity_incrase_max = '1%'", "'perplexity_incrase_max'", "perplexity_increase_max"),
        ("[gate]\nkl_max = 'much'", "'much'", "0.5%"),
        ("[gate]\nkl_max = true", "True", ""),
        ("[gates]\nkl_max = 1", "[gates]", "[gate]"),
        ("", "sets no limit", "kl_max"),
        ("[gate]\nstrict = true", "sets no limit", ""),
        ("[gate]\nkl_max = 1\nstrict = 1", "strict", ""),
        ("gate = 5", "not a table", ""),
    ],
)
def test_a_gate_that_cannot_be_meant_is_refused(text: str, says: str, hint: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse_gate(text, "gate.toml")
    assert says in caught.value.message
    assert hint in caught.value.hint


def test_a_verdict_is_kept_beside_the_very_bytes_that_it_is_about(tmp_path: Path, report: Report) -> None:
    store = make_store(tmp_path / "home")
    model = pull_tiny(store, tmp_path)
    assert gate_verdict(store, "tiny") is None
    failed = verdict_on(report, "[gate]\nweight_bytes_max = 1")
    passed = verdict_on(report, "[gate]\nweight_bytes_max = 10000")
    keep_verdict(store, model, failed)
    assert gate_verdict(store, "tiny") == failed
    keep_verdict(store, model, passed)
    assert gate_verdict(store, "tiny") == passed
    keep_report(store, model, report)
    assert kept_reports(store, model) == (report,)
    assert {one.kind for one in store.attachments(model)} == {"evaluation", "gate"}
    changed = pull_tiny(store, tmp_path, seed=1)
    assert changed.digest != model.digest
    assert gate_verdict(store, "tiny") is None
    assert gate_verdict(store, f"tiny@{model.digest}") == passed


def test_a_release_asks_for_the_kept_verdict(tmp_path: Path, report: Report) -> None:
    store = make_store(tmp_path / "home")
    model = pull_tiny(store, tmp_path)
    gate = KeptVerdicts(lambda: store)
    assert gate.verdict("tiny").outcome == ""
    keep_verdict(store, model, verdict_on(report, "[gate]\nweight_bytes_max = 1\nkl_max = 1"))
    assert gate.verdict("tiny").outcome == "failed"
    assert gate.verdict("tiny").why == "weight_bytes_max: the figure, 1000, must be ≤ 1"
    keep_verdict(store, model, verdict_on(report, "[gate]\nkl_max = 1"))
    assert gate.verdict("tiny").outcome == "passed"


def test_other_tokens_are_compared_by_tasks_alone(tmp_path: Path, report: Report) -> None:
    base = msgspec.structs.replace(report, comparison=None)
    text = report.texts[0]
    block = text.perplexity.blocks[0]
    fewer = msgspec.structs.replace(text.perplexity, blocks=(type(block)(block.nats, block.tokens - 1),))
    other = msgspec.structs.replace(base, texts=(msgspec.structs.replace(text, perplexity=fewer),))
    found = compare(base, other)
    assert found.perplexity_increase == {}
    assert "rain.txt" in found.not_compared
    assert "sky" in found.accuracy_change
    unlike = msgspec.structs.replace(base, texts=(msgspec.structs.replace(text, digest="sha256:0"),), tasks=())
    assert set(compare(base, unlike).not_compared) == {"rain.txt"}


def test_the_shorter_context_decides_where_two_are_compared(tmp_path: Path) -> None:
    long, short = "fake:random?context=2048", "fake:random?context=128"
    with local_subject(tmp_path, long) as subject, local_subject(tmp_path, short) as parent:
        found, base = evaluate(
            candidate(subject), against=candidate(parent), texts=[TEXT], speed=False, clock=ManualClock()
        )
    assert base is not None and found.comparison is not None
    assert found.texts[0].perplexity.window_tokens == base.texts[0].perplexity.window_tokens == 127
    assert found.comparison.perplexity_increase["rain.txt"].value == 0
    assert found.comparison.not_compared == {}


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ("10%", "GATE: PASSED, 1 limit kept"),
        ("-1%", "GATE: FAILED: perplexity_increase_max (rain.txt): the figure, 0, must be ≤ -0.01"),
        ("", "GATE: none"),
    ],
)
def test_the_verdict_is_at_the_head_of_every_report(report: Report, limit: str, told: str) -> None:
    if limit:
        verdict = verdict_on(report, f'[gate]\nperplexity_increase_max = "{limit}"\n')
        report = msgspec.structs.replace(report, gate=verdict)
    other = msgspec.structs.replace(report, model=Judged(name="other", digest="", weight_bytes=9), gate=None)
    files = report_files(report)
    assert read_report(files["report.json"]).gate == report.gate
    for text in (
        files["report.md"].decode(),
        comparison_markdown([other, report]),
    ):
        assert told in text and text.index(told) < text.index("cores,"), "before what was judged and where"
    assert ("## Gate" in files["report.md"].decode()) == bool(limit), "a table below has the evidence"
    assert "other: GATE: none" in comparison_markdown([other, report])


def test_reports_are_compared_side_by_side(report: Report) -> None:
    markdown = comparison_markdown([report, msgspec.structs.replace(report, model=report.model)])
    assert "| perplexity, rain.txt |" in markdown
    assert "against the first" in markdown


def test_nothing_to_judge_by_and_doubles_are_refused(tmp_path: Path) -> None:
    one = candidate(Scripted(tmp_path))
    with pytest.raises(InvalidRequest, match="nothing to evaluate"):
        evaluate(one, speed=False, clock=ManualClock())
    with pytest.raises(InvalidRequest, match=r"rain.txt is given twice"):
        evaluate(one, texts=[TEXT, TEXT], clock=ManualClock())


def test_a_shipped_task_on_a_model_that_knows_nothing_is_near_chance(tmp_path: Path) -> None:
    with local_subject(tmp_path, "fake:random?context=4096") as subject:
        found, _ = evaluate(
            candidate(subject), tasks=[open_task("reviews-zh").first(120)], speed=False, clock=ManualClock()
        )
    assert 0.3 < found.tasks[0].accuracy.value < 0.7
