"""Records on the nodes besides shards, and reports on a backup."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from ashore.core.errors import AshoreError

FORMAT: Final = 1

NodeCondition = Literal["good", "away", "empty", "foreign", "damaged", "moved", "behind"]
"""good: nothing to say. away: not there. empty: there, without the mark of this backup. foreign: the mark of another
backup or another node. damaged: its mark was altered. moved: the right mark on another file system than at `init`.
behind: it lacks the newest backup."""


class NodeMark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`ashore-backup-node.json`: identifies the node and its backup."""

    format: int
    vault_id: str
    node_id: str
    """Of this node alone, 32 hexadecimal digits."""
    index: int
    code: str
    filesystem: str
    """What told its file system from others when the mark was made."""
    envelope: str
    """The home's key, encrypted under the recovery key."""


class ObjectRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One content, as written once."""

    name: str
    salt: str
    """Of the write, 64 hexadecimal digits: the same content written again is another object."""
    num_bytes: int
    sha256: str
    nodes: tuple[int, ...]
    """Nodes that had their shard on disk when the backup was made."""

    @property
    def file_name(self) -> str:
        """Name of its shard on every node."""
        return object_file(self.name, self.salt)


def object_file(name: str, salt: str) -> str:
    """Return the file of an object's shard."""
    return f"objects/{name[:2]}/{name}-{salt[:16]}"


class FileEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of the home."""

    path: str
    """Below the home."""
    mode: int
    object: ObjectRef


class BlobEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One blob of the store."""

    digest: str
    object: ObjectRef


class AttachedEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Attachments of a stored model; the manifest is the first of its blobs."""

    digest: str
    blobs: tuple[BlobEntry, ...]


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model of the store; its manifest is the first of its blobs."""

    name: str
    variant: str
    digest: str
    tagged: bool
    created_s: int
    blobs: tuple[BlobEntry, ...]
    attached: tuple[AttachedEntry, ...] = ()
    """The oldest first."""

    @property
    def all_blobs(self) -> tuple[BlobEntry, ...]:
        """Its own blobs and those of its attachments."""
        return (*self.blobs, *(blob for one in self.attached for blob in one.blobs))

    @property
    def reference(self) -> str:
        return f"{self.name}@{self.variant}" if self.variant else self.name


class Listing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything in one backup. Stored as an object like any other."""

    format: int
    created_s: int
    ashore: str
    """Version that wrote it."""
    files: tuple[FileEntry, ...]
    models: tuple[ModelEntry, ...]

    def objects(self) -> dict[str, ObjectRef]:
        """Return the objects by the name of their shards."""
        refs = [entry.object for entry in self.files]
        refs += [blob.object for model in self.models for blob in model.all_blobs]
        return {ref.file_name: ref for ref in refs}


class Commit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A valid backup: written, encrypted, to every node once all shards are on disk."""

    format: int
    generation: int
    """From 1; every backup has the next one. No clock decides which is newer."""
    run_id: str
    writer: str
    """Of the home that wrote it."""
    created_s: int
    listing: ObjectRef
    nodes: tuple[int, ...]
    """Nodes that had all their shards when it was made."""


class Vault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`backup/vault.json` of the home: location and progress of its backup."""

    format: int
    vault_id: str
    code: str
    places: tuple[str, ...]
    node_ids: tuple[str, ...]
    writer: str
    generation: int = 0
    """Newest that this home knows of: nodes that are all older were set back."""
    backed_up_s: int = 0
    scrubbed_s: int = 0
    confirmed_s: int = 0
    """When somebody showed the recovery key last; 0: nobody has since it was made."""
    envelope: str = ""
    """SHA-256 of the envelope that the marks must have: that of the recovery key that holds now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """State of one node."""

    index: int
    place: str
    condition: NodeCondition
    says: str = ""
    """Why, in words for an operator; empty where it is good."""
    generation: int = 0
    missing: int = 0
    """Shards that it should have and has not, or not whole."""
    num_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fault on a node."""

    place: str
    file: str
    what: str
    """Kind of the harm and its place in the file."""
    belongs_to: str = ""
    """What it is a shard of: a model, a file of the home."""
    repaired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """Result of a backup."""

    generation: int
    num_objects: int
    num_new: int
    clear_bytes: int
    new_bytes: int
    """Clear bytes that were not in the backup before."""
    written_bytes: int
    """To all nodes together."""
    nodes: tuple[int, ...]
    repaired: int = 0
    notes: tuple[str, ...] = ()
    """What the operator must know: nodes that failed, models that went away meanwhile."""
    worst: int = 0
    """Fewest good shards of any object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubReport:
    """Result of a scrub."""

    num_shards: int
    num_bytes: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    reached: str = ""
    """Name of the last shard that was read, where the scrub was to stop before the end; empty: it came to the end."""

    @property
    def ok(self) -> bool:
        """Whether everything is intact now."""
        return all(finding.repaired for finding in self.findings)

    def __add__(self, then: ScrubReport) -> ScrubReport:
        """Return the report of this slice and of the next one."""
        return ScrubReport(
            num_shards=self.num_shards + then.num_shards,
            num_bytes=self.num_bytes + then.num_bytes,
            findings=self.findings + then.findings,
            notes=tuple(dict.fromkeys(self.notes + then.notes)),
            reached=then.reached,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairReport:
    """Result of repairing what working nodes lacked."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    lacking: tuple[int, ...]
    """Nodes that do not work, or lack something still."""
    spare: int
    """Nodes that may be lost now; negative: something is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReport:
    """Result of a restore."""

    generation: int
    created_s: int
    num_files: int
    models: tuple[str, ...]
    num_bytes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    """State of a backup."""

    code: str
    quorum: int
    generation: int
    created_s: int
    num_objects: int
    worst: int
    nodes: tuple[NodeReport, ...]
    lost: str
    """What could be lost now, in plain words."""
    not_backed_up: tuple[str, ...] = ()
    schedule: tuple[str, ...] = ()
    """What a server does by itself: how the last times ended, and when the next ones are due; empty: nothing."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptBackup:
    """One of the backups on the nodes."""

    generation: int
    created_s: int
    """Seconds since 1970."""
    models: tuple[str, ...]
    num_objects: int
    clear_bytes: int
    spare: int
    """Nodes that may still be lost of those that it lies on; below 0: something of it is lost."""


@dataclass(slots=True)
class Failures:
    """Failed nodes, each with its first error."""

    by_index: dict[int, AshoreError] = field(default_factory=dict)

    def add(self, index: int, error: AshoreError) -> None:
        self.by_index.setdefault(index, error)

    def words(self) -> tuple[str, ...]:
        return tuple(error.message for _, error in sorted(self.by_index.items()))
