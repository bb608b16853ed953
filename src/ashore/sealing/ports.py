"""What sealing needs of a place that keeps key-encryption keys."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

KeeperKind = Literal["keyring", "passphrase", "transit", "memory"]


class Wrapped(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A data key under a key-encryption key, as it is written down. Tells nothing to who lacks that key."""

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
    """A place that keeps key-encryption keys. Safe to use from several threads."""

    @property
    def kind(self) -> KeeperKind: ...

    @property
    def place(self) -> str:
        """Where keys are looked for, as a message may name it: never a secret."""
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
        """Make a fresh key that `wrap` uses from now on, and return its id. Older ones still unwrap.

        Raises:
            InvalidRequest: a key of this kind is not renewed in place.
        """
        ...
