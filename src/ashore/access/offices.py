"""Who holds the three offices, and what is still missing before the first key dies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ashore.access import sql
from ashore.access.authority import Compiled
from ashore.access.model import Principal
from ashore.access.records import FIRST_KEY_ID, Account
from ashore.access.roles import OFFICERS
from ashore.core import TenantId

if TYPE_CHECKING:
    from sqlalchemy import Connection

CONSENT_S: Final = 86_400
"""How long a consent to what is done to an auditor holds."""


def officers_of(
    connection: Connection, compiled: Compiled, now_s: int, *, changed: Account | None = None, key_gone: str = ""
) -> dict[str, set[str]]:
    """Return the enabled accounts with a live key by office.

    Args:
        connection: An open transaction.
        compiled: The policy that is asked.
        now_s: The time.
        changed: An account taken as it will be.
        key_gone: A key taken for revoked.
    """
    holders: dict[str, set[str]] = {role: set() for role in OFFICERS}
    disabled_tenants = {tenant.name for tenant in sql.list_tenants(connection) if tenant.disabled}
    for account in _candidates(connection, compiled):
        if changed is not None and account.id == changed.id:
            account = changed
        if account.disabled or account.tenant in disabled_tenants or not _has_key(connection, account, now_s, key_gone):
            continue
        principal = Principal(id=account.id, kind=account.kind, tenant=TenantId(account.tenant), groups=account.groups)
        for role, _ in compiled.roles_of(principal):
            if role.name in holders:
                holders[role.name].add(account.id)
    return holders


def missing_offices(connection: Connection, now_s: int) -> tuple[str, ...]:
    """Return the offices that nobody with a live key holds yet."""
    holders = officers_of(connection, Compiled(sql.load_policy(connection)), now_s)
    return tuple(role for role in OFFICERS if not holders[role])


def bootstrap_hint(connection: Connection, now_s: int) -> str:
    """Return what the first key is still good for, as the next command to type."""
    missing = missing_offices(connection, now_s)
    if not missing:
        return "use a key of your own"
    return (
        f"the first key only makes the three administrators; missing: {', '.join(missing)}. "
        f"Next: `ashore access user create NAME --role {missing[0]}`"
    )


def makers_of(connection: Connection, account: str) -> frozenset[str]:
    """Return an account and everybody who ever made a key for it, and for them, and so on; not the first key.

    Whoever makes a key knows it. Two accounts that have a maker in common may be one person.
    """
    found: set[str] = set()
    todo = [account]
    while todo:
        one = todo.pop()
        if one and one not in found and one.partition("@")[0] != FIRST_KEY_ID:
            found.add(one)
            todo += [key.created_by for key in sql.list_keys(connection, owner=one, limit=10_000)]
    return frozenset(found)


def _candidates(connection: Connection, compiled: Compiled) -> list[Account]:
    """Return the accounts that a binding to an office means, by themselves or by a group."""
    found: dict[str, Account] = {}
    for binding in compiled.policy.bindings:
        if binding.role not in OFFICERS:
            continue
        kind, _, name = binding.subject.partition("/")
        if kind == "group":
            found.update({account.id: account for account in sql.members_of(connection, name)})
        else:
            account = sql.find_account(connection, name)
            if account is not None:
                found[account.id] = account
    return list(found.values())


def _has_key(connection: Connection, account: Account, now_s: int, key_gone: str) -> bool:
    return any(
        key.key_id != key_gone and key.is_live(now_s)
        for key in sql.list_keys(connection, owner=account.id, limit=10_000)
    )
