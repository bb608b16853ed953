"""How the edges of ashore (HTTP, gRPC) find out who is asking."""

from __future__ import annotations

from typing import Protocol

from ashore.access.model import Principal


class Authenticator(Protocol):
    """Tells who a token belongs to. Called for every request, so it must not wait on a network or a disk."""

    def authenticate(self, token: str | None) -> Principal:
        """Return the principal of `token`, the bare key without `Bearer`.

        Raises:
            Unauthenticated: no token, or one that no principal has. The message never repeats it.
        """
        ...
