"""Port of sealing: stores of key-encryption keys."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

KeeperKind = Literal["keyring", "passphrase", "transit", "memory"]


class Wrapped(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A wrapped data key as written. Useless without its key-encryption key."""

    kind: KeeperKind
    key_id: str
    """Which key wraps it."""
    data: str
    """The wrapped key as its keeper writes it."""
    salt: str = ""
    """Hexadecimal; what a passphrase is stretched with."""
    cost: tuple[int, ...] = ()
    """What stretching costs: passes, KiB of memory, lanes."""


class KeyKeeper(Protocol):
    """Stores key-encryption keys. Thread-safe."""

    @property
    def kind(self) -> KeeperKind: ...

    @property
    def place(self) -> str:
        """Location of the keys, for messages: never a secret."""
        ...

    def wrap(self, data_key: bytes, *, bound_to: str) -> Wrapped:
        """Return the data key wrapped under the key that is in use now. `bound_to` is authenticated with it.

        Raises:
            SealingKeyMissing: there is no key yet, or it cannot be read.
            RemoteRefused, NotReady: the key service refuses, or cannot be reached.
        """
        ...

    def unwrap(self, wrapped: Wrapped, *, bound_to: str) -> bytes:
        """Return the data key.

        Raises:
            SealingKeyMissing: the key that wraps it is not here; names the key and where it was looked for.
            CorruptBlob: the key is here, and what is wrapped was altered or belongs to something else.
            RemoteRefused, NotReady: as `wrap` says.
        """
        ...

    def renew(self) -> str:
        """Create a new key for `wrap` and return its id. Older keys still unwrap.

        Raises:
            InvalidRequest: a key of this kind is not renewed in place.
        """
        ...
