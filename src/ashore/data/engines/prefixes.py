"""Prefixes on disk: blocks of the KV cache that survive a restart.

key                             a home that is not sealed: the key of everything below (0600)
TENANT/PURGES/CONTENT/NAME      one block, encrypted

A name is a keyed hash of the content (model, engine, form of the cache), the partition and every token up to the end of
the block; the bytes are bound to it. So a block is found only for the same model, tenant and tokens, and a file that is
cut, altered or from elsewhere does not open. Whatever fails here costs a prefix and no answer. A purge of a tenant
raises PURGES: files under an older number are not found, and `sweep_prefixes` deletes them.
"""

from __future__ import annotations

import array
import hashlib
import logging
import os
import queue
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

import msgspec

from ashore.data.engines.model import ModelFiles
from ashore.kit.folders import make_folder
from ashore.kit.processes.priority import yield_thread
from ashore.kit.sealing import SecretFolder, derive
from ashore.kit.sealing.chunks import KEY_BYTES
from ashore.kit.sealing.clearfiles import read_key, take_key
from ashore.kit.wholefile import write_whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_KEY: Final = "key"
_MAGIC: Final = b"ASHKV\x00\x00\x01"
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_SHARED: Final = "shared"
"""Folder of tenants that share their prefixes; those of others begin with `of-`."""

_MOST_PENDING: Final = 16
"""Sequences whose blocks wait to be written; those of further ones are not."""
_PAUSE_S: Final = 60.0
"""After a failed write, how long nothing is written."""
_TOUCH_EVERY_S: Final = 60.0
_CLOSE_S: Final = 2.0
"""Longest wait at the end for what is being written."""
_UNPROVEN_SHARE: Final = 0.5
"""Of the bytes, as far as prefixes that were used only once may fill them; beyond, only one that is used again is
written. So prompts without a common beginning neither evict those with one nor wear out a disk."""
_KEPT_SHARE: Final = 0.9
"""Of the bytes that stay when the least recently used are deleted."""
SPARE_BYTES: Final = 1 << 30
"""Nothing is written while the disk has less free."""
_LOOK_SHARE: Final = 1 / 16
"""After writing so much of the bytes, look at what other hosts wrote."""

_log = logging.getLogger(__name__)


class PrefixPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where a host keeps prefixes."""

    folder: str
    max_bytes: int
    """Over all hosts of the home."""
    secrets_key: str = ""
    """Link to the key of the home's secrets, which is there where the home is sealed."""


@dataclass(frozen=True, slots=True)
class _Chain:
    """Blocks to write, from the first of a prompt on."""

    partition: str
    names: list[str]
    num_proven: int
    """Blocks at its front that a second sequence has used."""
    read: Callable[[int], NDArray[np.uint8] | None]


def partition_of(tenant: str, purges: str, salt: str) -> str:
    """Return the prefix-cache partition of an order; no salt can turn it into that of another tenant, or of earlier
    purges."""
    return f"{tenant}\0{purges}\0{salt}" if purges or salt else tenant


def secret_of(place: PrefixPlace, files: ModelFiles) -> bytes:
    """Return the secret that prefixes of a model are encrypted with: that of the sealed model or the sealed home, else
    a file beside them, created at the first call.

    Raises:
        SealingKeyMissing: the home or the model is sealed, and the process that held the key has ended.
        OSError: the key file can be neither read nor written.
    """
    if files.sealed is not None:
        return take_key(files.sealed).secret
    clear = SecretFolder(Path(place.folder))
    if place.secrets_key and os.path.lexists(place.secrets_key):
        clear.remove(_KEY)  # what was written before the home was sealed can be opened no more
        return read_key(place.secrets_key, "", what="the home is sealed").secret
    clear.write_first(_KEY, secrets.token_bytes(KEY_BYTES))
    return clear.read(_KEY)


def sweep_prefixes(folder: Path, purges_of: Callable[[str], str]) -> None:
    """Delete the prefixes under purge numbers other than `purges_of` a tenant ("" for shared ones) returns."""
    for tenant in _folders(folder):
        name = "" if tenant.name == _SHARED else unquote(tenant.name.removeprefix("of-"))
        for purges in _folders(tenant):
            if purges.name != f"p{purges_of(name)}":
                shutil.rmtree(purges, ignore_errors=True)


