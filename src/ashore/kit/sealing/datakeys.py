"""Data keys and their envelopes: the key of a model lies beside it, wrapped under a key that does not.

envelopes/<key id>.json      one data key, wrapped; rewrapped by `rekey`, while the sealed files stay as they are
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from ashore.core.errors import CorruptBlob, SealingKeyMissing
from ashore.core.foreign import foreign_errors
from ashore.kit.folders import make_folder
from ashore.kit.sealing.chunks import KEY_BYTES, KEY_ID_BYTES
from ashore.kit.sealing.ports import KeyKeeper, Wrapped
from ashore.kit.wholefile import write_whole

MAX_ENVELOPE_BYTES: Final = 64 << 10
_KEY_ID: Final = re.compile(f"[0-9a-f]{{{2 * KEY_ID_BYTES}}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataKey:
    """The key that encrypts files. Never written in clear."""

    key_id: str
    secret: bytes = field(repr=False)


class Envelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A data key as stored on disk."""

    version: int
    key_id: str
    wrapped: Wrapped


def is_key_id(text: str) -> bool:
    """Return whether `text` is a valid data key id, and so safe as a file name."""
    return _KEY_ID.fullmatch(text) is not None


def new_data_key() -> DataKey:
    """Return a new random data key."""
    return DataKey(key_id=secrets.token_hex(KEY_ID_BYTES), secret=secrets.token_bytes(KEY_BYTES))


def close_envelope(key: DataKey, keeper: KeyKeeper) -> bytes:
    """Return the envelope of a data key, wrapped by `keeper`."""
    wrapped = keeper.wrap(key.secret, bound_to=key.key_id)
    return msgspec.json.format(msgspec.json.encode(Envelope(version=1, key_id=key.key_id, wrapped=wrapped)), indent=1)


def open_envelope(data: bytes, keeper: KeyKeeper, *, key_id: str) -> DataKey:
    """Return the data key in an envelope.

    Raises:
        SealingKeyMissing, CorruptBlob: as `KeyKeeper.unwrap`; `CorruptBlob` also for anything but an envelope.
    """
    envelope = read_envelope(data, key_id=key_id)
    if envelope.wrapped.kind != keeper.kind:
        raise SealingKeyMissing(
            f"the data key {key_id} is wrapped by a {envelope.wrapped.kind} (key {envelope.wrapped.key_id}); "
            f"the key source here is {keeper.place}",
            hint="set [sealing] key or ASHORE_SEALING_KEY to the source it was sealed or last rekeyed with",
        )
    secret = keeper.unwrap(envelope.wrapped, bound_to=key_id)
    if len(secret) != KEY_BYTES:
        raise CorruptBlob(f"the data key {key_id} has {len(secret)} bytes, expected {KEY_BYTES}", hint=_HINT)
    return DataKey(key_id=key_id, secret=secret)


def read_envelope(data: bytes, *, key_id: str) -> Envelope:
    """Return an envelope, whose key is not yet verified. Raises `CorruptBlob` if it is malformed, or another key's."""
    with foreign_errors(f"the envelope of the data key {key_id} cannot be read", hint=_HINT):
        envelope = msgspec.json.decode(data, type=Envelope)
    if envelope.version != 1 or envelope.key_id != key_id:
        raise CorruptBlob(
            f"the envelope of the data key {key_id} has version {envelope.version} and key {envelope.key_id[:40]!r}",
            hint=_HINT,
        )
    return envelope


def envelope_key_id(data: bytes) -> str:
    """Return the data key id of an envelope. Raises `CorruptBlob` if it is malformed."""
    with foreign_errors("an envelope cannot be read", hint=_HINT):
        return msgspec.json.decode(data, type=Envelope).key_id


