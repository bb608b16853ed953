"""Holders of the three offices, offices still missing before the first key is revoked, and what a change would lose.

Somebody must always be able to change the policy and the accounts. The check looks at the outcome of a change, by the
decisions that would follow, not at the change itself: deny rules, narrow keys, groups and tenants all count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ashore.core.principal import DEFAULT_TENANT, Principal
from ashore.data.authority import sql
from ashore.data.authority.actions import (
    ACCESS_WRITE,
    FIRST_ADMINISTRATORS,
    POLICY_WRITE,
    ROLE_GRANT,
    matches_action,
    offices_of,
)
from ashore.data.authority.authority import Compiled
from ashore.data.authority.policy import Binding, Policy, Role
from ashore.data.authority.records import FIRST_KEY_ID, Account
from ashore.data.authority.roles import BUILT_IN, FIRST_KEY, OFFICERS, SECURITY_OFFICER

if TYPE_CHECKING:
    from sqlalchemy import Connection

CONSENT_S: Final = 86_400
"""Validity of a consent to a change of an auditor."""
ADMINISTERING: Final = (
    (POLICY_WRITE, "policy"),
    (ROLE_GRANT, f"role/{SECURITY_OFFICER}"),
    (ACCESS_WRITE, f"tenant/{DEFAULT_TENANT}/user/new"),
)
"""What one person must be able to do, so that everything else can be put right: change the policy, and make a further
security officer."""

_ROLES: Final = {role.name: role for role in BUILT_IN}
_NEW_OFFICER: Final = Principal(id="new", tenant=DEFAULT_TENANT, roles=frozenset((SECURITY_OFFICER,)))
"""Somebody whom an administrator could make."""
_FIRST: Final = Principal(id=FIRST_KEY_ID, kind="first-key", tenant=DEFAULT_TENANT, roles=frozenset((FIRST_KEY,)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Potential administrators at one moment: enabled, with a live key that is wide enough."""

    compiled: Compiled
    administrators: tuple[Principal, ...]
    """Principals that may do all of `ADMINISTERING`."""
    officers: Mapping[str, frozenset[str]]
    """Ids of accounts by office. A security officer who may not administer is none."""
    resources: Mapping[str, str]
    """Of the accounts of `officers`, by id."""
    powers: frozenset[tuple[str, str, bool]]
    """Which enabled account has which role with powers of an office, and whether a live key opens them."""


def standing_of(connection: Connection, compiled: Compiled, now_s: int) -> Standing:
    """Return the potential administrators, by the accounts and keys of this transaction."""
    holders: dict[str, set[str]] = {role: set() for role in OFFICERS}
    administrators = []
    resources: dict[str, str] = {}
    powers: set[tuple[str, str, bool]] = set()
    for who in _holders(connection, compiled, now_s):
        powers |= {(who.id, role.name, bool(who.key_id)) for role, _ in compiled.roles_of(who) if role.offices}
        if not who.key_id:
            continue
        administers = _administers(compiled, who)
        if administers:
            administrators.append(who)
        for role, _ in compiled.roles_of(who):
            if role.name not in holders or not role.offices:  # by a group of a directory it has no powers
                continue
            if administers if role.name == SECURITY_OFFICER else _admits(who, role):
                holders[role.name].add(who.id)
                resources[who.id] = f"tenant/{who.tenant}/{who.kind}/{who.id}"
    officers = {role: frozenset(ids) for role, ids in holders.items()}
    return Standing(
        compiled=compiled, administrators=tuple(administrators), officers=officers, resources=resources,
        powers=frozenset(powers),
    )  # fmt: skip


def roles_gained(before: Standing, after: Standing) -> tuple[str, ...]:
    """Return the roles with powers of an office that a subject has newly gained, or can newly use by a key."""
    return tuple(sorted({role for _, role, _ in after.powers - before.powers}))


def lost_between(before: Standing, after: Standing) -> tuple[str, ...]:
    """Return what could be changed before and could never be changed again, as `ACTION on RESOURCE`."""
    if not before.administrators:
        return ()
    if not after.administrators:
        return tuple(f"{action} on {resource}" for action, resource in ADMINISTERING)
    return tuple(
        f"{action} on {resource}"
        for action, resource in _denied_places(after.compiled.policy)
        if not _reaches(after, action, resource) and _reaches(before, action, resource)
    )


