"""An operation as a job, and its progress."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from ashore.core.bytesize import human_bytes
from ashore.core.timespan import human_seconds
from ashore.kit.decode import UNDECODABLE

LIGHT: Final = ("model pull", "model verify", "model seal", "model remove")
"""Operations that wait for disks and networks more than they compute."""
BACKUP: Final = ("backup run", "backup scrub", "backup repair", "backup rehearse")
"""Those of the backup: a scrub of many terabytes takes days, and keeps no pull waiting."""
PEOPLE: Final = ("directory sync",)
"""Those that nothing else may keep waiting: somebody may have left."""
HEAVY: Final = ("optimize quantize", "optimize prune", "optimize distill", "optimize evaluate", "train sft",
                "learn run")  # fmt: skip
"""Operations that take processors and memory for long."""
NAMES: Final = (*LIGHT, *BACKUP, *PEOPLE, *HEAVY)
RESULT: Final = "result"
"""The last stage of an operation that came to an end, good or not: `says` has its result in one line."""

Unit = Literal["bytes", "steps", ""]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Payload: what was asked for."""

    name: str
    """NOUN WORD of the call."""
    asked: msgspec.Raw
    """What the call takes."""
    action: str
    """What the caller was allowed to do, for the audit log."""
    subject: str
    """On what: `model/chat`."""
    also: tuple[str, ...] = ()
    """What else the caller needed the same right on: `model/student`."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Progress of an operation."""

    subject: str = ""
    stage: str = ""
    done: int = 0
    total: int = 0
    """0: not known."""
    unit: Unit = ""
    rate_per_s: float = 0.0
    left_s: float | None = None
    """None: not known."""
    says: str = ""
    """What else is to be said of the step."""
    log: list[str] = []
    """Its last lines."""


_progress: Final = msgspec.json.Decoder(Progress)


def kind_of(name: str, home: str) -> str:
    """Return the job kind of an operation. If homes share a state, each runs its own.

    Args:
        name: Of the operation.
        home: Name of this home among those that share its state; empty: the state is its own.
    """
    return f"{name}@{home}" if home else name


def name_of(kind: str) -> str:
    """Return the operation of a job kind; empty if it is not one."""
    name = kind.partition("@")[0]
    return name if name in NAMES else ""


def progress_of(text: str) -> Progress:
    """Return the progress of a job."""
    try:
        return _progress.decode(text)
    except UNDECODABLE:
        return Progress()


def words_of(progress: Progress) -> str:
    """Return progress as text: `weights: 1.2 GiB of 4.0 GiB, 30 MiB/s, 1.5 min left`."""
    if not progress.stage:
        return ""
    parts = []
    if progress.unit == "bytes" and progress.done:
        parts.append(human_bytes(progress.done) + (f" of {human_bytes(progress.total)}" if progress.total else ""))
        if progress.rate_per_s:
            parts.append(f"{human_bytes(int(progress.rate_per_s))}/s")
    elif progress.says:
        parts.append(progress.says)
    elif progress.total:
        parts.append(f"{progress.done:,} of {progress.total:,}")
    if progress.left_s is not None:
        parts.append(f"{human_seconds(progress.left_s)} left")
    return f"{progress.stage}: {', '.join(parts)}" if parts else progress.stage
