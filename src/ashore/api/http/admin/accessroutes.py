"""The routes of the access room."""

from __future__ import annotations

from typing import Final

import msgspec

from ashore.api.http.admin import access
from ashore.api.http.admin import accesstypes as t
from ashore.api.http.routes import Handler, Route

ADMIN: Final = "/admin/v1"


def _route(
    method: str,
    path: str,
    action: str,
    handler: Handler,
    summary: str,
    *,
    takes: type[msgspec.Struct] | None = None,
    gives: type[msgspec.Struct],
    query: tuple[str, ...] = (),
    operation: str = "",
) -> Route:
    """Return a route whose use case asks on which resource. An empty `action` lets in whoever has a key."""
    return Route(
        method=method,
        path=ADMIN + path,
        guard="admin" if action else "key",
        action=action,
        asks_itself=True,
        handler=handler,
        summary=summary,
        tag="Access",
        request=takes,
        response=gives,
        query=query,
        operation=operation,
    )


def _accounts(noun: str, words: str, handlers: access.Accounts) -> tuple[Route, ...]:
    name = noun.replace("-", "_")
    return (
        _route(
            "GET", f"/{noun}", "access:read", handlers.list, f"List {words}", gives=t.AccountList,
            query=("tenant", "after", "limit"), operation=f"{name}_list",
        ),
        _route(
            "POST", f"/{noun}", "access:write", handlers.create, f"Make one of the {words}", takes=t.AccountIn,
            gives=t.AccountMade, operation=f"{name}_create",
        ),
        _route(
            "GET", f"/{noun}/{{account}}", "access:read", handlers.show, f"Show one of the {words}",
            gives=t.AccountDetail, operation=f"{name}_show",
        ),
        _route(
            "PATCH", f"/{noun}/{{account}}", "access:write", handlers.change,
            f"Change one of the {words}, or disable it", takes=t.AccountChange, gives=t.AccountOut,
            operation=f"{name}_change",
        ),
        _route(
            "DELETE", f"/{noun}/{{account}}", "access:write", handlers.remove, f"Remove one of the {words}",
            gives=t.Removed, operation=f"{name}_remove",
        ),
    )  # fmt: skip


ACCESS_ROUTES: Final[tuple[Route, ...]] = (
    _route("GET", "/tenants", "access:read", access.list_tenants, "List tenants", gives=t.TenantList),
    _route(
        "POST", "/tenants", "access:write", access.create_tenant, "Make a tenant", takes=t.TenantIn, gives=t.TenantOut
    ),
    _route(
        "PATCH", "/tenants/{tenant}", "access:write", access.change_tenant, "Change a tenant, or disable it",
        takes=t.TenantChange, gives=t.TenantOut,
    ),
    *_accounts("users", "users", access.USERS),
    *_accounts("service-accounts", "service accounts", access.SERVICES),
    _route(
        "POST", "/users/{user}/consent", "auditor:consent", access.consent,
        "Agree to what is done to an auditor's account", gives=t.Consented,
    ),
    _route("GET", "/groups", "access:read", access.list_groups, "List groups", gives=t.GroupList),
    _route("POST", "/groups", "access:write", access.create_group, "Make a group", takes=t.GroupIn, gives=t.GroupOut),
    _route(
        "POST", "/groups/{group}/members", "access:write", access.change_members, "Change who is in a group",
        takes=t.MembersChange, gives=t.MembersOut,
    ),
    _route("DELETE", "/groups/{group}", "access:write", access.remove_group, "Remove a group", gives=t.Removed),
    _route(
        "GET", "/keys", "", access.list_keys, "List keys, those of others with access:read", gives=t.KeyList,
        query=("owner", "tenant", "after", "limit"),
    ),
    _route("POST", "/keys", "access:write", access.create_key, "Make a key", takes=t.OwnedKeyIn, gives=t.NewKeyOut),
    _route(
        "POST", "/keys/{key}/rotate", "", access.rotate_key, "Replace a key, one's own or with access:write",
        takes=t.RotateIn, gives=t.NewKeyOut,
    ),
    _route(
        "DELETE", "/keys/{key}", "", access.revoke_key, "Revoke a key, one's own or with access:write", gives=t.KeyOut
    ),
    _route("GET", "/roles", "policy:read", access.list_roles, "List roles, the built-in ones too", gives=t.RoleList),
    _route(
        "PUT", "/roles/{role}", "policy:write", access.put_role, "Make or change a custom role", takes=t.RoleBody,
        gives=t.PolicyApplied,
    ),
    _route(
        "DELETE", "/roles/{role}", "policy:write", access.remove_role, "Remove a custom role", gives=t.PolicyApplied
    ),
    _route("GET", "/bindings", "policy:read", access.list_bindings, "List who has which role", gives=t.BindingList),
    _route(
        "POST", "/bindings", "role:grant", access.change_bindings, "Give roles and take them away",
        takes=t.BindingChange, gives=t.PolicyApplied,
    ),
    _route(
        "GET", "/policy", "policy:read", access.show_policy, "Show the policy", gives=t.PolicyOut, query=("version",)
    ),
    _route(
        "PUT", "/policy", "policy:write", access.apply_policy, "Put another policy in force, or show the difference",
        takes=t.PolicyIn, gives=t.PolicyApplied,
    ),
    _route(
        "GET", "/policy/history", "policy:read", access.history, "List the versions of the policy",
        gives=t.VersionList, query=("limit",),
    ),
    _route(
        "GET", "/can", "", access.can, "Tell which rule decides, about oneself or with policy:read", gives=t.CanOut,
        query=("subject", "action", "resource"),
    ),
    _route("GET", "/actions", "", access.list_actions, "List the actions of which rules speak", gives=t.ActionList),
)  # fmt: skip
