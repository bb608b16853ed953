"""The gate: limits that a model must keep, and the verdict on a report with the evidence of every line.

    [gate]
    perplexity_increase_max = "0.5%"
    task_accuracy_drop_max = "1pp"        # percentage points
    kl_max = 0.02                         # nats a token

With `strict = true` the whole 95 % interval must be within a limit, else the figure itself. A limit on something that
was not measured fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from ashore.core.errors import InvalidSpec
from ashore.core.nearest import did_you_mean
from ashore.kit.store import Verdict, VerdictLine
from ashore.kit.textfile import parse_toml, read_toml_text
from ashore.lab.evaluation.model import Report

_AMOUNT: Final = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*(%|pp|ms|s|kB|MB|GB|KiB|MiB|GiB)?")
_UNITS: Final = {
    None: 1.0, "%": 0.01, "pp": 0.01, "ms": 1.0, "s": 1000.0, "kB": 1e3, "MB": 1e6, "GB": 1e9,
    "KiB": 1024.0, "MiB": 1024.0**2, "GiB": 1024.0**3,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seen:
    """A figure of a report."""

    about: str
    value: float
    worst: float | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """What a limit is about."""

    name: str
    side: Literal["max", "min"]
    what: str
    seen: Callable[[Report], Iterator[Seen]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Limits, read from a file."""

    limits: tuple[tuple[Metric, float], ...]
    strict: bool
    digest: str


def _increases(report: Report) -> Iterator[Seen]:
    for name, change in (report.comparison.perplexity_increase if report.comparison else {}).items():
        yield Seen(name, change.value, change.high)


def _drops(report: Report) -> Iterator[Seen]:
    for name, change in (report.comparison.accuracy_change if report.comparison else {}).items():
        yield Seen(name, -change.value, -change.low)


def _divergences(report: Report) -> Iterator[Seen]:
    for name, found in (report.comparison.divergence if report.comparison else {}).items():
        yield Seen(name, found.kl.value, found.kl.high)


def _same_top(report: Report) -> Iterator[Seen]:
    for name, found in (report.comparison.divergence if report.comparison else {}).items():
        yield Seen(name, found.same_top.value, found.same_top.low)


def _perplexities(report: Report) -> Iterator[Seen]:
    for text in report.texts:
        yield Seen(text.text, text.perplexity.perplexity.value, text.perplexity.perplexity.high)


def _accuracies(report: Report) -> Iterator[Seen]:
    for task in report.tasks:
        yield Seen(task.task, task.accuracy.value, task.accuracy.low)


def _calibration_errors(report: Report) -> Iterator[Seen]:
    for task in report.tasks:
        if task.calibration is not None:
            yield Seen(task.task, task.calibration.ece)


def _speed(name: str) -> Callable[[Report], Iterator[Seen]]:
    def seen(report: Report) -> Iterator[Seen]:
        if report.speed is not None:
            yield Seen("", float(getattr(report.speed, name)))

    return seen


def _weights(report: Report) -> Iterator[Seen]:
    yield Seen("", float(report.model.weight_bytes))


METRICS: Final[tuple[Metric, ...]] = (
    Metric("perplexity_increase_max", "max", "relative increase of the perplexity on a text", _increases),
    Metric("task_accuracy_drop_max", "max", "points of accuracy lost on a task", _drops),
    Metric("kl_max", "max", "divergence from the parent on a text, nats per token", _divergences),
    Metric("same_top_min", "min", "share of tokens at which the parent has the same most likely token", _same_top),
    Metric("perplexity_max", "max", "perplexity on a text", _perplexities),
    Metric("task_accuracy_min", "min", "accuracy on a task", _accuracies),
    Metric("calibration_error_max", "max", "expected calibration error on a task", _calibration_errors),
    Metric("ttft_ms_p95_max", "max", "time to the first token, ms", _speed("ttft_ms_p95")),
    Metric("inter_token_ms_p95_max", "max", "time between tokens, ms", _speed("inter_token_ms_p95")),
    Metric("one_tok_per_s_min", "min", "tokens/s of one stream", _speed("one_tok_per_s")),
    Metric("many_tok_per_s_min", "min", "tokens/s of many streams", _speed("many_tok_per_s")),
    Metric("prefill_tok_per_s_min", "min", "prompt tokens/s", _speed("prefill_tok_per_s")),
    Metric("resident_bytes_max", "max", "memory of the engine's process", _speed("resident_bytes")),
    Metric("weight_bytes_max", "max", "bytes of the weights", _weights),
)


