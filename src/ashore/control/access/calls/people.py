"""Calls about tenants, users, service accounts and groups. Users and service accounts share theirs under two nouns."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from ashore.control.access.calls.desk import AccessDesk, Argument, Name, Names, Page, Removed, Search, Several, Title
from ashore.control.access.calls.keys import KeyIn, NewKeyOut, key_wish, new_key_out
from ashore.control.access.people import AccountWish
from ashore.core.errors import NotFound
from ashore.core.nearest import did_you_mean
from ashore.data.authority import Account, AccountKind, Tenant
from ashore.data.authority.actions import ACCESS_READ, ACCESS_WRITE, AUDITOR_CONSENT
from ashore.data.authority.offices import CONSENT_S
from ashore.kit.call import Actor, Call, Method, Nothing
from ashore.kit.consents import Consented
from ashore.kit.copied import copied

# --- tenants


class TenantIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tenant to create."""

    name: Argument
    """Name of the tenant."""
    title: Title = ""
    """Display name."""


class OneTenant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tenant."""

    tenant: str
    """Name of the tenant."""


class TenantChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields to change. Fields that are left out stay as they are."""

    tenant: str
    title: Title | None = None
    disabled: bool | None = None


class TenantOut(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant."""

    name: str
    title: str
    disabled: bool
    created_at: int


def list_tenants(desk: AccessDesk, actor: Actor, asked: Nothing) -> list[TenantOut]:
    """List tenants."""
    return [_tenant(one) for one in desk.people.tenants(actor)]


def show_tenant(desk: AccessDesk, actor: Actor, asked: OneTenant) -> TenantOut:
    """Show one tenant."""
    return _named(list_tenants(desk, actor, Nothing()), asked.tenant, "tenant")


def create_tenant(desk: AccessDesk, actor: Actor, asked: TenantIn) -> TenantOut:
    """Create a tenant."""
    return _tenant(desk.people.create_tenant(actor, asked.name, asked.title))


def change_tenant(desk: AccessDesk, actor: Actor, asked: TenantChange) -> TenantOut:
    """Change a tenant, or disable it."""
    return _tenant(desk.people.change_tenant(actor, asked.tenant, title=asked.title, disabled=asked.disabled))


LIST_TENANTS: Final = Call("access tenant", "list", "GET", "/tenants", ACCESS_READ, list_tenants)
SHOW_TENANT: Final = Call("access tenant", "show", "GET", "/tenants/{tenant}", ACCESS_READ, show_tenant)
CREATE_TENANT: Final = Call("access tenant", "create", "POST", "/tenants", ACCESS_WRITE, create_tenant)
CHANGE_TENANT: Final = Call("access tenant", "change", "PATCH", "/tenants/{tenant}", ACCESS_WRITE, change_tenant)


N = TypeVar("N", "TenantOut", "GroupOut")


def _named(items: list[N], name: str, noun: str) -> N:
    """Return the one of a name, of those that the caller may see."""
    for one in items:
        if one.name == name:
            return one
    raise NotFound(f"there is no {noun} {name[:100]!r}", hint=did_you_mean(name[:100], [one.name for one in items]))


def _tenant(tenant: Tenant) -> TenantOut:
    return TenantOut(name=tenant.name, title=tenant.title, disabled=tenant.disabled, created_at=tenant.created_s)


# --- users and service accounts


class AccountsIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which accounts to list."""

    tenant: str = ""
    """List only accounts of this tenant."""
    search: Search = ""
    """List only accounts whose id or title contains this text."""
    disabled: bool = False
    """List only disabled accounts."""
    after: str = ""
    limit: Page = 100


class AccountIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user or service account to create."""

    id: Argument
    """Id of the account, as it appears in the audit log: alice, app."""
    tenant: Name = "default"
    """Tenant of the account."""
    title: Title = ""
    """Display name."""
    groups: Annotated[Several, msgspec.Meta(extra={"flag": "group"})] = []
    """Groups to add the account to."""
    roles: Annotated[Several, msgspec.Meta(extra={"flag": "role"})] = []
    """Roles to grant to the account."""
    key: Annotated[KeyIn | None, msgspec.Meta(extra={"filled": True})] = None
    """A key to create with the account."""


class OneAccount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which account."""

    account: str
    """Id of the account: alice."""


class AccountChange(OneAccount, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields to change. Fields that are left out stay as they are."""

    title: Title | None = None
    disabled: bool | None = None


class AccountOut(msgspec.Struct, frozen=True, kw_only=True):
    """A user or service account."""

    id: str
    kind: Literal["user", "service"]
    tenant: str
    title: str
    groups: list[str]
    given_groups: list[str]
    """Groups that its directory says it is in. No office comes by them."""
    disabled: bool
    created_at: int


class ListedAccount(AccountOut, frozen=True, kw_only=True):
    """An account, with its own roles and those of its groups."""

    roles: list[str]


class AccountList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of accounts."""

    items: list[ListedAccount]
    next: str | None
    """Value of `after` for the next page; null on the last page."""


class AccountDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One account, with its own roles and those of its groups."""

    account: AccountOut
    roles: list[str]


class AccountMade(msgspec.Struct, frozen=True, kw_only=True):
    """A new account, and its key if one was requested."""

    account: AccountOut
    key: NewKeyOut | None


def list_accounts(desk: AccessDesk, actor: Actor, asked: AccountsIn, *, kind: AccountKind) -> AccountList:
    """List accounts of one kind."""
    found = desk.people.accounts(actor, kind, **msgspec.structs.asdict(asked))
    items = [copied(ListedAccount, _account(one), roles=[*roles]) for one, roles in found]
    return AccountList(items=items, next=items[-1].id if len(items) == asked.limit else None)


def create_account(desk: AccessDesk, actor: Actor, asked: AccountIn, *, kind: AccountKind) -> AccountMade:
    """Create an account, with roles and a key if requested."""
    wish = AccountWish(
        id=asked.id,
        kind=kind,
        tenant=asked.tenant,
        title=asked.title,
        groups=tuple(asked.groups),
        roles=tuple(asked.roles),
        key=None if asked.key is None else key_wish(asked.key),
    )
    account, new = desk.people.create_account(actor, wish)
    return AccountMade(account=_account(account), key=None if new is None else new_key_out(new))


def show_account(desk: AccessDesk, actor: Actor, asked: OneAccount, *, kind: AccountKind) -> AccountDetail:
    """Show one account and its roles."""
    found, roles = desk.people.account(actor, kind, asked.account)
    return AccountDetail(account=_account(found), roles=[*roles])


def change_account(desk: AccessDesk, actor: Actor, asked: AccountChange, *, kind: AccountKind) -> AccountOut:
    """Change an account, or disable it."""
    changed = desk.people.change_account(actor, kind, asked.account, title=asked.title, disabled=asked.disabled)
    return _account(changed)


def remove_account(desk: AccessDesk, actor: Actor, asked: OneAccount, *, kind: AccountKind) -> Removed:
    """Remove an account, with its keys and roles."""
    desk.people.remove_account(actor, kind, asked.account)
    return Removed(removed=f"{kind}/{asked.account}")


def _accounts(kind: AccountKind, path: str, one: str, some: str, made: str = "") -> tuple[Call, ...]:
    def call(
        word: str, method: Method, at: str, action: str, do: Callable[..., Any], said: str, sure: str = ""
    ) -> Call:
        return Call(f"access {kind}", word, method, path + at, action, partial(do, kind=kind), help=said, sure=sure)

    removed = f"Remove {one}, with its keys and roles. Its entries in the audit log remain."
    sure = "remove {account}, revoke its keys and revoke its roles"
    return (
        call("list", "GET", "", ACCESS_READ, list_accounts, f"List {some}."),
        call("create", "POST", "", ACCESS_WRITE, create_account, f"Create {one}.{made}"),
        call("show", "GET", "/{account}", ACCESS_READ, show_account, f"Show {one} and its roles."),
        call("change", "PATCH", "/{account}", ACCESS_WRITE, change_account, f"Change {one}, or disable it."),
        call("remove", "DELETE", "/{account}", ACCESS_WRITE, remove_account, removed, sure),
    )


USERS: Final = _accounts("user", "/users", "a user", "users")
SERVICES: Final = _accounts(
    "service", "/service-accounts", "a service account", "service accounts",
    "Create its keys with `ashore access key create`.",
)  # fmt: skip


def _account(account: Account) -> AccountOut:
    return copied(
        AccountOut,
        account,
        groups=sorted(account.groups),
        given_groups=sorted(account.given_groups),
        disabled=account.is_out,
        created_at=account.created_s,
    )


OneUser = Annotated[str, msgspec.Meta(description="Id of the auditor.")]


def consent(desk: AccessDesk, actor: Actor, user: OneUser) -> Consented:
    """Let a security officer change an auditor's account for the next 24 hours. For system administrators."""
    desk.people.consent(actor, user)
    return Consented(consented_to=f"user/{user}", holds_for_s=CONSENT_S)


CONSENT: Final = Call("access", "consent", "POST", "/users/{user}/consent", AUDITOR_CONSENT, consent)


# --- groups


class GroupIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group to create."""

    name: Argument
    """Name of the group."""
    title: Title = ""
    """Display name."""


class OneGroup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which group."""

    group: str
    """Name of the group."""


class MembersChange(OneGroup, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Accounts to add to a group and to remove from it."""

    add: Names = []
    remove: Names = []


class GroupOut(msgspec.Struct, frozen=True, kw_only=True):
    """A group and its members."""

    name: str
    title: str
    members: list[str]
    created_at: int


def list_groups(desk: AccessDesk, actor: Actor, asked: Nothing) -> list[GroupOut]:
    """List groups and their members."""
    found = desk.people.groups(actor)
    return [copied(GroupOut, group, members=[*members], created_at=group.created_s) for group, members in found]


def show_group(desk: AccessDesk, actor: Actor, asked: OneGroup) -> GroupOut:
    """Show one group and its members."""
    return _named(list_groups(desk, actor, Nothing()), asked.group, "group")


def create_group(desk: AccessDesk, actor: Actor, asked: GroupIn) -> GroupOut:
    """Create a group."""
    made = desk.people.create_group(actor, asked.name, asked.title)
    return GroupOut(name=made.name, title=made.title, members=[], created_at=made.created_s)


def change_members(desk: AccessDesk, actor: Actor, asked: MembersChange) -> list[str]:
    """Add accounts to a group, and remove others from it."""
    return [*desk.people.change_members(actor, asked.group, add=asked.add, remove=asked.remove)]


def remove_group(desk: AccessDesk, actor: Actor, asked: OneGroup) -> Removed:
    """Remove a group. Its members keep their accounts."""
    desk.people.remove_group(actor, asked.group)
    return Removed(removed=f"group/{asked.group}")


LIST_GROUPS: Final = Call("access group", "list", "GET", "/groups", ACCESS_READ, list_groups)
SHOW_GROUP: Final = Call("access group", "show", "GET", "/groups/{group}", ACCESS_READ, show_group)
CREATE_GROUP: Final = Call("access group", "create", "POST", "/groups", ACCESS_WRITE, create_group)
CHANGE_MEMBERS: Final = Call("access group", "members", "POST", "/groups/{group}/members", ACCESS_WRITE, change_members)
REMOVE_GROUP: Final = Call(
    "access group", "remove", "DELETE", "/groups/{group}", ACCESS_WRITE, remove_group,
    sure="remove the group {group} and the roles it grants",
)  # fmt: skip