def bindings_in_the_way(standing: Standing) -> tuple[Binding, ...]:
    """Return the bindings whose deny rules block all administration; none if somebody can administer."""
    policy = standing.compiled.policy
    if standing.administrators and all(_reaches(standing, *place) for place in _denied_places(policy)):
        return ()
    taken: list[Binding] = []
    while True:
        compiled = Compiled(policy)
        asked = [(_NEW_OFFICER, *place) for place in (*ADMINISTERING, *_denied_places(policy))]
        asked += [(_FIRST, ACCESS_WRITE, f"{FIRST_ADMINISTRATORS}/{role}") for role in OFFICERS]
        decisions = (compiled.decide(*question) for question in asked)
        found = next((one for one in decisions if not one.allowed and one.role), None)
        if found is None:
            return tuple(taken)
        taken.append(Binding(found.subject, found.role))
        policy = replace(policy, bindings=tuple(one for one in policy.bindings if one != taken[-1]))


def missing_offices(connection: Connection, now_s: int) -> tuple[str, ...]:
    """Return the offices without a holder who has a live key."""
    officers = standing_of(connection, Compiled(sql.load_policy(connection)), now_s).officers
    return tuple(role for role in OFFICERS if not officers[role])


def bootstrap_hint(connection: Connection, now_s: int) -> str:
    """Return the remaining uses of the first key, as the next command to type."""
    missing = missing_offices(connection, now_s)
    if not missing:
        return "use your own key"
    return (
        f"the first key may only create the three administrators; missing: {', '.join(missing)}. "
        f"Next: `ashore access user create NAME --role {missing[0]}`"
    )


def makers_of(connection: Connection, account: str) -> frozenset[str]:
    """Return an account and everybody who ever created a key or a log-in for it, transitively; without the first key.

    The creator of a key knows it. Two accounts with a common creator may be one person.
    """
    found: set[str] = set()
    todo = [account]
    while todo:
        one = todo.pop()
        if one and one not in found and one.partition("@")[0] != FIRST_KEY_ID:
            found.add(one)
            todo += [key.created_by for key in sql.list_keys(connection, owner=one, limit=10_000)]
            todo += sql.makers_of_log_in(connection, one)
    return frozenset(found)


def _administers(compiled: Compiled, who: Principal) -> bool:
    return all(compiled.decide(who, action, resource).allowed for action, resource in ADMINISTERING)


def _reaches(standing: Standing, action: str, resource: str) -> bool:
    """Return whether an administrator, or another security officer whom they could create, may do this."""
    return any(
        standing.compiled.decide(who, action, resource).allowed for who in (*standing.administrators, _NEW_OFFICER)
    )


def _denied_places(policy: Policy) -> Iterator[tuple[str, str]]:
    """Return the security officer's actions at each resource where a rule denies one to somebody."""
    mine = [rule.action for rule in _ROLES[SECURITY_OFFICER].rules]
    for denied in {rule for role in policy.roles for rule in role.rules if rule.effect == "deny"}:
        for action in mine:
            if matches_action(denied.action, action):
                yield action, denied.resource


def _admits(who: Principal, role: Role) -> bool:
    """Return whether a key is wide enough for the powers of an office."""
    scope = who.scope.actions
    powers = [rule.action for rule in role.rules if offices_of(rule.action)]
    return not scope or all(any(matches_action(one, action) for one in scope) for action in powers)


def _holders(connection: Connection, compiled: Compiled, now_s: int) -> Iterator[Principal]:
    """Return each enabled account with an office by a binding, and the principal of each of its live keys."""
    shut = {tenant.name for tenant in sql.list_tenants(connection) if tenant.disabled}
    for account in _candidates(connection, compiled.policy):
        if account.is_out or account.tenant in shut:
            continue
        who = account.principal
        yield who
        for key in sql.list_keys(connection, owner=account.id, limit=10_000):
            if key.is_live(now_s):
                yield replace(who, key_id=key.key_id, scope=key.scope)


def _candidates(connection: Connection, policy: Policy) -> list[Account]:
    """Return the accounts with powers of an office by a binding, directly or by a group."""
    roles = _ROLES | {role.name: role for role in policy.roles}
    found: dict[str, Account] = {}
    members: dict[str, list[Account]] | None = None
    powerful = {name for name, role in roles.items() if role.offices}
    for subject in {binding.subject for binding in policy.bindings if binding.role in powerful}:
        kind, _, name = subject.partition("/")
        if kind == "group":
            members = sql.members(connection) if members is None else members
            found.update({account.id: account for account in members.get(name, ())})
        else:
            account = sql.find_account(connection, name)
            if account is not None:
                found[account.id] = account
    return list(found.values())