class PrefixStore:
    """The blocks of one loaded model. Reads and writes on threads of its own; call it from one other thread."""

    def __init__(self, place: PrefixPlace, secret: bytes, *, content: str, block_bytes: int, block_tokens: int) -> None:
        """Open it. `content` says what blocks depend on besides the tokens: model, precision, engine and processor."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._root = Path(place.folder)
        self._max_bytes = place.max_bytes
        self._content = hashlib.sha256(content.encode()).hexdigest()[:32]
        self._block_tokens = block_tokens
        self._file_bytes = len(_MAGIC) + _NONCE_BYTES + block_bytes + _TAG_BYTES
        self._cipher = AESGCM(derive(secret, salt=b"", info=b"ashore kept prefixes 1"))
        self._name_key = derive(secret, salt=b"", info=b"ashore names of prefixes 1")
        self._known: dict[str, float] = {}
        """Name -> when it was last marked as used."""
        self._unseen_bytes = 0
        self._paused_until_s = 0.0
        self.kept_bytes = 0
        """Of all hosts, as last seen."""
        self.faults = 0
        """Files that could not be written, or did not open."""
        self._look()
        self._writes: queue.Queue[_Chain | None] = queue.Queue(_MOST_PENDING)
        self._reads: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_all, name="prefix-writer", daemon=True)
        self._writer.start()
        threading.Thread(target=self._read_all, name="prefix-reader", daemon=True).start()

    def names(self, partition: str, ids: Sequence[int]) -> list[str]:
        """Return the names of the whole blocks of `ids`."""
        size, tokens = self._block_tokens, array.array("i", ids)
        found = []
        at = f"{self._content}\0{partition}".encode()
        for start in range(0, len(tokens) - size + 1, size):
            at = hashlib.blake2b(
                at + tokens[start : start + size].tobytes(), key=self._name_key, digest_size=16
            ).digest()
            found.append(at.hex())
        return found

    def num_stored(self, names: Sequence[str]) -> int:
        """Return how many of the first of `names` are on the disk, as far as this process knows. No I/O."""
        return len(list(takewhile(self._known.__contains__, names)))

    def prepare(self, partition: str) -> None:
        """Make the folder of a partition, where it is missing. Only an order that arrives does: so a purge that
        deletes the folder also stops the writing of what was computed before it."""
        folder = self._folder(partition)
        try:
            if not folder.is_dir():
                make_folder(folder, mode=0o700)
        except OSError as error:
            self._failed(f"cannot create {folder}: {error.strerror}")

    def fetch(self, partition: str, names: Sequence[str], write: Callable[[int, bytes], None]) -> Future[int]:
        """Read blocks and pass them to `write`, on another thread; the result is how many of the first were read."""
        done: Future[int] = Future()
        folder = self._folder(partition)

        def read() -> None:
            count = 0
            try:
                for count, name in enumerate(names):
                    data = self._opened(folder / name)
                    if data is None:
                        break
                    write(count, data)
                else:
                    count = len(names)
            finally:
                done.set_result(count)

        self._reads.put(read)
        return done

    def keep(
        self, partition: str, names: list[str], *, num_proven: int, read: Callable[[int], NDArray[np.uint8] | None]
    ) -> None:
        """Write blocks that are not there yet, on another thread, and mark the others as used. Returns at once.

        Args:
            partition: Of the order.
            names: Its blocks, from the first on.
            num_proven: How many of them another order had computed.
            read: Called on that thread: returns a copy of a block, or None if it has been overwritten.
        """
        if names and not self._writes.full():
            self._writes.put_nowait(_Chain(partition, names, num_proven, read))

    def close(self, *, within_s: float = _CLOSE_S) -> None:
        """Finish writing, as far as `within_s` allows."""
        with suppress(queue.Full):
            self._writes.put(None, timeout=within_s)
        self._writer.join(within_s)

    # --- the writer's thread

    def _write_all(self) -> None:
        yield_thread()
        while (chain := self._writes.get()) is not None:
            if time.monotonic() >= self._paused_until_s:
                self._write(chain)

    def _write(self, chain: _Chain) -> None:
        folder, now_s = self._folder(chain.partition), time.time()
        for depth, name in enumerate(chain.names):
            path = folder / name
            try:
                if name in self._known:
                    if time.monotonic() - self._known[name] > _TOUCH_EVERY_S:
                        self._mark(path, now_s - depth / 1000)
                    continue
                data = chain.read(depth) if self._has_room(proven=depth < chain.num_proven) else None
                if data is None:
                    return
                nonce = os.urandom(_NONCE_BYTES)
                sealed = self._cipher.encrypt(nonce, data.data, name.encode())
                write_whole(path, b"".join((_MAGIC, nonce, sealed)), durable=False)
                self._mark(path, now_s - depth / 1000)
            except FileNotFoundError:  # purged, or another host deleted it
                self._known.pop(name, None)
                return
            except OSError as error:
                self._paused_until_s = time.monotonic() + _PAUSE_S
                self._failed(f"cannot write to {folder}: {error.strerror}; nothing is written for {_PAUSE_S:g} s")
                return
            self.kept_bytes += self._file_bytes
            self._unseen_bytes += self._file_bytes

    def _mark(self, path: Path, used_s: float) -> None:
        """Mark a file as used; the end of a chain before its beginning, so that it is deleted first."""
        os.utime(path, (used_s, used_s))
        self._known[path.name] = time.monotonic()

    def _has_room(self, *, proven: bool) -> bool:
        if self._unseen_bytes > self._max_bytes * _LOOK_SHARE or self.kept_bytes + self._file_bytes > self._max_bytes:
            self._look()
        most = self._max_bytes if proven else self._max_bytes * _UNPROVEN_SHARE
        if shutil.disk_usage(self._root).free < SPARE_BYTES:
            return False
        return self.kept_bytes + self._file_bytes <= most

    def _look(self) -> None:
        """Count what all hosts keep, learn what is there for this one, and delete the least recently used beyond
        `max_bytes`."""
        found: list[tuple[float, int, Path]] = []
        known = {}
        for path in _files(self._root):
            with suppress(FileNotFoundError):
                stat = path.stat()
                if path.name.startswith("."):  # a killed host left it half written
                    if time.time() - stat.st_mtime > _PAUSE_S:
                        path.unlink()
                    continue
                found.append((stat.st_mtime, stat.st_size, path))
                if path.parent.name == self._content:
                    known[path.name] = self._known.get(path.name, 0.0)
        total = sum(size for _, size, _ in found)
        if total + self._file_bytes > self._max_bytes:
            for _, size, path in sorted(found):
                if total <= self._max_bytes * _KEPT_SHARE:
                    break
                path.unlink(missing_ok=True)
                known.pop(path.name, None)
                total -= size
        self._known, self.kept_bytes, self._unseen_bytes = known, total, 0

    # --- the reader's thread

    def _read_all(self) -> None:
        while True:
            self._reads.get()()

    def _opened(self, path: Path) -> bytes | None:
        from cryptography.exceptions import InvalidTag

        try:
            with open(path, "rb") as file:
                data = file.read(self._file_bytes + 1)
        except OSError as error:
            self._known.pop(path.name, None)
            if not isinstance(error, FileNotFoundError):
                self._failed(f"cannot read {path}: {error.strerror}")
            return None
        if len(data) == self._file_bytes and data.startswith(_MAGIC):
            at = len(_MAGIC) + _NONCE_BYTES
            with suppress(InvalidTag):
                return self._cipher.decrypt(data[len(_MAGIC) : at], memoryview(data)[at:], path.name.encode())
        self._known.pop(path.name, None)
        self._failed(f"{path} is damaged, or from elsewhere; it is deleted")
        with suppress(OSError):
            path.unlink()
        return None

    def _folder(self, partition: str) -> Path:
        tenant, _, rest = partition.partition("\0")
        purges = rest.partition("\0")[0]
        return self._root / (f"of-{quote(tenant, safe='')}" if tenant else _SHARED) / f"p{purges}" / self._content

    def _failed(self, what: str) -> None:
        self.faults += 1
        _log.warning("a kept prefix is lost: %s", what)


def _folders(folder: Path) -> list[Path]:
    with suppress(OSError):
        return [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
    return []


def _files(root: Path) -> Iterator[Path]:
    for tenant in _folders(root):
        for purges in _folders(tenant):
            for content in _folders(purges):
                with suppress(OSError):
                    yield from content.iterdir()
