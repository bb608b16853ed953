"""Ports for authentication (HTTP, gRPC) and authorisation (every room)."""

from __future__ import annotations

from typing import Protocol

from ashore.core.principal import Principal
from ashore.data.authority.authority import Decision


class Authenticator(Protocol):
    """Maps a token to its principal. Called for every request, so it must not wait on a network or a disk."""

    def authenticate(self, token: str | None, origin: str = "") -> Principal:
        """Return the principal of `token`, the bare key or JWT without `Bearer`.

        Args:
            token: As the client sent it; None: without one.
            origin: Client address, as the edge reports it; empty: this machine.

        Raises:
            Unauthenticated: no token, or an unknown one. The message never repeats it.
            TooManyAttempts: too many wrong ones came from this origin.
            PermissionDenied: the key may not be used from there.
        """
        ...


class Authority(Protocol):
    """Decides whether a principal may do something. No I/O; thread-safe, and cheap."""

    def decide(self, principal: Principal, action: str, resource: str) -> Decision:
        """Return the decision with the rule that made it. `action` is one of `ACTIONS`, `resource` is `kind/name`."""
        ...

    def require(self, principal: Principal, action: str, resource: str) -> None:
        """Check that it is allowed.

        Raises:
            PermissionDenied: it is not; names principal, action, resource and rule.
        """
        ...

    def holds(self, principal: Principal, action: str) -> bool:
        """Return whether the principal may do `action` on any resource at all."""
        ...
