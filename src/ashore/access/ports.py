"""How the edges of ashore (HTTP, gRPC) find out who is asking, and every room whether they may."""

from __future__ import annotations

from typing import Protocol

from ashore.access.authority import Decision
from ashore.access.model import Principal


class Authenticator(Protocol):
    """Tells who a token belongs to. Called for every request, so it must not wait on a network or a disk."""

    def authenticate(self, token: str | None, origin: str = "") -> Principal:
        """Return the principal of `token`, the bare key or JWT without `Bearer`.

        Args:
            token: What the client sent; None: nothing.
            origin: Address that it came from, as the edge says it; empty: this machine.

        Raises:
            Unauthenticated: no token, or one that no principal has. The message never repeats it.
            TooManyAttempts: too many wrong ones came from this origin.
            PermissionDenied: the key may not be used from there.
        """
        ...


class Authority(Protocol):
    """Decides whether a principal may do something. No I/O; safe to ask from any thread, and cheap."""

    def decide(self, principal: Principal, action: str, resource: str) -> Decision:
        """Return the decision with the rule that made it. `action` is one of `ACTIONS`, `resource` is `kind/name`."""
        ...

    def require(self, principal: Principal, action: str, resource: str) -> None:
        """Return when it is allowed.

        Raises:
            PermissionDenied: it is not; names principal, action, resource and rule.
        """
        ...

    def holds(self, principal: Principal, action: str) -> bool:
        """Return whether there is anything at all on which the principal may do `action`."""
        ...
