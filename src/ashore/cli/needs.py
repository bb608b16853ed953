"""What of a running server needs its operator: a pure reading of figures, each with the command that mends it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from ashore.core import counted, human_bytes

FULL_SHARE: Final = 0.05
"""A disk with less free space than this share, or than `FULL_BYTES`, is nearly full."""
FULL_BYTES: Final = 2 << 30
LATE_S: Final = 3600
"""A backup or scrub is overdue by so much before anybody is told; as the alert in deploy/alerts/ashore.yml."""

_SAMPLE: Final = re.compile(r"^(ashore_[a-z_]+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that does not mend itself."""

    what: str
    do: str
    """A command that mends it or shows more, or what to change."""


class Samples:
    """A page of metrics, read."""

    def __init__(self, page: str) -> None:
        found = _SAMPLE.findall(page)
        self._all = [(name, dict(_LABEL.findall(labels)), float(value)) for name, labels, value in found]

    def each(self, name: str, **labels: str) -> Iterator[tuple[dict[str, str], float]]:
        """Yield the labels and the value of each sample of a name that has these labels."""
        yield from ((has, value) for one, has, value in self._all if one == name and labels.items() <= has.items())

    def total(self, name: str, **labels: str) -> float | None:
        """Return the sum of these, None where there is none."""
        found = [value for _, value in self.each(name, **labels)]
        return sum(found) if found else None


def needs_of(
    samples: Samples,
    *,
    why_not: str,
    failed: Sequence[tuple[str, str]],
    silent: Sequence[tuple[str, str]],
    more: Sequence[Need],
    free_bytes: int,
    disk_bytes: int,
    now_s: float | None = None,
) -> list[Need]:
    """Return what needs the operator, the worst first.

    Args:
        samples: What `/metrics` says.
        why_not: Why not every request is answered; empty: each is.
        failed: Releases that failed, with the reason.
        silent: Anchors that accept no checkpoints, with what they said last.
        more: What is known from elsewhere.
        free_bytes: Of the disk that the home is on.
        disk_bytes: Its size.
        now_s: Seconds since 1970; None: now.
    """
    return list(_needs(samples, why_not, failed, silent, more, free_bytes, disk_bytes, now_s or time.time()))


def _needs(
    samples: Samples,
    why_not: str,
    failed: Sequence[tuple[str, str]],
    silent: Sequence[tuple[str, str]],
    more: Sequence[Need],
    free_bytes: int,
    disk_bytes: int,
    now_s: float,
) -> Iterator[Need]:
    if why_not:
        yield Need(what=f"not every request is answered: {why_not}", do="see the newest file in logs/ of the home")
    for release, why in failed:
        yield Need(what=f"release {release} failed: {why}", do=f"ashore release show {release}")
    if disk_bytes and (free_bytes < FULL_BYTES or free_bytes < FULL_SHARE * disk_bytes):
        what = f"the disk of the home is nearly full: {human_bytes(free_bytes)} of {human_bytes(disk_bytes)} are free"
        yield Need(what=what, do="ashore model gc")
    for place, said in silent:
        what = f"the anchor {place} accepts no checkpoints of the audit log: {said}"
        yield Need(what=what, do="make that place writable again; what it missed is sent by itself")
    if (samples.total("ashore_audit_archive_failures") or 0) > 0:
        yield Need(what="the audit log cannot be archived", do="ashore audit archive --dry-run")
    yield from _backup(samples, now_s)
    if samples.total("ashore_shared_cache_up") == 0:  # a server without one has no such figure
        what = "the shared cache does not answer; each worker uses its own"
        yield Need(what=what, do="start the server that [redis] url names; it is used again within seconds")
    dead = int(samples.total("ashore_jobs", state="dead") or 0)
    if dead:
        yield Need(what=f"{counted(dead, 'job')} failed for good", do="ashore job list --state dead")
    yield from more


def _backup(samples: Samples, now_s: float) -> Iterator[Need]:
    spare = samples.total("ashore_backup_nodes", what="spare")
    if spare is not None and spare <= 0:
        what = "no further node of the backup may be lost" if spare == 0 else "backup nodes with data are lost"
        yield Need(what=what, do="ashore backup status")
    for labels, failures in samples.each("ashore_backup_failures"):
        if failures > 0:
            what = f"the last scheduled {labels.get('kind', 'run')} of the backup failed"
            yield Need(what=what, do="ashore backup status")
    for labels, due_s in samples.each("ashore_backup_time_seconds", what="due"):
        if due_s and now_s - due_s > LATE_S:
            hours = (now_s - due_s) / 3600
            yield Need(
                what=f"a {labels.get('kind', 'run')} of the backup is {hours:.0f} h late", do="ashore backup status"
            )