def rewrap(data: bytes, key_id: str, keeper: Callable[[], KeyKeeper], to: KeyKeeper | None = None) -> bytes | None:
    """Return an envelope rewrapped by `to` or by `keeper`; None if it is under the newest key already.

    A data key already wrapped by `to` in an interrupted call is opened with that. The new wrapping is verified before
    it is returned.
    """
    keepers = [keeper] if to is None else [keeper, lambda: to]
    key = _open_by_any(data, keepers, key_id=key_id)
    chosen = to or keeper()
    fresh = close_envelope(key, chosen)
    before, after = (read_envelope(d, key_id=key_id).wrapped for d in (data, fresh))
    if (before.kind, before.key_id) == (after.kind, after.key_id):
        return None
    if open_envelope(fresh, chosen, key_id=key_id) != key:
        raise CorruptBlob(f"{chosen.place} returned a different key than it was given", hint="check that service")
    return fresh


def _open_by_any(data: bytes, keepers: Sequence[Callable[[], KeyKeeper]], *, key_id: str) -> DataKey:
    """Return the data key with the first keeper that has its key. Raises the first keeper's error if none has."""
    missing: list[SealingKeyMissing] = []
    for keeper in keepers:
        try:
            return open_envelope(data, keeper(), key_id=key_id)
        except SealingKeyMissing as error:
            missing.append(error)
    raise missing[0]


class DataKeys:
    """The envelopes in one folder, and the keeper that opens them."""

    def __init__(self, folder: Path, keeper: Callable[[], KeyKeeper]) -> None:
        """Create it; touches nothing. `keeper` is called when a key is needed, and may raise `SealingKeyMissing`."""
        self._folder = folder
        self._keeper = keeper

    def keeper(self) -> KeyKeeper:
        """Return the keeper. Raises `SealingKeyMissing` where none is configured."""
        return self._keeper()

    def create(self) -> DataKey:
        """Create a data key; its envelope is on disk on return."""
        key = new_data_key()
        self.write(key.key_id, close_envelope(key, self._keeper()))
        return key

    def open(self, key_id: str) -> DataKey:
        """Return a data key.

        Raises:
            SealingKeyMissing: its envelope is gone, or the key that wraps it; names both places.
            CorruptBlob: the envelope was altered.
        """
        return open_envelope(self.read(key_id), self._keeper(), key_id=key_id)

    def read(self, key_id: str) -> bytes:
        """Return the envelope of a data key as it lies on disk. Raises `SealingKeyMissing` where it is gone."""
        path = self.path(key_id)
        try:
            with path.open("rb") as file:
                data = file.read(MAX_ENVELOPE_BYTES + 1)
        except FileNotFoundError as error:
            raise SealingKeyMissing(
                f"the data key {key_id} is lost: {path} is missing",
                hint="restore it from a backup of the store, or import the model again",
            ) from error
        return data[:MAX_ENVELOPE_BYTES]

    def write(self, key_id: str, data: bytes) -> None:
        """Replace an envelope so that a crash leaves the old one or the new one."""
        make_folder(self._folder, mode=0o700)
        write_whole(self.path(key_id), data)

    def ensure(self, key: DataKey) -> None:
        """Write the envelope of an open data key if it is missing: a cleanup may have deleted it."""
        if not self.path(key.key_id).exists():
            self.write(key.key_id, close_envelope(key, self._keeper()))

    def ids(self) -> Iterator[str]:
        """Yield the id of every envelope here."""
        for path in sorted(self._folder.glob("*.json")) if self._folder.is_dir() else ():
            if is_key_id(path.stem):
                yield path.stem

    def remove(self, key_id: str) -> None:
        """Delete an envelope: data sealed with its key can no longer be opened here."""
        self.path(key_id).unlink(missing_ok=True)

    def rewrap(self, key_id: str, to: KeyKeeper | None = None) -> bool:
        """Rewrap a data key, by `to` or by the keeper here; return False if it is under the newest key already.

        The old wrapping stays until the new one is verified. A data key already wrapped by `to` in an interrupted call
        is opened with that.
        """
        fresh = rewrap(self.read(key_id), key_id, self._keeper, to)
        if fresh is not None:
            self.write(key_id, fresh)
        return fresh is not None

    def path(self, key_id: str) -> Path:
        """Return the path of a data key's envelope. Raises `CorruptBlob` if the id is malformed."""
        if not is_key_id(key_id):
            raise CorruptBlob(f"{key_id[:80]!r} is not the id of a data key", hint=_HINT)
        return self._folder / f"{key_id}.json"


_HINT: Final = "restore the envelope from a backup of the store, or import the model again"
