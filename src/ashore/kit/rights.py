"""Checks of rights shared by several rooms."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ashore.core.principal import WIDE, Principal
from ashore.kit.call import Call, Rights

SERVER: Final = "server"
"""The resource for actions on the server as a whole."""
METRICS_READ: Final = "metrics:read"
"""Action that an `operator` call requires of remote callers."""


def lacks(rights: Rights, principal: Principal, call: Call) -> str:
    """Return the action that a caller lacks to do a call at all; empty if they may. `do` checks the resource.

    Every interface checks this: HTTP before it reads a request, and for as long as a stream lasts; the console before
    it offers a page and before it acts on a form.
    """
    if not call.action or (call.own and rights.holds(principal, call.own)):
        return ""
    if call.on_server:
        return "" if rights.decide(principal, call.action, SERVER).allowed else call.action
    if rights.holds(principal, call.action):
        return ""
    whole = replace(principal, scope=WIDE)  # a key or session may withhold rights of its owner's roles
    return call.own if call.own and not rights.holds(whole, call.action) else call.action


def check_call(rights: Rights, principal: Principal, call: Call) -> None:
    """Check that a caller may do a call, by `lacks`.

    Raises:
        PermissionDenied: they may not.
    """
    if action := lacks(rights, principal, call):
        rights.require(principal, action, SERVER)


def may_on(rights: Rights, principal: Principal, action: str, resource: str) -> bool:
    """Return whether a principal may do an action on a resource: by a right on it, or by one on the whole server
    that no rule denies for this resource."""
    decision = rights.decide(principal, action, resource)
    return decision.allowed or (not decision.rule and rights.decide(principal, action, SERVER).allowed)


def check_on(rights: Rights, principal: Principal, action: str, resource: str) -> None:
    """Check that `may_on` allows it.

    Raises:
        PermissionDenied: it does not.
    """
    if not may_on(rights, principal, action, resource):
        rights.require(principal, action, resource)


def sees_tenant(rights: Rights, principal: Principal, action: str, tenant: str) -> bool:
    """Return whether a caller with the right to a reading `action` sees the figures of a tenant: its own, unless a
    rule denies that, and others by a right on `tenant/NAME`."""
    decision = rights.decide(principal, action, f"tenant/{tenant}")
    return decision.allowed or (tenant == principal.tenant and not decision.rule)


def check_tenant(rights: Rights, principal: Principal, action: str, tenant: str) -> None:
    """Check that `sees_tenant` allows it, or no tenant is named.

    Raises:
        PermissionDenied: it does not.
    """
    if tenant and not sees_tenant(rights, principal, action, tenant):
        rights.require(principal, action, f"tenant/{tenant}")
