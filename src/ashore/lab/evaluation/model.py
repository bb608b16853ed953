"""The report of an evaluation: figures, names and digests. No text of a prompt or an answer is in it."""

from __future__ import annotations

from typing import Final

import msgspec

from ashore.kit.store import Verdict
from ashore.lab.evaluation.divergence import Divergence
from ashore.lab.evaluation.perplexity import Perplexity
from ashore.lab.evaluation.speed import Speed
from ashore.lab.evaluation.statistics import Difference
from ashore.lab.evaluation.tasks import TaskResult

REPORT_VERSION: Final = 1


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """Circumstances of the measurements."""

    ashore: str
    engine: str
    engine_version: str
    precision: str
    options: dict[str, str | int | float | bool]
    machine: str
    cores: int
    created: str
    """UTC, ISO 8601."""


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """Which model was judged."""

    name: str
    digest: str
    """Of its manifest; empty for a folder outside the store."""
    weight_bytes: int


class TextResult(msgspec.Struct, frozen=True, kw_only=True):
    """One text."""

    text: str
    """Name of the file."""
    digest: str
    perplexity: Perplexity


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What changed against another model on the same texts and tasks. By name of the text or task."""

    against: Judged
    conditions: Conditions
    perplexity_increase: dict[str, Difference]
    """Relative: 0.005 is half a percent."""
    divergence: dict[str, Divergence]
    accuracy_change: dict[str, Difference]
    """In shares: -0.01 is one point fewer."""
    not_compared: dict[str, str]
    """Why not, by name."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Evaluation of one model."""

    version: int = REPORT_VERSION
    model: Judged
    gate: Verdict | None = None
    """None: no gate was given."""
    conditions: Conditions
    texts: tuple[TextResult, ...] = ()
    tasks: tuple[TaskResult, ...] = ()
    speed: Speed | None = None
    comparison: Comparison | None = None


def report_json(report: Report) -> bytes:
    """Return the report as JSON text."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1)


def read_report(data: bytes) -> Report:
    """Return a report from the output of `report_json`. Raises `msgspec.ValidationError` for anything else."""
    return msgspec.json.decode(data, type=Report)
