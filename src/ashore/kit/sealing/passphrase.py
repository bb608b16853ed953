"""A key stretched from a passphrase with Argon2id. The passphrase is nowhere in what is written down.

Source: RFC 9106, section 4, second recommended choice (64 MiB, three passes, four lanes).
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable
from typing import Final

from ashore.core.errors import CorruptBlob, InvalidRequest, InvalidSpec, SealingKeyMissing
from ashore.core.foreign import foreign_errors
from ashore.kit.sealing.ports import KeeperKind, Wrapped
from ashore.kit.sealing.wrapping import unwrap_under, wrap_under

PASSES: Final = 3
MEMORY_KIB: Final = 64 << 10
LANES: Final = 4
MOST: Final = (16, 1 << 20, 16)
"""Most passes, KiB and lanes accepted: an envelope must not be able to keep this machine busy."""
SALT_BYTES: Final = 16
MIN_CHARS: Final = 12


class PassphraseKeeper:
    """One passphrase. Each object stretches it once for each salt that it meets."""

    kind: KeeperKind = "passphrase"

    def __init__(self, read: Callable[[], str], *, place: str) -> None:
        """Create the object.

        Args:
            read: Gives the passphrase; asked once, when it is needed.
            place: Where it comes from, for messages.
        """
        self._read = read
        self._place = place
        self._passphrase: bytes | None = None
        self._keys: dict[tuple[str, tuple[int, ...]], bytes] = {}
        self._lock = threading.Lock()
        self._salt = ""

    @property
    def place(self) -> str:
        return self._place

    def wrap(self, data_key: bytes, *, bound_to: str) -> Wrapped:
        cost = (PASSES, MEMORY_KIB, LANES)
        with self._lock:
            self._salt = self._salt or secrets.token_hex(SALT_BYTES)
        kek = self._stretched(self._salt, cost)
        key_id = _id_of(kek)
        data = wrap_under(kek, data_key, key_id=key_id, bound_to=bound_to)
        return Wrapped(kind=self.kind, key_id=key_id, data=data, salt=self._salt, cost=cost)

    def unwrap(self, wrapped: Wrapped, *, bound_to: str) -> bytes:
        if len(wrapped.cost) != 3 or not all(0 < c <= most for c, most in zip(wrapped.cost, MOST, strict=True)):
            raise CorruptBlob(
                f"the envelope of the data key {bound_to} has an invalid stretching cost of {wrapped.cost}",
                hint="restore it from a backup of the store",
            )
        kek = self._stretched(wrapped.salt, wrapped.cost)
        if _id_of(kek) != wrapped.key_id:
            raise SealingKeyMissing(
                f"the passphrase from {self._place} is not the one that wraps the data key {bound_to} "
                f"(key {wrapped.key_id})",
                hint="give the passphrase that the model was sealed or last rekeyed with",
            )
        return unwrap_under(kek, wrapped.data, key_id=wrapped.key_id, bound_to=bound_to)

    def renew(self) -> str:
        raise InvalidRequest(
            "a passphrase cannot be changed in place",
            hint="write the new one to another file: ashore model rekey --to passphrase:FILE",
        )

    def _stretched(self, salt: str, cost: tuple[int, ...]) -> bytes:
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

        with self._lock:
            if (salt, cost) not in self._keys:
                if self._passphrase is None:
                    self._passphrase = _checked(self._read(), self._place)
                passes, memory_kib, lanes = cost
                with foreign_errors("an envelope has invalid stretching parameters", hint=""):
                    stretch = Argon2id(
                        salt=bytes.fromhex(salt), length=32, iterations=passes, lanes=lanes, memory_cost=memory_kib
                    )
                self._keys[salt, cost] = stretch.derive(self._passphrase)
            return self._keys[salt, cost]


def _checked(passphrase: str, place: str) -> bytes:
    text = passphrase.rstrip("\r\n")
    if len(text) < MIN_CHARS:
        raise InvalidSpec(
            f"the passphrase from {place} has {len(text)} characters; expected at least {MIN_CHARS}",
            hint="use several random words",
        )
    return text.encode()


def _id_of(kek: bytes) -> str:
    """Return an id of the stretched key, to distinguish a wrong passphrase from an altered envelope."""
    return "pp-" + hashlib.sha256(b"ashore passphrase id 1" + kek).hexdigest()[:16]
