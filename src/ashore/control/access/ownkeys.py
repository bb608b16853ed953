"""Limits of keys that people create for themselves: no wider, longer or stronger than their own rights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ashore.core.errors import Conflict, InvalidRequest, PermissionDenied
from ashore.data.authority import Account, KeyRecord, raised_by, sql, withheld
from ashore.data.authority.acts import Desk

MOST_OWN: Final = 20
"""Live keys that an account has made for itself. Those that an officer made for it are not counted."""
MOST_A_DAY: Final = 200
"""Keys that an account makes for itself within a day: every process remembers the revoked ones, too."""
DAY_S: Final = 86_400


def keep_own_rights(desk: Desk, account: Account, action: str, resource: str) -> None:
    """Check that a key of the actor's own account grants nothing beyond the actor's current rights.

    A restricted key, or a session without a fresh proof, cannot create a key without that restriction, even with the
    right to create keys for everyone; denials of an issuer's token apply to the key, too.

    Raises:
        PermissionDenied: it would grant more; or the actor lacks `action`.
    """
    desk.require(action, resource)
    lacking = withheld(desk.compiled, desk.principal)
    raised = lacking or raised_by(desk.compiled, desk.compiled, desk.principal, account.principal)
    if not raised:
        return
    here = f"the key {desk.principal.key_id}" if desk.principal.key_id else "this session"
    raise PermissionDenied(
        f"{here} does not open all that a key of {account.subject} would: {raised}",
        hint="use a key of yours without restrictions; in the console, set up a second factor on the page Me; "
        "or ask a security officer",
        action=action,
        resource=resource,
        rule="a key opens no more than what makes it",
    )


def own_span(desk: Desk, expires_in_s: int | None) -> int | None:
    """Return the lifetime of a key that ends no later than the key that creates it, and is counted in the same budgets.

    Raises:
        InvalidRequest: it requests a longer lifetime.
        Conflict: a budget counts the key in use apart, so another key would not be counted there.
    """
    used = desk.principal.key_id
    if not used:
        return expires_in_s
    _refuse_escape(used, list(_apart(desk, used)))
    left_s = _left_s(desk)
    if left_s is None:
        return expires_in_s
    if (expires_in_s or 0) > left_s:
        raise InvalidRequest(
            f"the key would be valid for {expires_in_s} s, and the key {used} that makes it for {left_s} s",
            hint="leave the lifetime out, and it ends when that one ends",
            param="expires_in_s",
        )
    return expires_in_s or left_s


def replaced_span(desk: Desk, account: Account, old: KeyRecord, life_s: int | None) -> int | None:
    """Return the lifetime of a key that replaces the actor's own key `old`: `life_s`, but no longer than the key in use
    if that is another one. A key that a budget counts separately cannot be replaced; if the budget counts every key
    separately, once a day.

    Raises:
        Conflict: a budget counts `old` separately, or the account has created a key today.
    """
    used = desk.principal.key_id
    if not used:
        return life_s
    rules = _apart(desk, old.key_id)
    _refuse_escape(old.key_id, [name for name, key in rules.items() if key == old.key_id])
    if rules and sql.count_own_keys(desk.connection, account.id, now_s=desk.now_s, since_s=desk.now_s - DAY_S)[1]:
        raise Conflict(
            f"the budget {next(iter(rules))} counts each key apart, and {account.subject} has created one within a day",
            hint="rotate the key tomorrow, or in the console",
        )
    left_s = _left_s(desk)
    if old.key_id == used or left_s is None:
        return life_s
    return min(life_s or left_s, left_s)


def _apart(desk: Desk, key_id: str) -> dict[str, str]:
    return sql.budgets_of_key(desk.connection, key_id, owner=desk.principal.id, tenant=desk.principal.tenant)


def _refuse_escape(key_id: str, rules: Sequence[str]) -> None:
    if rules:
        raise Conflict(
            f"the budget {rules[0]} counts the key {key_id} apart, and would not count another key with it",
            hint="create the key in the console, or ask a system administrator to set the budget with --user",
        )


def _left_s(desk: Desk) -> int | None:
    """Return the remaining lifetime of the key in use; None: unlimited, or there is none."""
    key = sql.find_key(desk.connection, desk.principal.key_id)
    return None if key is None or key.expires_s is None else max(1, key.expires_s - desk.now_s)


def keep_within(desk: Desk, account: Account, most: int) -> None:
    """Check that an account may create one more key for itself.

    Raises:
        Conflict: it has `most` live ones, or created many within a day.
    """
    since_s = desk.now_s - DAY_S
    live, made = sql.count_own_keys(desk.connection, account.id, now_s=desk.now_s, since_s=since_s)
    if live >= most:
        raise Conflict(
            f"{account.subject} has created {live} keys that are still valid; at most {most} are allowed",
            hint=f"revoke one: `ashore access key list --owner {account.id}`, then `ashore access key revoke KEY`",
        )
    if made >= MOST_A_DAY:
        raise Conflict(
            f"{account.subject} has created {made} keys within a day; at most {MOST_A_DAY} are allowed",
            hint="keep using a key until it is replaced, or ask a security officer for one",
        )
