"""The audit log and the backup: what must not be lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ashore.core import human_seconds
from ashore.doctor.model import Finding, evidence
from ashore.doctor.readings import Readings
from ashore.doctor.rule import rule

LATE_BACKUP_S: Final = 3600.0
"""As the alert in deploy/alerts/ashore.yml."""


@rule("D902", "audit", "Is the audit log damaged?", needs=("audit.broken",), down=True)
def damaged(seen: Readings) -> Iterator[Finding]:
    if seen.audit.broken:
        yield Finding(
            severity="critical",
            what=f"the audit log does not verify: {seen.audit.broken}",
            cause="records were changed, removed or damaged since they were signed",
            evidence=(evidence("verification", seen.audit.broken, "no problem"),),
            sure="certain",
            remedy="keep the files as they are, tell the auditor, and compare with an anchor or the archive",
            commands=("ashore audit verify",),
        )


@rule("D912", "audit", "Does an anchor take no copies?", needs=("audit.silent_anchors",), down=True)
def silent_anchor(seen: Readings) -> Iterator[Finding]:
    for one in seen.audit.silent_anchors:
        place, _, said = one.partition(": ")
        yield Finding(
            severity="warning",
            what=f"the anchor {place} accepts no checkpoints of the audit log: {said}",
            cause="the place is not mounted, full, or refuses",
            evidence=(evidence("last answer", said, "taken"),),
            sure="certain",
            remedy="make that place writable again; what it missed is sent by itself",
            commands=("ashore audit status",),
        )


@rule("D913", "audit", "Is the audit log kept on this machine alone?", needs=("audit.anchors",))
def no_anchor(seen: Readings) -> Iterator[Finding]:
    if not seen.audit.anchors:
        yield Finding(
            severity="advice",
            what="checkpoints of the audit log go nowhere else",
            cause="somebody who owns this machine could shorten the log, and nobody would notice",
            evidence=(evidence("anchors", 0, 1),),
            sure="certain",
            remedy="name a place on another machine",
            commands=("# in ashore.toml, [audit] anchors = ['/mnt/worm/ashore']",),
        )


@rule("D903", "backup", "Could data be lost with one more disk?", needs=("backup.spare",))
def no_spare(seen: Readings) -> Iterator[Finding]:
    if seen.backup.set_up and seen.backup.spare <= 0:
        lost = seen.backup.spare < 0
        yield Finding(
            severity="critical" if lost else "warning",
            what="backup nodes with data are lost" if lost else "no further node of the backup may be lost",
            cause="nodes are away or damaged",
            evidence=(evidence("nodes that may be lost", seen.backup.spare, 1),),
            sure="certain",
            remedy="bring the nodes back, or replace them",
            commands=("ashore backup status", "ashore backup scrub"),
        )


@rule("D904", "backup", "Did backups fail?", needs=("backup.failures",), explains=("D905",))
def backup_failed(seen: Readings) -> Iterator[Finding]:
    for kind, times in seen.backup.failures.items():
        if times > 0:
            yield Finding(
                severity="warning",
                what=f"the last scheduled {kind} of the backup failed",
                cause="a node does not answer, is full, or the backup is locked",
                evidence=(evidence("failures in a row", times, 0),),
                sure="certain",
                remedy="see what it says of each node",
                commands=("ashore backup status", f"ashore backup {kind}"),
            )


@rule("D905", "backup", "Is a backup late?", needs=("backup.late_s",))
def backup_late(seen: Readings) -> Iterator[Finding]:
    for kind, late_s in seen.backup.late_s.items():
        if late_s > LATE_BACKUP_S:
            yield Finding(
                severity="warning",
                what=f"a {kind} of the backup is {late_s / 3600:.0f} h late",
                cause="the process that makes backups does not run, or the one before takes too long",
                evidence=(evidence("late", human_seconds(late_s), human_seconds(LATE_BACKUP_S)),),
                sure="certain",
                remedy="see how it stands",
                commands=("ashore backup status",),
            )


@rule("D906", "backup", "Is there no backup?", needs=("backup.set_up",), down=True)
def no_backup(seen: Readings) -> Iterator[Finding]:
    if not seen.backup.set_up:
        yield Finding(
            severity="advice",
            what="this home has no backup",
            cause="keys, audit log, releases and models lie on one disk",
            evidence=(evidence("nodes", 0, "3 or more"),),
            sure="certain",
            remedy="set one up on other disks or machines",
            commands=("ashore backup init --nodes DIR,DIR,DIR --code 2+1",),
        )


@rule("D907", "backup", "Do copies lie on the same disk?", needs=("backup.shared_device",), down=True)
def one_disk(seen: Readings) -> Iterator[Finding]:
    if seen.backup.shared_device:
        yield Finding(
            severity="warning",
            what=f"nodes of the backup share a disk: {', '.join(seen.backup.shared_device)}",
            cause="one broken disk takes several of them, or takes them with the home",
            evidence=(evidence("nodes that share a disk", len(seen.backup.shared_device), 0),),
            sure="certain",
            remedy="move them to other disks",
            commands=("ashore backup replace OLD NEW",),
        )
