"""In-process authenticators: a table of digests, and one that admits everybody, for load tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ashore.core.errors import Unauthenticated
from ashore.core.principal import DEFAULT_TENANT, Principal
from ashore.data.authority.directory import FIRST_KEY_IS
from ashore.data.authority.keys import MAX_TOKEN_CHARS, KeyDigest, digest_of
from ashore.data.authority.roles import DEVELOPER, FIRST_KEY, VIEWER


class KeyTable:
    """Digests of keys and their owners: suits the first key and a few others.

    Every entry is compared in full for every token, so the time reveals nothing about any key.
    """

    def __init__(self, entries: Iterable[tuple[KeyDigest, Principal]] = ()) -> None:
        self._entries = tuple(entries)

    def take(self, entries: Iterable[tuple[KeyDigest, Principal]]) -> None:
        """Replace the keys. May be called from any thread."""
        self._entries = tuple(entries)

    @classmethod
    def with_first_key(cls, key: str) -> KeyTable:
        """Return a table that holds the first key alone."""
        principal = Principal(id="first-key", kind="first-key", tenant=DEFAULT_TENANT, roles=frozenset((FIRST_KEY,)))
        return cls([(digest_of(key), principal)])

    def authenticate(self, token: str | None, origin: str = "") -> Principal:
        if not token:
            raise Unauthenticated(
                "no API key was given",
                hint=f"send `Authorization: Bearer KEY`; {FIRST_KEY_IS}",
            )
        found: Principal | None = None
        if len(token) <= MAX_TOKEN_CHARS:
            for digest, principal in self._entries:
                if digest.matches(token):
                    found = principal
        if found is None:
            raise Unauthenticated("the API key is not valid", hint=f"check the key; {FIRST_KEY_IS}")
        return found


class OpenDoor:
    """Admits everybody as one principal. For load generators and tests; must not be reachable from elsewhere."""

    def __init__(self) -> None:
        self._principal: Final = Principal(
            id="anyone", kind="key", tenant=DEFAULT_TENANT, roles=frozenset((DEVELOPER, VIEWER))
        )

    def authenticate(self, token: str | None, origin: str = "") -> Principal:
        return self._principal
