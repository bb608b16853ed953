"""What a key must keep to that people make for themselves: no wider, no longer and no more than what they have."""

from __future__ import annotations

from typing import Final

from ashore.access import sql
from ashore.access.acts import Desk, principal_of
from ashore.access.authority import raised_by, withheld
from ashore.access.records import Account
from ashore.errors import Conflict, InvalidRequest, PermissionDenied

MOST_OWN: Final = 20
"""Live keys that an account has made for itself. Those that an officer made for it are not counted."""
MOST_A_DAY: Final = 200
"""Keys that an account makes for itself within a day: every process remembers the revoked ones, too."""
DAY_S: Final = 86_400


def keep_own_rights(desk: Desk, account: Account, action: str, resource: str) -> None:
    """Return when a key of the actor's own account opens nothing that the actor may not do now.

    Neither a restricted key nor a session without a fresh proof makes a key without that restriction, and what a token
    of an issuer denies is denied to the key.

    Raises:
        PermissionDenied: it would open more; or the actor lacks `action`.
    """
    desk.require(action, resource)
    lacking = withheld(desk.compiled, desk.principal)
    raised = lacking or raised_by(desk.compiled, desk.compiled, desk.principal, principal_of(account))
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
    """Return how long a key may live that ends no later than the key that makes it, and is counted where that one is.

    Raises:
        InvalidRequest: it asks for longer.
        Conflict: a budget counts the key in use apart, so another key would not be counted there.
    """
    used = desk.principal.key_id
    if not used:
        return expires_in_s
    rules = sql.budgets_of_key(desk.connection, used, owner=desk.principal.id, tenant=desk.principal.tenant)
    if rules:
        raise Conflict(
            f"the budget {rules[0]} counts the key {used} apart, and would not count another key with it",
            hint="create the key in the console, or ask a system administrator to set the budget with --user",
        )
    key = sql.find_key(desk.connection, used)
    if key is None or key.expires_s is None:
        return expires_in_s
    left_s = max(1, key.expires_s - desk.now_s)
    if (expires_in_s or 0) > left_s:
        raise InvalidRequest(
            f"the key would be valid for {expires_in_s} s, and the key {used} that makes it for {left_s} s",
            hint="leave the lifetime out, and it ends when that one ends",
            param="expires_in_s",
        )
    return expires_in_s or left_s


def keep_within(desk: Desk, account: Account, most: int) -> None:
    """Return when an account may make one more key for itself.

    Raises:
        Conflict: it has made `most` that are live, or many within a day.
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
