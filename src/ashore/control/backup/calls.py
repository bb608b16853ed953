"""Calls on the backup of a home for its administrators. Making, verifying and rehearsing one are operations
(`jobs`); a restore is for the command line, for it begins where no server runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from ashore.control.backup.home import BackupHome
from ashore.control.backup.model import KeptBackup, NodeCondition
from ashore.control.backup.scheduled import standing
from ashore.control.backup.service import BackupService
from ashore.core.clock import Clock
from ashore.core.errors import NotFound, NotReady
from ashore.data.jobs.schedule import Turn
from ashore.kit.call import Actor, Call, Nothing, Rights
from ashore.kit.copied import copied
from ashore.kit.recorder import Recorder

READ: Final = "backup:read"
RESOURCE: Final = "backup/home"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupDesk:
    """The backup of a home, and who may look at it."""

    home: BackupHome
    rights: Rights
    recorder: Recorder
    clock: Clock
    turns: Callable[[], Sequence[Turn]] = tuple
    """Reads the schedule. Blocks."""

    def service(self, actor: Actor) -> BackupService:
        """Return the backup, for somebody who may look at it.

        Raises:
            PermissionDenied: they may not.
            NotFound: there is none.
            NotReady: nodes of it are buckets, whose logins an API worker does not have.
        """
        self.rights.require(actor.principal, READ, RESOURCE)
        if not self.home.has_vault:
            raise NotFound("this home has no backup yet", hint="create one on the machine: ashore backup init")
        buckets = [place for place in self.home.read().places if place.startswith("s3://")]
        if buckets:
            raise NotReady(
                f"{', '.join(buckets)}: the workers of the API have no login for buckets",
                hint="`ashore backup status` on the machine has one; a rehearsal as a job has one, too",
            )
        return BackupService(self.home, self.clock, self.recorder, actor=actor.principal.id)


class BackupOut(msgspec.Struct, frozen=True, kw_only=True):
    """One backup that lies on the nodes."""

    generation: int
    """Number of the backup."""
    created_at: int
    models: list[str]
    num_objects: int
    num_bytes: int
    spare: int
    """Nodes that may still be lost; below 0: something of it is lost."""


class NodeOut(msgspec.Struct, frozen=True, kw_only=True):
    """One node of the backup."""

    index: int
    place: str
    condition: NodeCondition
    generation: int
    """The newest backup that it has."""
    missing: int
    """Shards that it lacks."""
    num_bytes: int


class BackupStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How the backup stands."""

    lost: str
    """What could be lost now."""
    generation: int
    created_at: int
    code: str
    quorum: int
    """Nodes that a backup needs to count."""
    schedule: list[str]
    """What the server does by itself: how it ended, and when it is due."""
    warnings: list[str]
    nodes: list[NodeOut]


def list_backups(desk: BackupDesk, actor: Actor, asked: Nothing) -> list[BackupOut]:
    """List the backups that lie on the nodes, the newest first."""
    found = desk.service(actor).kept()
    return [_backup(one) for one in found]


def show_status(desk: BackupDesk, actor: Actor, asked: Nothing) -> BackupStanding:
    """Show how the backup stands, and what could be lost now, by names and sizes of what lies on the nodes."""
    schedule = standing(desk.turns(), int(desk.clock.now_s() * 1000), is_kept=True)
    found = desk.service(actor).status(schedule=schedule)
    nodes = [copied(NodeOut, one) for one in found.nodes]
    return copied(
        BackupStanding, found, created_at=found.created_s, schedule=[*schedule], warnings=[*found.warnings], nodes=nodes
    )


def _backup(one: KeptBackup) -> BackupOut:
    return copied(BackupOut, one, created_at=one.created_s, models=[*one.models], num_bytes=one.clear_bytes)


CALLS: Final = (
    Call("backup", "list", "GET", "/backups", READ, list_backups, slow=True),
    Call("backup", "status", "GET", "/backups/status", READ, show_status, slow=True),
)
