"""What the doctor says of what it measured (`readings.py`). Everything here is a value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

Severity = Literal["critical", "warning", "advice"]
"""critical: requests fail, or something is lost, now or soon. warning: it is slower or less safe than it should be.
advice: nothing is wrong; this would be better."""
SEVERITIES: Final[tuple[Severity, ...]] = ("critical", "warning", "advice")
Sure = Literal["certain", "likely", "possible"]
Area = Literal[
    "cpu", "memory", "disk", "network", "clock", "process", "serving", "gpu", "state", "cache", "edge", "audit",
    "backup", "access", "release", "store", "configuration",
]  # fmt: skip
ChangeKind = Literal["mode", "files-limit", "idle-class", "continue", "kernel", "wal"]
"""mode: permissions of a file of the home. files-limit: open files of a process. idle-class: scheduling class of a
process. continue: SIGCONT. kernel: a file of /proc/sys or /sys. wal: a checkpoint of SQLite's log."""


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what is found."""


class Evidence(Value, frozen=True, kw_only=True):
    """One measured figure, and what it was compared with."""

    name: str
    seen: str
    """With its unit."""
    limit: str = ""
    """What would be right; empty: there is no bound."""


class Change(Value, frozen=True, kw_only=True):
    """What `doctor apply` does. Each kind can be undone, or needs no undoing."""

    kind: ChangeKind
    target: str
    """A path, or a process id."""
    value: str = ""
    """What it is set to."""
    safe: bool = True
    """Whether `doctor apply` alone does it; otherwise its rule must be named with `--rules`."""


class Finding(Value, frozen=True, kw_only=True):
    """What one rule found."""

    severity: Severity
    what: str
    """One sentence, with the object it is about."""
    cause: str
    evidence: tuple[Evidence, ...]
    sure: Sure
    remedy: str
    """What to do, in words."""
    commands: tuple[str, ...] = ()
    """To copy. The doctor runs none of them."""
    change: Change | None = None
    wrong_remedy: str = ""
    """What is often done about it, and why that is wrong here."""
    rule: str = ""
    area: str = ""
    explains: tuple[str, ...] = ()
    """Rules whose findings this one explains; they are shown below it."""
    because_of: str = ""
    """The rule that explains this one."""


class Unknown(Value, frozen=True, kw_only=True):
    """A rule that could not be judged."""

    rule: str
    missing: str
    """Which reading, and why."""


class Diagnosis(Value, frozen=True, kw_only=True):
    """What all rules say of the readings."""

    at_s: float
    span_s: float
    findings: tuple[Finding, ...]
    """The worst first; what another finding explains stands right behind it."""
    unknown: tuple[Unknown, ...]
    rules: int
    """That were judged."""

    @property
    def worst(self) -> Severity | None:
        return worst_of(self.findings)


def worst_of(findings: Iterable[Finding]) -> Severity | None:
    """Return the severity of the worst one; None: there is none."""
    return min((one.severity for one in findings), key=SEVERITIES.index, default=None)