def read_gate(path: Path) -> Gate:
    """Return the gate in a TOML file.

    Raises:
        InvalidSpec: no such file, no TOML, no limits, an unknown metric (the nearest are in the hint), or no number.
    """
    return parse_gate(read_toml_text(path, hint="see docs/how-to/evaluate-a-model.md"), str(path))


def parse_gate(text: str, place: str) -> Gate:
    """Return the gate in `text`; `place` is what messages call it. Raises as `read_gate` does."""
    import hashlib

    document = parse_toml(text, place)
    for name in document:
        if name != "gate":
            raise InvalidSpec(f"{place} has the unknown section [{name}]", hint="the only allowed section is [gate]")
    table = document.get("gate", {})
    if not isinstance(table, dict):
        raise InvalidSpec(f"{place}: gate is not a table", hint="the only allowed section is [gate]")
    known = {metric.name: metric for metric in METRICS}
    limits = []
    for name, value in table.items():
        if name == "strict":
            continue
        if name not in known:
            raise InvalidSpec(
                f"{place}: unknown metric {name!r}", hint=did_you_mean(name, [*known, "strict"]), param=name
            )
        limits.append((known[name], _amount(value, f"{place}: {name}")))
    if not limits:
        raise InvalidSpec(
            f"{place} sets no limit, so every model would pass", hint="known: " + ", ".join(sorted(known))
        )
    strict = table.get("strict", False)
    if not isinstance(strict, bool):
        raise InvalidSpec(f"{place}: strict is {strict!r}; expected true or false")
    return Gate(limits=tuple(limits), strict=strict, digest=f"sha256:{hashlib.sha256(text.encode()).hexdigest()}")


def decide(gate: Gate, report: Report) -> Verdict:
    """Return the verdict on a report. Pure."""
    lines = tuple(line for metric, limit in gate.limits for line in _lines(metric, limit, report, strict=gate.strict))
    return Verdict(
        passed=all(line.passed for line in lines),
        model=report.model.name,
        digest=report.model.digest,
        against=report.comparison.against.name if report.comparison else "",
        created=report.conditions.created,
        gate=gate.digest,
        lines=lines,
    )


def _lines(metric: Metric, limit: float, report: Report, *, strict: bool) -> Iterable[VerdictLine]:
    found = list(metric.seen(report))
    if not found:
        yield VerdictLine(
            metric=metric.name,
            about="",
            limit=limit,
            seen=None,
            passed=False,
            why=f"{metric.what} was not measured" + ("" if report.comparison else "; is --against missing?"),
        )
    for seen in found:
        judged = seen.worst if strict and seen.worst is not None else seen.value
        passed = judged <= limit if metric.side == "max" else judged >= limit
        sign = "≤" if metric.side == "max" else "≥"
        which = "the bound of its 95 % interval" if judged is seen.worst and strict else "the figure"
        why = f"{which}, {judged:.5g}, must be {sign} {limit:.5g}"
        yield VerdictLine(
            metric=metric.name,
            about=seen.about,
            limit=limit,
            seen=seen.value,
            worst=seen.worst,
            passed=passed,
            why=why,
        )


def _amount(value: Any, where: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    found = _AMOUNT.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        hint = 'write a number such as 0.02, "0.5%" or "1pp"'
        raise InvalidSpec(f"{where} is {value!r}; expected a number, or a number with a unit", hint=hint)
    return float(found[1]) * _UNITS[found[2]]
