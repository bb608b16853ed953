"""Who is let in to administer, the same over every protocol, before anything of the request is read."""

from __future__ import annotations

from typing import Final

from ashore.access import Authority, Principal

SERVER: Final = "server"
"""The resource of what concerns the server as a whole."""


def may_on(authority: Authority, principal: Principal, action: str, resource: str) -> bool:
    """Return whether a principal may do an action on one thing: by a right on it, or by one on all of the server that
    no rule takes away for this thing."""
    decision = authority.decide(principal, action, resource)
    return decision.allowed or (not decision.rule and authority.decide(principal, action, SERVER).allowed)


def check_on(authority: Authority, principal: Principal, action: str, resource: str) -> None:
    """Return when `may_on` says so.

    Raises:
        PermissionDenied: it does not.
    """
    if not may_on(authority, principal, action, resource):
        authority.require(principal, action, resource)


def check_admin(authority: Authority, principal: Principal, action: str, *, asks_itself: bool) -> None:
    """Return when a principal may do an action: on all of the server, or on something, where the use case itself asks
    on what.

    Raises:
        PermissionDenied: it may not.
    """
    if not (asks_itself and authority.holds(principal, action)):
        authority.require(principal, action, SERVER)
