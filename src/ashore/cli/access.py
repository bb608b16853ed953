"""`ashore access`: tenants, users, service accounts, groups, keys, roles and the policy, by a server's admin API."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from ashore.cli.accesspolicy import can, policy_app, role_app, whoami
from ashore.cli.budget import budget, usage
from ashore.cli.calls import Look, Server, View, cell, noun_of, reworded, show, table
from ashore.cli.sure import Yes, go_ahead
from ashore.control.access.calls import keys as k
from ashore.control.access.calls import people as p
from ashore.control.access.calls.desk import Names
from ashore.core.errors import NotFound
from ashore.core.nearest import did_you_mean
from ashore.kit.call import Call

# --- inputs that commands spell differently from HTTP


class NewUser(p.AccountIn, frozen=True, kw_only=True):
    no_key: bool = False
    """Create no key."""


class Members(msgspec.Struct, frozen=True, kw_only=True):
    group: str
    """Name of the group."""
    accounts: Annotated[Names, msgspec.Meta(extra={"positional": True})] = []
    """Ids of users and service accounts: alice app."""


def disable_tenant(asked: p.OneTenant) -> p.TenantChange:
    """Disable a tenant. Keys and tokens of its users and service accounts stop working within one second."""
    return p.TenantChange(tenant=asked.tenant, disabled=True)


def enable_tenant(asked: p.OneTenant) -> p.TenantChange:
    """Enable a disabled tenant."""
    return p.TenantChange(tenant=asked.tenant, disabled=False)


def create_user(asked: NewUser) -> p.AccountIn:
    """Create a user and their key. The key is shown once."""
    fields = {name: getattr(asked, name) for name in p.AccountIn.__struct_fields__}
    return p.AccountIn(**fields | {"key": None if asked.no_key else k.KeyIn()})


def disable_account(asked: p.OneAccount) -> p.AccountChange:
    """Disable an account. Keys and tokens stop working within one second."""
    return p.AccountChange(account=asked.account, disabled=True)


def enable_account(asked: p.OneAccount) -> p.AccountChange:
    """Enable a disabled account."""
    return p.AccountChange(account=asked.account, disabled=False)


def add_members(asked: Members) -> p.MembersChange:
    """Add accounts to a group."""
    return p.MembersChange(group=asked.group, add=asked.accounts)


def drop_members(asked: Members) -> p.MembersChange:
    """Remove accounts from a group."""
    return p.MembersChange(group=asked.group, remove=asked.accounts)


# --- output


def show_key(new: k.NewKeyOut) -> None:
    """Print a new key on stdout, and on stderr what to know about it."""
    key = new.record
    until = f", until {cell('expires_at', key.expires_at)}" if key.expires_at is not None else ""
    print(f"key {key.id} of {key.owner}{until}; it is shown only once:", file=sys.stderr)
    for model in new.unmatched_models:
        print(f"note: {model!r}, which the key is limited to, matches no alias now", file=sys.stderr)
    print(new.key)


def _show_made(made: p.AccountMade) -> None:
    print(f"created {made.account.kind}/{made.account.id}", file=sys.stderr if made.key else sys.stdout)
    if made.key:
        show_key(made.key)


def _show_account(found: p.AccountDetail) -> None:
    show(found.account)
    print(f"roles: {', '.join(found.roles) or 'none'}")


def _show_keys(found: k.KeyList) -> None:
    rows: list[dict[str, Any]] = [
        {
            "id": key.id,
            "owner": key.owner,
            "tenant": key.tenant,
            "state": _state(key),
            "last_used_at": key.last_used_at,
            "title": key.title,
        }
        for key in found.items
    ]
    print(table(rows) if rows else "no keys")


def _state(key: k.KeyOut) -> str:
    if key.revoked_at is not None:
        return f"revoked {cell('revoked_at', key.revoked_at)}"
    return "valid" if key.expires_at is None else f"until {cell('expires_at', key.expires_at)}"


def _listed_by(call: Call, *, unless: str = "") -> Look:
    """Return a lookup for dry runs: whether the named things exist, and who owns them. A name with `unless` in it need
    not exist.
    """

    def look(server: Server, asked: Any) -> str:
        name = next(iter(msgspec.to_builtins(asked).values()))
        items = {getattr(one, "id", "") or one.name: one for one in server.ask(call, call.takes()).items}
        if name in items:
            return f", of {owner}" if (owner := getattr(items[name], "owner", "")) else ""
        if unless and unless in name:
            return ""
        noun = call.noun.rpartition(" ")[2]
        raise NotFound(f"there is no {noun} {name[:100]!r}", hint=did_you_mean(name[:100], list(items)))

    return look


# --- the nouns


def _accounts(calls: tuple[Call, ...], create: Callable[[Any], p.AccountIn] | None = None) -> tuple[Call, ...]:
    by_word = {call.word: call for call in calls}
    change, look = by_word.pop("change"), _listed_by(by_word["list"])
    of_issuers = _listed_by(by_word["list"], unless=":")  # who has no account before they are disabled
    sure = "disable {account}: keys and tokens stop working within one second"
    return (
        reworded(by_word.pop("create"), make=create),
        *(reworded(call, look=look) for call in by_word.values()),
        reworded(change, "disable", disable_account, sure=sure, look=of_issuers),
        reworded(change, "enable", enable_account),
    )


COMMANDS: tuple[Call, ...] = (
    p.CONSENT,
    p.LIST_TENANTS,
    p.SHOW_TENANT,
    p.CREATE_TENANT,
    reworded(
        p.CHANGE_TENANT, "disable", disable_tenant, look=_listed_by(p.LIST_TENANTS),
        sure="disable the tenant {tenant}: none of its users and service accounts can sign in",
    ),
    reworded(p.CHANGE_TENANT, "enable", enable_tenant),
    *_accounts(p.USERS, create_user),
    *_accounts(p.SERVICES),
    p.LIST_GROUPS,
    p.SHOW_GROUP,
    p.CREATE_GROUP,
    reworded(p.CHANGE_MEMBERS, "add", add_members),
    reworded(p.CHANGE_MEMBERS, "drop", drop_members),
    reworded(p.REMOVE_GROUP, look=_listed_by(p.LIST_GROUPS)),
    k.LIST_KEYS,
    k.SHOW_KEY,
    k.CREATE_KEY,
    k.ROTATE_KEY,
    reworded(k.REVOKE_KEY, look=_listed_by(k.LIST_KEYS)),
)  # fmt: skip

app = noun_of(
    "access",
    "Manage who may use this server, and what they may do.\n\n"
    "The first key of a home creates the three administrators (`user create NAME --role …` for each of "
    "system-administrator, security-officer and auditor). Then it stops working: use their keys in ASHORE_API_KEY.",
    COMMANDS,
)
_ACCOUNT_VIEWS: dict[str, View] = {"create": _show_made, "show": _show_account}
_KEY_VIEWS: dict[str, View] = {"list": _show_keys, "create": show_key, "rotate": show_key}
app.command(noun_of("access tenant", "Manage tenants.", COMMANDS))
app.command(noun_of("access user", "Manage users.", COMMANDS, _ACCOUNT_VIEWS))
app.command(noun_of("access service", "Manage service accounts, for programs.", COMMANDS, _ACCOUNT_VIEWS))
app.command(noun_of("access group", "Manage groups of accounts.", COMMANDS))
app.command(noun_of("access key", "Manage keys. A key is shown once; only a digest is kept.", COMMANDS, _KEY_VIEWS))
app.command(role_app)
app.command(policy_app)
app.command(whoami, name="whoami")
app.command(can, name="can")
app.command(budget)
app.command(usage, name="usage")


@app.command
def revive(*, lost: Annotated[bool, Parameter(negative=())] = False, yes: Yes = False) -> None:
    """Restore an office (an administrator role) that nobody with a valid key can use any more.

    Removes the bindings that deny administration to everybody. If an office has no holder left, creates a new first key
    on this machine; use it to create the missing administrators, after which it stops working. The audit log records
    the command.

    Args:
        lost: The administrators lost their keys: revoke all keys of the holders of the three offices, then create the
            new first key. Their accounts, passwords and roles stay.
    """

    from ashore.cli.bootstrap import owned_state, shared_name
    from ashore.cli.recorded import os_user
    from ashore.control.access import revive_first_key
    from ashore.core.clock import SystemClock
    from ashore.data.authority import Acts
    from ashore.kit.settings import read_settings

    settings = read_settings()
    if lost:
        go_ahead(f"revoke every key of the three offices in {settings.home.root}, and make a new first key", yes=yes)
    with owned_state(settings) as (state, recorder):
        acts = Acts(state, recorder, SystemClock())
        revived = revive_first_key(
            acts, settings.home.first_key, machine=shared_name(settings), lost=lost, by=os_user()
        )
    for binding in revived.taken_away:
        print(f"{binding.subject} no longer has the role {binding.role}, which denied administration to everybody")
    if revived.revoked:
        print(f"revoked as lost: {', '.join(revived.revoked)}")
    if revived.missing:
        print(f"created a new first key in {settings.home.first_key}; missing: {', '.join(revived.missing)}")
        print(f"next: `ashore access user create NAME --role {revived.missing[0]}`, with a new name for each")
