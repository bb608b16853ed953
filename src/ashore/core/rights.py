"""Questions about rights that several rooms ask in the same way."""

from __future__ import annotations

from typing import Final

from ashore.core.call import Rights
from ashore.core.principal import Principal

SERVER: Final = "server"
"""The resource of what concerns the server as a whole."""


def may_on(rights: Rights, principal: Principal, action: str, resource: str) -> bool:
    """Return whether a principal may do an action on one thing: by a right on it, or by one on all of the server that
    no rule takes away for this thing."""
    decision = rights.decide(principal, action, resource)
    return decision.allowed or (not decision.rule and rights.decide(principal, action, SERVER).allowed)


def check_on(rights: Rights, principal: Principal, action: str, resource: str) -> None:
    """Return when `may_on` says so.

    Raises:
        PermissionDenied: it does not.
    """
    if not may_on(rights, principal, action, resource):
        rights.require(principal, action, resource)


def sees_tenant(rights: Rights, principal: Principal, action: str, tenant: str) -> bool:
    """Return whether who may do a reading `action` at all sees the figures of a tenant by it: its own, unless a rule
    denies that, and those of others by a right on `tenant/NAME`."""
    decision = rights.decide(principal, action, f"tenant/{tenant}")
    return decision.allowed or (tenant == principal.tenant and not decision.rule)


def check_tenant(rights: Rights, principal: Principal, action: str, tenant: str) -> None:
    """Return when `sees_tenant` says so, or no tenant is named.

    Raises:
        PermissionDenied: it does not.
    """
    if tenant and not sees_tenant(rights, principal, action, tenant):
        rights.require(principal, action, f"tenant/{tenant}")
