"""The issue's table out of the facts of the stages: what was measured, its bar, and whether it is met."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.optimise.stages import Facts, Outcome
from benchmarks.row import Row

Judge = Callable[[Mapping[str, Any]], tuple[float, str]]
"""Facts by stage to the judged figure and what it was made of."""

LEAST_ABOVE_BAG = 3.0
"""Points by which the teacher must stand above a bag of words, so that the task needs a language model."""


def speed_factor(facts: Mapping[str, Any], *, streams: int, of: str, against: str) -> float:
    return float(facts["speed"]["factors"][f"{of} against {against}, {streams} streams"])


def ceiling(pruned: Mapping[str, Any]) -> float:
    """Return the most that removing parameters can give where every weight is read, and multiplied with, once a token.

    Embeddings that are tied to the head are read there, so they count; they cannot be removed.
    """
    return float(pruned["parent_parameters"]) / float(pruned["parameters"])


def rows(outcome: Outcome) -> list[Row]:
    """Return every row of the table below quantising; a row without its stages says why."""

    def row(what: str, needs: str, judge: Judge, **judged: Any) -> Row:
        missing = [f"{name}: {outcome.failed.get(name, 'not run')}" for name in needs.split() if name not in facts]
        if missing:
            return Row(what=what, value=None, detail="; ".join(missing), **judged)
        value, detail = judge(facts)
        return Row(what=what, value=value, detail=detail, **judged)

    facts: Mapping[str, Any] = outcome.facts
    return [
        row("teacher above TF-IDF and logistic regression on the task", "task teacher", _above_bag, unit="points",
            bar=LEAST_ABOVE_BAG),
        row("30 % removed, healed, INT8, against the unpruned F16, one stream", "speed", _pruned_int8(1), unit="x",
            bar=1.8, aim=2.0),
        row("the same at 16 streams, share of its ceiling", "speed pruned", _pruned_int8_share, unit="%", bar=90),
        row("task accuracy kept after healing, INT8", "teacher pruned", _kept("pruned"), unit="%", bar=95, aim=98),
        row("pruning alone, one stream, share of its ceiling", "speed pruned", _pruning_alone(1), unit="%", bar=None,
            aim=90),
        row("pruning alone, 16 streams, share of its ceiling", "speed pruned", _pruning_alone(16), unit="%", bar=None,
            aim=90),
        row("unstructured 30 %, one stream, against unpruned", "speed", _zeros, unit="x", bar=None),
        row("student of at most half the parameters: task accuracy of the teacher's", "teacher student",
            _kept("student"), unit="%", bar=97, aim=99),
        row("its parameters, share of the teacher's", "student", _student_share, unit="%", bar=50,
            lower_is_better=True),
        row("its untouched skill, share of the teacher's", "teacher student", _skill, unit="%", bar=None),
        row("LoRA against full fine-tuning: peak memory times time", "teacher lora", _memory_time, unit="x", bar=0.4,
            aim=0.25, lower_is_better=True),
        row("LoRA against full fine-tuning: share of its gain", "base teacher lora", _gain_share, unit="%", bar=99),
        row("evaluating 1,000 multiple-choice items, share of the prefill rate", "evaluate_rate", _evaluate_rate,
            unit="%", bar=80),
    ]  # fmt: skip


def _above_bag(facts: Mapping[str, Any]) -> tuple[float, str]:
    teacher, bag = facts["teacher"]["task"], facts["task"]["bag_of_words"]
    detail = f"{100 * teacher:.1f} % against {100 * bag:.1f} % of {facts['task']['num_test']:,} items"
    return 100 * (teacher - bag), detail


def _pruned_int8(streams: int) -> Judge:
    def judge(facts: Mapping[str, Any]) -> tuple[float, str]:
        value = speed_factor(facts, streams=streams, of="pruned int8", against="fp16")
        alone = speed_factor(facts, streams=streams, of="int8", against="fp16")
        return value, f"INT8 alone {alone:.2f}"

    return judge


def _pruned_int8_share(facts: Mapping[str, Any]) -> tuple[float, str]:
    seen = speed_factor(facts, streams=16, of="pruned int8", against="fp16")
    alone = speed_factor(facts, streams=16, of="int8", against="fp16")
    most = alone * ceiling(facts["pruned"])
    return 100 * seen / most, f"{seen:.2f} of {most:.2f} = INT8 alone {alone:.2f} times {ceiling(facts['pruned']):.2f}"


def _pruning_alone(streams: int) -> Judge:
    def judge(facts: Mapping[str, Any]) -> tuple[float, str]:
        seen = speed_factor(facts, streams=streams, of="pruned fp16", against="fp16")
        most = ceiling(facts["pruned"])
        return 100 * seen / most, f"{seen:.2f} of {most:.2f}"

    return judge


def _zeros(facts: Mapping[str, Any]) -> tuple[float, str]:
    return speed_factor(facts, streams=1, of="zeros fp16", against="fp16"), "dense kernels multiply zeros too"


def _kept(stage: str) -> Judge:
    def judge(facts: Mapping[str, Any]) -> tuple[float, str]:
        mine, teacher = facts[stage]["task"], facts["teacher"]["task"]
        return 100 * mine / teacher, f"{100 * mine:.1f} % against {100 * teacher:.1f} %"

    return judge


def _student_share(facts: Mapping[str, Any]) -> tuple[float, str]:
    student: Facts = facts["student"]
    mine, parent = float(str(student["parameters"])), float(str(student["parent_parameters"]))
    return 100 * mine / parent, f"{mine / 1e6:.1f} of {parent / 1e6:.1f} million"


def _skill(facts: Mapping[str, Any]) -> tuple[float, str]:
    mine, teacher = facts["student"]["skill"], facts["teacher"]["skill"]
    return 100 * mine / teacher, f"{100 * mine:.1f} % against {100 * teacher:.1f} %, four choices"


def _memory_time(facts: Mapping[str, Any]) -> tuple[float, str]:
    full, lora = facts["teacher"], facts["lora"]
    memory, time = lora["peak_bytes"] / full["peak_bytes"], lora["seconds"] / full["seconds"]
    return memory * time, f"memory {memory:.2f} times time {time:.2f}; full {full['seconds']:.0f} s"


def _gain_share(facts: Mapping[str, Any]) -> tuple[float, str]:
    base, full, lora = (100 * facts[name]["task"] for name in ("base", "teacher", "lora"))
    return 100 * (lora - base) / (full - base), f"from {base:.1f} % to {lora:.1f} %, full {full:.1f} %"


def _evaluate_rate(facts: Mapping[str, Any]) -> tuple[float, str]:
    rate = facts["evaluate_rate"]
    return 100 * rate["ratio"], str(rate["detail"])
