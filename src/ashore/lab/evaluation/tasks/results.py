"""Results of a task, by item and in total. No texts: items are named by their line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from ashore.core.errors import InvalidRequest
from ashore.lab.evaluation.statistics import Difference, Estimate, mean, mean_difference

BINS = 10


class ItemResult(msgspec.Struct, frozen=True, kw_only=True):
    """One item."""

    line: int
    score: float
    """1 right, 0 wrong; between them for `extract`."""
    confidence: float | None = None
    """Probability that the model gives to what it picked."""
    plain: float | None = None
    normalised: float | None = None
    """Right by log-probability as a whole, and for each byte."""
    picked: int | None = None
    right: int | None = None


class Bin(msgspec.Struct, frozen=True, array_like=True):
    """Items of like confidence."""

    confidence: float
    """Mean."""
    accuracy: float
    items: int


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a model is right as often as it is sure."""

    ece: float
    """Expected calibration error: the mean distance of confidence and accuracy over ten bins of equal width. Source:
    Guo and others, On Calibration of Modern Neural Networks, 2017."""
    bins: tuple[Bin, ...]


class TaskResult(msgspec.Struct, frozen=True, kw_only=True):
    """One task."""

    task: str
    kind: str
    style: str
    digest: str
    """Of the task's file."""
    num_items: int
    accuracy: Estimate
    """Mean score of an item."""
    metrics: dict[str, float]
    """Others, by name: `accuracy_normalised`, `macro_f1`…"""
    calibration: Calibration | None
    seconds: float
    items: tuple[ItemResult, ...]


def result_of(task: str, kind: str, style: str, digest: str, items: Sequence[ItemResult], seconds: float) -> TaskResult:
    """Return the total of item results."""
    return TaskResult(
        task=task,
        kind=kind,
        style=style,
        digest=digest,
        num_items=len(items),
        accuracy=mean([item.score for item in items]),
        metrics=dict(_metrics(kind, items)),
        calibration=calibration(items),
        seconds=seconds,
        items=tuple(items),
    )


def accuracy_change(before: TaskResult, after: TaskResult) -> Difference:
    """Return the change of the score on the same items.

    Raises:
        InvalidRequest: the items differ.
    """
    lines = [item.line for item in before.items]
    if before.digest != after.digest or lines != [item.line for item in after.items]:
        raise InvalidRequest(
            f"{before.num_items} items of {before.task} against {after.num_items} others cannot be compared",
            hint="evaluate both models with the same task file and --limit",
        )
    return mean_difference([item.score for item in before.items], [item.score for item in after.items])


def calibration(items: Sequence[ItemResult]) -> Calibration | None:
    """Return how well confidence and accuracy agree; None if no item has a confidence."""
    pairs = np.array([(item.confidence, item.score) for item in items if item.confidence is not None])
    if not len(pairs):
        return None
    places = np.minimum((pairs[:, 0] * BINS).astype(int), BINS - 1)
    bins = []
    for place in range(BINS):
        inside = pairs[places == place]
        if len(inside):
            bins.append(Bin(float(inside[:, 0].mean()), float(inside[:, 1].mean()), len(inside)))
    ece = sum(b.items * abs(b.confidence - b.accuracy) for b in bins) / len(pairs)
    return Calibration(ece=float(ece), bins=tuple(bins))


def _metrics(kind: str, items: Sequence[ItemResult]) -> Mapping[str, float]:
    if kind in ("choice", "classify"):
        found = {
            "accuracy_plain": float(np.mean([item.plain for item in items])),
            "accuracy_normalised": float(np.mean([item.normalised for item in items])),
        }
        return found | ({"macro_f1": _macro_f1(items)} if kind == "classify" else {})
    if kind == "extract":
        return {"exact": float(np.mean([item.score == 1 for item in items]))}
    return {}


def _macro_f1(items: Sequence[ItemResult]) -> float:
    labels = sorted({item.right for item in items if item.right is not None})
    scores = []
    for label in labels:
        hit = sum(item.right == item.picked == label for item in items)
        said = sum(item.picked == label for item in items)
        due = sum(item.right == label for item in items)
        scores.append(2 * hit / (said + due))
    return float(np.mean(scores))
