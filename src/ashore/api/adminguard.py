"""Decides who may use the administration API, over every protocol, before the request is read."""

from __future__ import annotations

from ashore.access import Authority, Principal
from ashore.core import SERVER as SERVER


def check_admin(authority: Authority, principal: Principal, action: str, *, own: str = "", asks_itself: bool) -> None:
    """Return when a principal may do an action: on all of the server, or on something, where the use case itself asks
    on what; or `own`, on what is its own.

    Raises:
        PermissionDenied: it may not.
    """
    if own and authority.holds(principal, own):
        return
    if not (asks_itself and authority.holds(principal, action)):
        authority.require(principal, action, SERVER)
