"""Keys in a file of the operator's: one in use, older ones kept to open what they wrapped."""

from __future__ import annotations

import base64
import binascii
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ashore.core.clock import Clock
from ashore.core.errors import DiskFull, EnvironmentFault, InvalidSpec, SealingKeyMissing
from ashore.kit.decode import UNDECODABLE
from ashore.kit.folders import make_folder
from ashore.kit.sealing.keyfile import read_secret_file
from ashore.kit.sealing.ports import KeeperKind, Wrapped
from ashore.kit.sealing.wrapping import unwrap_under, wrap_under
from ashore.kit.wholefile import write_whole

KEY_BYTES = 32


class _Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    created_s: int
    key: str


class _Ring(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: int
    active: str
    keys: tuple[_Key, ...]


class KeyringKeeper:
    """A keyring file, mode 0600. It is made, with one key, when something is wrapped for the first time."""

    kind: KeeperKind = "keyring"

    def __init__(self, path: Path, clock: Clock) -> None:
        """Create the object; touches nothing.

        Args:
            path: The file. It belongs on another disk than the models, and a copy of it somewhere safe.
            clock: Dates new keys.
        """
        self._path = path
        self._clock = clock

    @property
    def place(self) -> str:
        return f"the keyring {self._path}"

    def wrap(self, data_key: bytes, *, bound_to: str) -> Wrapped:
        ring = self._read() if self._path.exists() else self._add_key()
        kek = self._key(ring, ring.active, bound_to)
        data = wrap_under(kek, data_key, key_id=ring.active, bound_to=bound_to)
        return Wrapped(kind=self.kind, key_id=ring.active, data=data)

    def unwrap(self, wrapped: Wrapped, *, bound_to: str) -> bytes:
        kek = self._key(self._read(), wrapped.key_id, bound_to)
        return unwrap_under(kek, wrapped.data, key_id=wrapped.key_id, bound_to=bound_to)

    def renew(self) -> str:
        return self._add_key(more=True).active

    def _key(self, ring: _Ring, key_id: str, bound_to: str) -> bytes:
        for key in ring.keys:
            if key.id == key_id:
                return _decoded(key, self._path)
        raise SealingKeyMissing(
            f"the key {key_id}, which wraps the data key {bound_to}, is not in the keyring {self._path}; it has "
            + ", ".join(key.id for key in ring.keys),
            hint="restore the keyring that has it; without that key, data sealed with it cannot be opened",
        )

    def _read(self) -> _Ring:
        data = read_secret_file(self._path, what="the keyring")
        try:
            ring = msgspec.json.decode(data, type=_Ring)
        except UNDECODABLE as error:
            # The library's words name the place in the file, never a value.
            raise InvalidSpec(f"the keyring {self._path} cannot be read: {error}", hint="restore a copy") from error
        if ring.version != 1:
            raise InvalidSpec(f"the keyring {self._path} has version {ring.version}; this ashore reads version 1")
        return ring

    def _add_key(self, *, more: bool = False) -> _Ring:
        """Return the ring with a new active key; without `more`, unchanged if another process has created it."""
        with self._locked():
            old = self._read() if self._path.exists() else None
            if old is not None and not more:
                return old
            fresh = _Key(
                id=f"kk-{secrets.token_hex(8)}",
                created_s=int(self._clock.now_s()),
                key=base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode(),
            )
            ring = _Ring(version=1, active=fresh.id, keys=(*(old.keys if old else ()), fresh))
            self._write(ring)
            return ring

    def _write(self, ring: _Ring) -> None:
        try:
            write_whole(self._path, msgspec.json.format(msgspec.json.encode(ring), indent=1))
        except OSError as error:
            raise DiskFull(
                f"cannot write the keyring {self._path}: {error.strerror}", hint="free some space"
            ) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock the folder of the keyring, so that processes never lose each other's keys."""
        try:
            make_folder(self._path.parent, mode=0o700)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise EnvironmentFault(
                f"the folder of the keyring {self._path}: {error.strerror}", hint="create it, writable by this user"
            ) from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
            os.fsync(folder)
        finally:
            os.close(folder)


def _decoded(key: _Key, path: Path) -> bytes:
    try:
        secret = base64.b64decode(key.key, validate=True)
    except binascii.Error:
        secret = b""
    if len(secret) != KEY_BYTES:
        raise InvalidSpec(f"the keyring {path}: the key {key.id} is not {KEY_BYTES} bytes", hint="restore a copy")
    return secret
