"""A keeper whose keys live as long as the process: for tests, and as the plainest form of the port."""

from __future__ import annotations

import secrets

from ashore.core.errors import SealingKeyMissing
from ashore.kit.sealing.ports import KeeperKind, Wrapped
from ashore.kit.sealing.wrapping import unwrap_under, wrap_under


class MemoryKeeper:
    """Keys in a dictionary."""

    kind: KeeperKind = "memory"
    place = "the memory of this process"

    def __init__(self) -> None:
        self._keys: dict[str, bytes] = {}
        self._active = ""

    def wrap(self, data_key: bytes, *, bound_to: str) -> Wrapped:
        if not self._keys:
            self.renew()
        key_id = self._active
        data = wrap_under(self._keys[key_id], data_key, key_id=key_id, bound_to=bound_to)
        return Wrapped(kind=self.kind, key_id=key_id, data=data)

    def unwrap(self, wrapped: Wrapped, *, bound_to: str) -> bytes:
        if wrapped.key_id not in self._keys:
            raise SealingKeyMissing(
                f"the key {wrapped.key_id}, which wraps the data key {bound_to}, is not in {self.place}",
                hint="seal and open in one process",
            )
        return unwrap_under(self._keys[wrapped.key_id], wrapped.data, key_id=wrapped.key_id, bound_to=bound_to)

    def renew(self) -> str:
        self._active = f"mk-{secrets.token_hex(8)}"
        self._keys[self._active] = secrets.token_bytes(32)
        return self._active
