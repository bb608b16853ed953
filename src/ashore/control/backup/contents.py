"""The backed-up parts of a home: models, state, audit log, and every other file not excluded here.

Excluded: what can be recreated (`run`, `logs`, `cache`, links, unfinished pulls), the backup's own keys, locks. The
state is copied at one moment. Audit checkpoints are copied first, so that the chains copied afterwards cover them and
the copy verifies.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Final

from ashore.control.backup.home import FOLDER, RECOVERY_KEY
from ashore.core.errors import Conflict, CorruptBlob
from ashore.core.ids import Digest
from ashore.kit.folders import make_folder
from ashore.kit.sealing import ENVELOPE_FILE
from ashore.kit.state import copy_database
from ashore.kit.store import ModelCopy, ModelStore

LEFT_OUT: Final = frozenset(
    (FOLDER, RECOVERY_KEY, "run", "logs", "cache", "snapshots", "lock", "store", "audit", ".restoring")
)
"""Names right below the home that are not copied as files. The store and the record are copied in ways of their own."""
STATE: Final = "state.db"
ENVELOPES: Final = "store/envelopes"
CHECKPOINTS: Final = "audit/checkpoints.log"
CHAINS: Final = "audit/chains"
AUDIT_KEYS: Final = "audit-keys"
COPIED_BYTES: Final = 4 << 20
ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeFile:
    """One file to back up, as seen at the time of the scan."""

    path: str
    """Below the home."""
    mode: int
    source: Path
    """Where its bytes are read: it, or a copy."""
    num_bytes: int
    sha256: str
    """Of the bytes; empty: the reader computes it, and checks that they do not change meanwhile."""


@dataclass(slots=True)
class HomeContents:
    """The files and models of one home."""

    root: Path
    store: ModelStore
    keep: Callable[[], Collection[str]]
    """Returns the digests of manifests that must be backed up, named or not: releases refer to them."""
    _: KW_ONLY
    state: Path | None
    """The SQLite file; None where the state is elsewhere."""
    extra: dict[str, Path]
    """Files from outside the home, by the path that they get below it: `ashore.toml`."""

    def models(self, only: tuple[str, ...] = ()) -> tuple[ModelCopy, ...]:
        """Return the models to back up: all, or those whose names or references are in `only` and those that releases
        need.
        """
        keep = frozenset(self.keep())
        copies = self.store.copies(keep)
        if not only:
            return copies
        return tuple(one for one in copies if one.name in only or one.reference in only or one.digest in keep)

    def blob(self, digest: str) -> Path:
        """Return where a blob lies."""
        return self.store.blob_path(Digest(digest))

    def files(self, scratch: Path) -> Iterator[HomeFile]:
        """Yield the files, those of the audit log last. Changing files are copied to `scratch` first.

        Raises:
            CorruptBlob: a file was cut short meanwhile.
            Conflict: the audit log was being archived all the time.
        """
        make_folder(scratch, mode=0o700)
        if self.state is not None and self.state.is_file():
            copy = scratch / "state.db"
            copy.unlink(missing_ok=True)
            copy_database(self.state, copy)
            yield HomeFile(path=STATE, mode=0o600, source=copy, num_bytes=copy.stat().st_size, sha256="")
        yield from self._audit_keys(scratch)
        for name, source in self._others():
            with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                yield _copied(name, source, scratch / f"file-{hashlib.sha256(name.encode()).hexdigest()[:16]}")
        yield from self._record(scratch)

    def _others(self) -> Iterator[tuple[str, Path]]:
        """Yield the plain files of the home except excluded ones, by path."""
        yield from sorted(self.extra.items())
        for top in sorted(os.listdir(self.root)):
            if top in LEFT_OUT or top == AUDIT_KEYS or top.startswith(STATE):
                continue
            yield from _files_under(self.root, top)
        yield from _files_under(self.root, ENVELOPES)

    def _audit_keys(self, scratch: Path) -> Iterator[HomeFile]:
        """Yield the audit keys with their sealing key: that exists before the first is sealed, and is deleted after the
        last is unsealed.
        """
        envelope = f"{AUDIT_KEYS}/{ENVELOPE_FILE}"
        held: set[str] = set()
        for top in (envelope, AUDIT_KEYS, envelope):
            for name, source in _files_under(self.root, top):
                if name not in held:
                    with contextlib.suppress(FileNotFoundError):
                        yield _copied(name, source, scratch / f"key-{len(held)}")
                        held.add(name)

    def _record(self, scratch: Path) -> Iterator[HomeFile]:
        """Yield the files of the audit log, ensuring that no segment was removed meanwhile."""
        for _ in range(ATTEMPTS):
            before = dict(_files_under(self.root, CHAINS))
            copy = scratch / "checkpoints"
            head = [_copied(n, p, copy) for n, p in _files_under(self.root, CHECKPOINTS)]
            found = list(self._segments())
            if all(any(one.path == name for one in found) for name in before):
                rest = [
                    _copied(name, path, scratch / f"audit-{number}")
                    for number, (name, path) in enumerate(_files_under(self.root, "audit"))
                    if not name.startswith(CHAINS) and name != CHECKPOINTS
                ]
                yield from (*found, *head, *rest)
                return
        raise Conflict("segments of the audit log were archived away while it was backed up", hint="back up again")

    def _segments(self) -> Iterator[HomeFile]:
        """Yield the segments up to their current length: they are append-only."""
        for name, path in _files_under(self.root, CHAINS):
            with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                yield _described(name, path, mode=stat.S_IMODE(path.stat().st_mode))


def _files_under(root: Path, top: str) -> list[tuple[str, Path]]:
    """Return plain files (no links) at or under `top`, by their paths below the root."""
    start = root / top
    if start.is_file() and not start.is_symlink():
        return [(top, start)]
    found = []
    for folder, _, names in os.walk(start):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink() and not name.startswith(".tmp-") and not _is_lock(name):
                found.append((path.relative_to(root).as_posix(), path))
    return sorted(found)


def _is_lock(name: str) -> bool:
    return name == "lock" or name.endswith(".lock")


def _copied(name: str, source: Path, copy: Path) -> HomeFile:
    """Return a file in its current state; a small one is copied, because it may change during the backup."""
    mode = stat.S_IMODE(source.stat().st_mode)
    if source.stat().st_size > COPIED_BYTES:
        return HomeFile(path=name, mode=mode, source=source, num_bytes=source.stat().st_size, sha256="")
    copy.unlink(missing_ok=True)
    shutil.copyfile(source, copy)
    copy.chmod(0o600)
    return _described(name, copy, mode=mode)


def _described(name: str, source: Path, *, mode: int) -> HomeFile:
    size = source.stat().st_size
    return HomeFile(path=name, mode=mode, source=source, num_bytes=size, sha256=hash_of_start(source, size))


def hash_of_start(path: Path, num_bytes: int) -> str:
    """Return the SHA-256 (hexadecimal) of the first bytes of a file.

    Raises:
        CorruptBlob: it is shorter.
    """
    hasher, left = hashlib.sha256(), num_bytes
    with path.open("rb", buffering=0) as file:
        while left:
            piece = file.read(min(left, 1 << 20))
            if not piece:
                raise CorruptBlob(f"{path} became shorter while it was backed up", hint="back up again")
            hasher.update(piece)
            left -= len(piece)
    return hasher.hexdigest()
