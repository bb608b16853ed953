"""Secrets as files of one folder: in clear, or sealed under a data key whose envelope is beside them.

envelope.json    the data key, wrapped by the key source; absent: the files are as they are
NAME             the secret, or one line `sealed:1:KEY-ID:…`, bound to its name

Each file is replaced whole, so a death at any moment leaves the old form or the new one, and both are read.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ashore.core.errors import CorruptBlob, SealingKeyMissing
from ashore.kit.folders import make_folder
from ashore.kit.sealing.box import PREFIX, SecretBox
from ashore.kit.sealing.clearfiles import read_key
from ashore.kit.sealing.datakeys import DataKey, close_envelope, envelope_key_id, new_data_key, open_envelope, rewrap
from ashore.kit.sealing.keysource import no_key_source
from ashore.kit.sealing.ports import KeyKeeper
from ashore.kit.wholefile import sync_folder

ENVELOPE: Final = "envelope.json"
YOUNG_S: Final = 60.0
"""A half-written file so young is left alone: its writer may live."""
_BOXED: Final = PREFIX.encode()

OpenEnvelope = Callable[[bytes], DataKey]
"""Gives the data key in an envelope. Raises `SealingKeyMissing` where it is not at hand."""


class SecretFolder:
    """The secrets in one folder. Several processes may use it; sealing and unsealing exclude writers."""

    def __init__(self, path: Path, opener: OpenEnvelope | None = None) -> None:
        """Create the object; touches nothing.

        Args:
            path: The folder.
            opener: Opens its envelope; default: nothing does, and what is sealed stays closed.
        """
        self.path = path
        self._opener = opener or opened_by_keeper(no_key_source)
        self._key: DataKey | None = None

    @property
    def is_sealed(self) -> bool:
        """Whether new secrets are sealed. Single files may still be in clear."""
        return (self.path / ENVELOPE).exists()

    def exists(self, name: str) -> bool:
        return (self.path / name).exists()

    def lies_sealed(self, name: str) -> bool:
        """Return whether an existing secret is sealed."""
        return (self.path / name).read_bytes().startswith(_BOXED)

    def read(self, name: str) -> bytes:
        """Return a secret.

        Raises:
            FileNotFoundError: it is not there.
            SealingKeyMissing: it is sealed, and its key is unavailable.
            CorruptBlob: it was altered.
        """
        data = (self.path / name).read_bytes()
        if not data.startswith(_BOXED):
            return data
        return SecretBox(self._data_key(name)).open(name, data.decode("ascii", "replace").strip())

    def write(self, name: str, secret: bytes) -> None:
        """Replace a secret, sealed where the others are."""
        self._replace(name, self._form(name, secret))

    def write_first(self, name: str, secret: bytes) -> None:
        """Write a secret unless it exists; of several concurrent processes the first one wins."""
        scratch = self._scratch(name, self._form(name, secret))
        try:
            os.link(scratch, self.path / name)
        except FileExistsError:
            pass  # another process was first
        finally:
            scratch.unlink()
        sync_folder(self.path)

    def remove(self, name: str) -> None:
        """Delete a secret. May be called twice."""
        (self.path / name).unlink(missing_ok=True)

    def seal(self, names: Sequence[str], keeper: KeyKeeper) -> DataKey:
        """Seal all clear secrets under the data key, created on the first call; return it.

        No other writer may run meanwhile. May be called twice; the next call completes a crashed one.

        Raises:
            SealingKeyMissing, CorruptBlob: the folder is sealed, and the keeper cannot open its key.
        """
        make_folder(self.path, mode=0o700)
        if self.is_sealed:
            key = self._key = opened_by_keeper(lambda: keeper)(self._envelope())
        else:
            key = self._key = new_data_key()
            self._replace(ENVELOPE, close_envelope(key, keeper))
        self._sweep()
        box = SecretBox(key)
        for name in names:
            if not self.exists(name) or self.lies_sealed(name):
                continue
            secret = (self.path / name).read_bytes()
            boxed = box.seal(name, secret)
            if box.open(name, boxed) != secret:
                raise CorruptBlob(
                    f"the secret {name} could not be opened after sealing, so it was left unsealed",
                    hint="check the memory of this machine",
                )
            self._replace(name, boxed.encode() + b"\n")
        return key

    def unseal(self, names: Sequence[str]) -> None:
        """Write the secrets back in clear, and delete their data key last. No other writer may run meanwhile.

        Raises:
            SealingKeyMissing, CorruptBlob: one cannot be opened; it and the envelope stay.
        """
        for name in names:
            if self.exists(name) and self.lies_sealed(name):
                self._replace(name, self.read(name))
        self._key = None
        (self.path / ENVELOPE).unlink(missing_ok=True)
        sync_folder(self.path)

    def rewrap(self, keeper: Callable[[], KeyKeeper], to: KeyKeeper | None) -> bool:
        """Rewrap the data key, as `DataKeys.rewrap`; False if there is none or nothing changed."""
        if not self.is_sealed:
            return False
        envelope = self._envelope()
        fresh = rewrap(envelope, envelope_key_id(envelope), keeper, to)
        if fresh is not None:
            self._replace(ENVELOPE, fresh)
        return fresh is not None

    def _form(self, name: str, secret: bytes) -> bytes:
        return SecretBox(self._data_key(name)).seal(name, secret).encode() + b"\n" if self.is_sealed else secret

    def _data_key(self, name: str) -> DataKey:
        envelope = self._envelope(what=name)
        if self._key is None or self._key.key_id != envelope_key_id(envelope):
            self._key = self._opener(envelope)
        return self._key

    def _envelope(self, *, what: str = "") -> bytes:
        try:
            return (self.path / ENVELOPE).read_bytes()
        except FileNotFoundError as error:
            raise SealingKeyMissing(
                f"{self.path / what} is sealed, and the envelope of its key, {self.path / ENVELOPE}, is missing",
                hint="restore that file from a backup of the home",
            ) from error

    def _replace(self, name: str, data: bytes) -> None:
        self._scratch(name, data).replace(self.path / name)
        sync_folder(self.path)

    def _scratch(self, name: str, data: bytes) -> Path:
        make_folder(self.path, mode=0o700)
        scratch = self.path / f".tmp-{name}.{os.getpid()}.{secrets.token_hex(4)}"
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return scratch

    def _sweep(self) -> None:
        """Delete files left half written by killed processes: they may contain a clear secret."""
        before = time.time() - YOUNG_S
        for left in self.path.glob(".*"):
            if left.is_file() and left.stat().st_mtime < before:
                left.unlink(missing_ok=True)


def opened_by_keeper(keeper: Callable[[], KeyKeeper]) -> OpenEnvelope:
    """Return how a process with a key source opens an envelope."""
    return lambda envelope: open_envelope(envelope, keeper(), key_id=envelope_key_id(envelope))


def opened_by_link(link: Path, otherwise: Callable[[], KeyKeeper] | None = None) -> OpenEnvelope:
    """Return how other processes open it: with the key that a supervisor holds behind `link`, else with the key source,
    if any.
    """

    def opener(envelope: bytes) -> DataKey:
        try:
            return read_key(str(link), envelope_key_id(envelope), what="the secrets are sealed")
        except SealingKeyMissing:
            if otherwise is None:
                raise
        return opened_by_keeper(otherwise)(envelope)

    return opener
