"""Backup data of a home: `backup/` with the key, the nodes, and the progress of a crashed run.

backup/vault.json     where the backup lies, and how far it goes
backup/key            the home's key of the backup, 0600; never backed up
backup/pending        objects that are on disk and that no backup refers to yet
backup/again          shards that cannot be made again from the nodes: the next run writes them from the home
backup/tally.json     what backups, scrubs and repairs found
backup/lock           held while backing up, scrubbing, or replacing
backup/scratch/       copies of files that change while they are backed up
backup-recovery-key   made by `init`, to be kept elsewhere
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from ashore.control.backup.directory import DirectoryNode
from ashore.control.backup.disk import Disk
from ashore.control.backup.keys import VaultKey
from ashore.control.backup.model import FORMAT, Finding, ObjectRef, Vault
from ashore.control.backup.ports import read_small, write_small
from ashore.core.errors import BackupDamaged, HomeBusy, NotFound, SealingKeyMissing
from ashore.core.foreign import foreign_errors
from ashore.kit.decode import UNDECODABLE
from ashore.kit.recordfile import read_record
from ashore.kit.sealing import read_secret_file
from ashore.kit.wholefile import opened

FOLDER: Final = "backup"
RECOVERY_KEY: Final = "backup-recovery-key"
TRY_EVERY_S: Final = 0.1
"""Between two tries for the lock; much less than a scrub lets go of it."""


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """The sum of all that was found."""

    reached: str = ""
    """Name of the last shard that a scrub under way has read; empty: none is."""
    found: int = 0
    """Harms that were found since the first backup."""
    repaired: int = 0
    away: tuple[int, ...] = ()
    """Nodes that lack something."""
    spare: int | None = None
    """Nodes that could still be lost after the last backup; negative: something is lost. None: none was made."""

    def counted(self, findings: Sequence[Finding]) -> Tally:
        """Return it with more findings."""
        repaired = sum(finding.repaired for finding in findings)
        return msgspec.structs.replace(self, found=self.found + len(findings), repaired=self.repaired + repaired)

    def standing(self, spare: int, away: Collection[int]) -> Tally:
        """Return it with the nodes as they are now."""
        return msgspec.structs.replace(self, spare=spare, away=tuple(sorted(away)))


class BackupHome:
    """The files of one home that belong to its backup."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / FOLDER
        self.recovery_key = root / RECOVERY_KEY
        self._files = DirectoryNode(self.folder)

    @property
    def has_vault(self) -> bool:
        """Whether `init` was run here, or this home was restored."""
        return (self.folder / "vault.json").is_file()

    def read(self) -> Vault:
        """Return the location of the backup.

        Raises:
            NotFound: there is none.
            BackupDamaged: the file cannot be read.
        """
        if not self.has_vault:
            raise NotFound(
                f"the home {self.root} has no backup yet",
                hint="create one: ashore backup init --nodes DIR,DIR,DIR --code 2+1",
            )
        path = self.folder / "vault.json"
        with foreign_errors(
            f"{path} cannot be read", BackupDamaged, hint="restore into a new home with the recovery key"
        ):
            vault = msgspec.json.decode(path.read_bytes(), type=Vault)
        if vault.format != FORMAT:
            raise BackupDamaged(f"{path} is of format {vault.format}; this ashore reads {FORMAT}")
        return vault

    def write(self, vault: Vault) -> None:
        """Store the location of the backup; atomically."""
        self._files.prepare()
        write_small(self._files, "vault.json", msgspec.json.format(msgspec.json.encode(vault), indent=1))

    def read_key(self) -> VaultKey:
        """Return the home's key.

        Raises:
            SealingKeyMissing, InvalidSpec: it is not there, or others may read it.
            BackupDamaged: it is not a key.
        """
        vault = self.read()
        path = self.folder / "key"
        back = "restore it with the recovery key: `ashore backup confirm KEY_FILE`"
        try:
            data = read_secret_file(
                path, what="the home's key of its backup", renew="begin a new backup on empty nodes"
            )
        except SealingKeyMissing as error:
            raise SealingKeyMissing(error.message, hint=back) from error
        text = data.decode("ascii", "replace").strip()
        with foreign_errors(f"{path} is not a backup key", BackupDamaged, hint=back):
            secret = bytes.fromhex(text)
            if len(secret) != 32:
                raise ValueError(f"{len(secret)} bytes")
        return VaultKey(vault_id=vault.vault_id, secret=secret)

    def write_key(self, key: VaultKey) -> None:
        """Keep the home's key, 0600."""
        self._files.prepare()
        write_small(self._files, "key", key.secret.hex().encode() + b"\n")

    def write_recovery(self, text: str) -> None:
        """Store the recovery key until the operator moves it elsewhere."""
        self._files.prepare()
        write_small(self._files, RECOVERY_KEY, text.encode())
        os.replace(self.folder / RECOVERY_KEY, self.recovery_key)
        Disk().sync_folder(self.root)

    @contextmanager
    def locked(self, what: str, *, patience_s: float = 0.0) -> Iterator[None]:
        """Hold the lock of the backup; the kernel releases it when the process ends.

        Args:
            what: What it is held for.
            patience_s: Longest wait for another process.

        Raises:
            HomeBusy: another process backs up, scrubs, or replaces.
        """
        self._files.prepare()
        with opened(self.folder / "lock", os.O_RDWR | os.O_CREAT) as descriptor:
            if not _lock(descriptor, patience_s):
                holder = (self.folder / "lock").read_bytes()[:200].decode("utf-8", "replace").strip()
                raise HomeBusy(
                    f"another process is using this backup: {holder or 'unknown'}", hint="wait until it ends"
                )
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{what}, process {os.getpid()}".encode(), 0)
            self.clear_scratch()
            yield

    def read_tally(self) -> Tally:
        """Return what was found so far; nothing, if it cannot be read."""
        return read_record(self.folder / "tally.json", Tally) or Tally()

    def write_tally(self, tally: Tally) -> None:
        """Store it; atomically."""
        write_small(self._files, "tally.json", msgspec.json.format(msgspec.json.encode(tally), indent=1))

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"

    def clear_scratch(self) -> None:
        """Delete copies left by a crashed run."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self._files.clear_scratch()

    def read_pending(self) -> tuple[ObjectRef, ...]:
        """Return the objects that a crashed run had written. A torn last line is ignored."""
        try:
            lines = read_small(self._files, "pending", limit_bytes=1 << 28).split(b"\n")
        except NotFound:
            return ()
        found = []
        for line in lines[:-1]:
            try:
                found.append(msgspec.json.decode(line, type=ObjectRef))
            except UNDECODABLE:
                break
        return tuple(found)

    def note_pending(self, ref: ObjectRef) -> None:
        """Note an object whose shards are on disk."""
        with opened(
            self.folder / "pending", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        ) as descriptor:
            os.write(descriptor, msgspec.json.encode(ref) + b"\n")

    def clear_notes(self) -> None:
        """Delete the notes for the next run: a backup has their objects now."""
        for name in ("pending", "again"):
            (self.folder / name).unlink(missing_ok=True)

    def read_again(self) -> frozenset[str]:
        """Return the names of shards that no run may rely on."""
        try:
            return frozenset(read_small(self._files, "again", limit_bytes=1 << 28).decode().split())
        except NotFound:
            return frozenset()

    def note_again(self, names: Iterable[str]) -> None:
        """Note shards that cannot be rebuilt from the nodes."""
        write_small(self._files, "again", "\n".join(sorted({*self.read_again(), *names})).encode())


def _lock(descriptor: int, patience_s: float) -> bool:
    """Return whether the lock was taken in time. It is tried often, for a scrub lets it go for a moment only."""
    end_s = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end_s:
                return False
            time.sleep(TRY_EVERY_S)
        else:
            return True
