"""SQL of the access room. Each function runs inside a transaction that the caller opened.

Rows of accounts and keys carry the epoch of their last change, so that a process that holds 100,000 of them reads only
the changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from ashore.core.principal import WIDE, KeyScope
from ashore.data.authority.keys import PREFIX_CHARS, digest_of
from ashore.data.authority.policy import Binding, Policy, Role, parse_rule
from ashore.data.authority.records import Account, Group, KeyRecord, PolicyVersion, Tenant
from ashore.kit.state import among, bump, contains, execute, execute_many, insert, pattern_of, upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection, RowMapping

KEYS_EPOCH: Final = "keys"
"""Tenants, accounts, groups and keys: who is asking."""
POLICY_EPOCH: Final = "access"
"""Roles and bindings: what they may do."""
KEPT_VERSIONS: Final = 200
"""Number of stored policy versions; the audit log keeps every change as long as required."""


class _RoleOut(msgspec.Struct, frozen=True):
    name: str
    title: str
    rules: list[str]


class _Document(msgspec.Struct, frozen=True):
    roles: list[_RoleOut]
    bindings: list[tuple[str, str]]


_document = msgspec.json.Decoder(_Document)


def touch(connection: Connection) -> int:
    """Raise the epoch of accounts and keys, and return it for the changed rows.

    Other writers wait until this transaction ends.
    """
    return bump(connection, KEYS_EPOCH)


# --- tenants, accounts, groups


def save_tenant(connection: Connection, tenant: Tenant) -> None:
    """Save a tenant; the same name again replaces it."""
    touch(connection)
    row = {**asdict(tenant), "disabled": int(tenant.disabled)}
    upsert(connection, "access_tenant", row, key="name", keep=("created_s",))


def list_tenants(connection: Connection) -> tuple[Tenant, ...]:
    """Return every tenant, by name."""
    rows = execute(connection, "SELECT name, title, disabled, created_s FROM access_tenant ORDER BY name").mappings()
    return tuple(Tenant(**{**row, "disabled": bool(row["disabled"])}) for row in rows)


def find_tenant(connection: Connection, name: str) -> Tenant | None:
    """Return one tenant."""
    return next((tenant for tenant in list_tenants(connection) if tenant.name == name), None)


def save_account(connection: Connection, account: Account) -> None:
    """Save an account; the same id again replaces it."""
    save_accounts(connection, (account,))


def save_accounts(connection: Connection, accounts: Iterable[Account]) -> None:
    """Save accounts, as one change; the same id again replaces one."""
    changed = touch(connection)
    execute_many(
        connection,
        "INSERT INTO access_account "
        "(id, kind, tenant, title, groups, given_groups, disabled, shut, removed, created_s, changed) "
        "VALUES (:id, :kind, :tenant, :title, :groups, :given_groups, :disabled, :shut, 0, :created_s, :changed) "
        "ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, tenant = excluded.tenant, title = excluded.title, "
        "groups = excluded.groups, given_groups = excluded.given_groups, disabled = excluded.disabled, "
        "shut = excluded.shut, removed = 0, changed = excluded.changed, "
        "created_s = CASE WHEN access_account.removed = 1 THEN excluded.created_s ELSE access_account.created_s END",
        [
            {
                "id": account.id,
                "kind": account.kind,
                "tenant": account.tenant,
                "title": account.title,
                "groups": " ".join(sorted(account.groups)),
                "given_groups": " ".join(sorted(account.given_groups)),
                "disabled": int(account.disabled),
                "shut": account.shut_s,
                "created_s": account.created_s,
                "changed": changed,
            }
            for account in accounts
        ],
    )


def shut_since(connection: Connection, since_s: int, before_s: int) -> list[tuple[str, int]]:
    """Return the accounts that a directory or provisioner disabled in a time, each with when, the latest first."""
    query = "SELECT id, shut FROM access_account WHERE shut >= :since AND shut < :before AND removed = 0"
    rows = execute(connection, f"{query} ORDER BY shut DESC, id", since=since_s, before=before_s)
    return [(str(row.id), int(row.shut)) for row in rows]


def remove_account(connection: Connection, account_id: str) -> None:
    """Mark an account as removed. Its row stays, so that every process sees the removal. What it stored gets another
    owner, `NAME (removed NUMBER)`: somebody who later has its name must not find it."""
    changed = touch(connection)
    execute(
        connection,
        "UPDATE access_account SET removed = 1, disabled = 1, groups = '', given_groups = '', changed = :changed "
        "WHERE id = :id",
        id=account_id,
        changed=changed,
    )
    end_consents(connection, account_id)
    for table in ("conversation", "job", "stored_file"):
        statement = f"UPDATE {table} SET account = :gone WHERE account = :id"
        execute(connection, statement, id=account_id, gone=f"{account_id} (removed {changed})")
    execute(connection, "DELETE FROM assistant WHERE owner = :id", id=account_id)


def find_account(connection: Connection, account_id: str) -> Account | None:
    """Return one account."""
    query = "SELECT * FROM access_account WHERE id = :id AND removed = 0"
    row = execute(connection, query, id=account_id).mappings().first()
    return None if row is None else _account(row)


def list_accounts(
    connection: Connection,
    *,
    kind: str = "",
    tenant: str = "",
    search: str = "",
    disabled: bool = False,
    after: str = "",
    limit: int = 1000,
) -> tuple[Account, ...]:
    """Return accounts by id, a page of them: those after `after`. `disabled`: only those that are."""
    query = (
        "SELECT * FROM access_account WHERE removed = 0 AND id > :after AND (:kind = '' OR kind = :kind) "
        "AND (:tenant = '' OR tenant = :tenant) AND (:out = 0 OR disabled + shut > 0) "
        f"{contains('id', 'title') if search else ''} ORDER BY id LIMIT :limit"
    )
    places = {"kind": kind, "tenant": tenant, "after": after, "limit": limit, "out": int(disabled)}
    rows = execute(connection, query, **places, **pattern_of(search)).mappings()
    return tuple(_account(row) for row in rows)


def accounts_named(connection: Connection, names: Collection[str]) -> dict[str, Account]:
    """Return the accounts of these ids that there are."""
    places: dict[str, object] = {}
    query = f"SELECT * FROM access_account WHERE removed = 0 AND {among('id', names, places)}"
    return {row["id"]: _account(row) for row in execute(connection, query, **places).mappings()}


def accounts_of_issuer(connection: Connection, name: str) -> dict[str, Account]:
    """Return the accounts with ids of an issuer or directory, by id. Its name has no wild cards."""
    query = "SELECT * FROM access_account WHERE removed = 0 AND id LIKE :pattern"
    rows = execute(connection, query, pattern=f"{name}:%").mappings()
    return {row["id"]: _account(row) for row in rows}


def members_of(connection: Connection, group: str) -> tuple[Account, ...]:
    """Return the accounts in a group."""
    return tuple(members(connection).get(group, ()))


def members(connection: Connection) -> dict[str, list[Account]]:
    """Return the accounts in each group that has any."""
    rows = execute(
        connection, "SELECT * FROM access_account WHERE removed = 0 AND groups || given_groups <> ''"
    ).mappings()
    found: dict[str, list[Account]] = {}
    for account in map(_account, rows):
        for group in account.groups | account.given_groups:
            found.setdefault(group, []).append(account)
    return found


def changed_accounts(connection: Connection, since: int) -> tuple[tuple[Account, ...], tuple[str, ...]]:
    """Return the accounts that changed after an epoch, and the ids of removed ones."""
    rows = execute(connection, "SELECT * FROM access_account WHERE changed > :since", since=since).mappings().all()
    there = tuple(_account(row) for row in rows if not row["removed"])
    return there, tuple(str(row["id"]) for row in rows if row["removed"])


def save_group(connection: Connection, group: Group) -> None:
    """Save a group; the same name again replaces it."""
    upsert(connection, "access_group", asdict(group), key="name", keep=("created_s",))


def list_groups(connection: Connection) -> tuple[Group, ...]:
    """Return every group, by name."""
    rows = execute(connection, "SELECT name, title, created_s FROM access_group ORDER BY name").mappings()
    return tuple(Group(**row) for row in rows)


def remove_group(connection: Connection, name: str) -> None:
    """Remove a group; assistants that were shared with it are their owners' alone again."""
    execute(connection, "DELETE FROM access_group WHERE name = :name", name=name)
    execute(connection, "UPDATE assistant SET shared = '' WHERE shared = :name", name=name)


# --- keys


def save_key(connection: Connection, key: KeyRecord) -> None:
    """Save a key's digest; the same `key_id` again replaces the row."""
    row = {
        "key_id": key.key_id,
        "digest": key.digest,
        "principal": key.owner,
        "tenant": key.tenant,
        "scopes": " ".join(key.scope.actions),
        "created_s": key.created_s,
        "revoked_s": key.revoked_s,
        "prefix": key.prefix,
        "title": key.title,
        "owner_kind": key.owner_kind,
        "models": " ".join(key.scope.models),
        "networks": " ".join(key.scope.networks),
        "created_by": key.created_by,
        "made_with": key.made_with,
        "expires_s": key.expires_s,
        "last_used_s": key.last_used_s,
        "changed": touch(connection),
    }
    upsert(connection, "access_key", row, key="key_id", keep=("made_with", "last_used_s"))


def find_key(connection: Connection, key_id: str) -> KeyRecord | None:
    """Return one key."""
    query = "SELECT * FROM access_key WHERE key_id = :key_id"
    row = execute(connection, query, key_id=key_id).mappings().first()
    return None if row is None else _key(row)


KeyState = Literal["", "valid", "unused", "ended"]
"""unused: valid, but neither made nor used in the last 30 days; ended: revoked or expired."""
UNUSED_S: Final = 30 * 86_400
_VALID: Final = "revoked_s IS NULL AND (expires_s IS NULL OR expires_s > :now_s)"
_IN_STATE: Final[Mapping[str, str]] = {
    "valid": f"AND {_VALID}",
    "unused": f"AND {_VALID} AND created_s < :since_s AND COALESCE(last_used_s, 0) < :since_s",
    "ended": f"AND NOT ({_VALID})",
}


def list_keys(
    connection: Connection,
    *,
    owner: str = "",
    tenant: str = "",
    search: str = "",
    state: KeyState = "",
    now_s: int = 0,
    after: str = "",
    limit: int = 1000,
) -> tuple[KeyRecord, ...]:
    """Return keys, the newest first, revoked ones too, a page of them: those behind the key `after`.

    Args:
        connection: Of the caller's transaction.
        owner: Only keys of this account.
        tenant: Only keys of this tenant.
        search: Only keys whose id, owner or title contains it.
        state: Only keys in this state at `now_s`.
        now_s: Seconds since 1970.
        after: Id of the last key of the page before.
        limit: The most of them.
    """
    behind = (
        "AND (created_s, key_id) < (SELECT created_s, key_id FROM access_key WHERE key_id = :after)" if after else ""
    )
    query = (
        "SELECT * FROM access_key WHERE (:owner = '' OR principal = :owner) AND (:tenant = '' OR tenant = :tenant) "
        f"{behind} {_IN_STATE.get(state, '')} {contains('key_id', 'principal', 'title') if search else ''} "
        "ORDER BY created_s DESC, key_id DESC LIMIT :limit"
    )
    rows = execute(
        connection, query, owner=owner, tenant=tenant, after=after, now_s=now_s, since_s=now_s - UNUSED_S, limit=limit,
        **pattern_of(search),
    ).mappings()  # fmt: skip
    return tuple(_key(row) for row in rows)


def count_own_keys(connection: Connection, owner: str, *, now_s: int, since_s: int) -> tuple[int, int]:
    """Return how many live keys an account has created for itself, and how many since a time, revoked ones included."""
    query = (
        "SELECT COUNT(CASE WHEN revoked_s IS NULL AND (expires_s IS NULL OR expires_s > :now_s) THEN 1 END) AS live, "
        "COUNT(CASE WHEN created_s >= :since_s THEN 1 END) AS made "
        "FROM access_key WHERE principal = :owner AND created_by = :owner"
    )
    row = execute(connection, query, owner=owner, now_s=now_s, since_s=since_s).mappings().one()
    return int(row["live"]), int(row["made"])


def made_with(connection: Connection, key_id: str) -> tuple[KeyRecord, ...]:
    """Return the keys created with a key, those created with them, and so on; the oldest first."""
    query = (
        "WITH RECURSIVE made(key_id) AS (SELECT key_id FROM access_key WHERE made_with = :key_id AND made_with <> '' "
        "UNION SELECT access_key.key_id FROM access_key JOIN made ON access_key.made_with = made.key_id) "
        "SELECT * FROM access_key WHERE key_id IN (SELECT key_id FROM made) ORDER BY created_s, key_id"
    )
    return tuple(_key(row) for row in execute(connection, query, key_id=key_id).mappings())


def budgets_of_key(connection: Connection, key_id: str, *, owner: str, tenant: str) -> dict[str, str]:
    """Return the budgets that count a key of an account separately: by name, with the key that each names, or `*`."""
    query = (
        "SELECT rule_id, api_key FROM budget_rule WHERE api_key IN (:key_id, '*') "
        "AND principal IN ('', '*', :owner) AND tenant IN ('', '*', :tenant) ORDER BY rule_id"
    )
    rows = execute(connection, query, key_id=key_id, owner=owner, tenant=tenant).mappings()
    return {row["rule_id"]: row["api_key"] for row in rows}


def changed_keys(connection: Connection, since: int) -> tuple[KeyRecord, ...]:
    """Return the keys that changed after an epoch, revoked ones too."""
    rows = execute(connection, "SELECT * FROM access_key WHERE changed > :since", since=since).mappings()
    return tuple(_key(row) for row in rows)


def keep_first_key(connection: Connection, secret: str, *, machine: str = "", created_s: int) -> bool:
    """Save the digest of a home's first key, valid until the three administrators exist; return False, and save
    nothing, if they once did. May be called at every start. `machine`: the name of the home among those that share
    the state; empty: it is alone."""
    if first_key_is_dead(connection):
        return False
    key_id = f"first-key@{machine}" if machine else "first-key"
    prefix, digest = secret[:PREFIX_CHARS], digest_of(secret).sha256.hex()
    known = find_key(connection, key_id)
    if known is None or (known.digest, known.prefix) != (digest, prefix):
        forget = "DELETE FROM access_key WHERE digest = :digest AND key_id <> :key_id"  # the machine had another name
        execute(connection, forget, digest=digest, key_id=key_id)
        save_key(
            connection,
            KeyRecord(
                key_id=key_id, digest=digest, prefix=prefix, owner="first-key", tenant="default", created_s=created_s
            ),
        )
    return True


def revoke_first_keys(connection: Connection, now_s: int) -> int:
    """Revoke the first keys of all machines; return how many were still valid."""
    done = execute(
        connection,
        "UPDATE access_key SET revoked_s = :now_s, changed = :changed WHERE revoked_s IS NULL "
        "AND (key_id = 'first-key' OR key_id LIKE 'first-key@%')",
        now_s=now_s,
        changed=touch(connection),
    )
    return int(done.rowcount)


def forget_first_keys(connection: Connection) -> None:
    """Delete the first keys of all machines, dead ones too, as if none had ever been revoked."""
    touch(connection)
    execute(connection, "DELETE FROM access_key WHERE key_id = 'first-key' OR key_id LIKE 'first-key@%'")


def first_key_is_dead(connection: Connection) -> bool:
    """Return whether first keys were revoked here; then none is valid any more, on any machine."""
    query = (
        "SELECT COUNT(*) FROM access_key WHERE revoked_s IS NOT NULL "
        "AND (key_id = 'first-key' OR key_id LIKE 'first-key@%')"
    )
    return bool(execute(connection, query).scalar_one())


def note_uses(connection: Connection, uses: Mapping[str, int]) -> None:
    """Save when keys were last used; earlier times than the stored ones change nothing. Raises no epoch."""
    execute_many(
        connection,
        "UPDATE access_key SET last_used_s = :at WHERE key_id = :key_id AND (last_used_s IS NULL OR last_used_s < :at)",
        [{"key_id": key_id, "at": at} for key_id, at in sorted(uses.items())],
    )


def has_expired(connection: Connection, now_s: int) -> bool:
    """Return whether there is an expired key that is not revoked."""
    query = "SELECT COUNT(*) FROM access_key WHERE revoked_s IS NULL AND expires_s <= :now_s"
    return bool(execute(connection, query, now_s=now_s).scalar_one())


def expire_keys(connection: Connection, now_s: int) -> int:
    """Revoke expired keys, so that setting the clock back revives none; return how many."""
    done = execute(
        connection,
        "UPDATE access_key SET revoked_s = expires_s, changed = :changed WHERE revoked_s IS NULL "
        "AND expires_s <= :now_s",
        now_s=now_s,
        changed=touch(connection),
    )
    return int(done.rowcount)


def note_maker(connection: Connection, account: str, maker: str) -> None:
    """Save that an account created a log-in for another, and so may have used it. May be called twice."""
    insert(connection, "access_maker", {"account": account, "maker": maker}, once=True)


def makers_of_log_in(connection: Connection, account: str) -> list[str]:
    """Return who ever created a log-in for an account."""
    query = "SELECT maker FROM access_maker WHERE account = :account ORDER BY maker"
    return [str(row[0]) for row in execute(connection, query, account=account)]


# --- the policy


def load_policy(connection: Connection, version: int | None = None) -> Policy:
    """Return the policy in force, or an older version; the empty one if there is none."""
    if version is None:
        query = "SELECT version, document FROM access_policy ORDER BY version DESC LIMIT 1"
        row = execute(connection, query).mappings().first()
    else:
        query = "SELECT version, document FROM access_policy WHERE version = :version"
        row = execute(connection, query, version=version).mappings().first()
    if row is None:
        return Policy()
    kept = _document.decode(row["document"])
    return Policy(
        roles=tuple(
            Role(name=one.name, title=one.title, rules=tuple(parse_rule(rule) for rule in one.rules))
            for one in kept.roles
        ),
        bindings=tuple(Binding(subject, role) for subject, role in kept.bindings),
        version=int(row["version"]),
    )


def policy_mark(connection: Connection) -> tuple[int, int]:
    """Return the version of the policy in force and when it was made; zeros if there is none."""
    query = "SELECT version, created_s FROM access_policy ORDER BY version DESC LIMIT 1"
    row = execute(connection, query).mappings().first()
    return (0, 0) if row is None else (int(row["version"]), int(row["created_s"]))


def save_policy(connection: Connection, policy: Policy, *, author: str, comment: str, now_s: int) -> None:
    """Save a new version of the policy. `policy.version` must be one more than the newest."""
    document = _Document(
        roles=[_RoleOut(role.name, role.title, [str(rule) for rule in role.rules]) for role in policy.roles],
        bindings=[(binding.subject, binding.role) for binding in policy.bindings],
    )
    row = {"version": policy.version, "author": author, "comment": comment, "created_s": now_s}
    insert(connection, "access_policy", {**row, "document": msgspec.json.encode(document).decode()})
    execute(connection, "DELETE FROM access_policy WHERE version <= :old", old=policy.version - KEPT_VERSIONS)
    bump(connection, POLICY_EPOCH)


def list_versions(connection: Connection, *, limit: int = 100) -> tuple[PolicyVersion, ...]:
    """Return the versions of the policy, the newest first."""
    query = "SELECT version, author, comment, created_s FROM access_policy ORDER BY version DESC LIMIT :limit"
    return tuple(PolicyVersion(**row) for row in execute(connection, query, limit=limit).mappings())


# --- consents


def save_consent(connection: Connection, *, subject: str, principal: str, now_s: int) -> None:
    """Save a consent to a change of an auditor's account."""
    row = {"subject": subject, "principal": principal, "created_s": now_s}
    upsert(connection, "access_consent", row, key="subject, principal")


def consents_to(connection: Connection, subject: str, *, since_s: int) -> tuple[str, ...]:
    """Return who consented, at most `since_s` ago."""
    query = "SELECT principal FROM access_consent WHERE subject = :subject AND created_s >= :since_s"
    return tuple(str(row[0]) for row in execute(connection, query, subject=subject, since_s=since_s))


def use_consents(connection: Connection, subject: str) -> int:
    """Use up every consent about a subject. Return how many there were: of two transactions one has them."""
    return execute(connection, "DELETE FROM access_consent WHERE subject = :subject", subject=subject).rowcount


def end_consents(connection: Connection, principal: str) -> None:
    """End the consents that somebody gave: the key that gave them is revoked, or its owner removed."""
    execute(connection, "DELETE FROM access_consent WHERE principal = :principal", principal=principal)


@lru_cache(4096)
def _groups(text: str) -> frozenset[str]:
    """Return the groups in a column: one set for all accounts that are in the same ones."""
    return frozenset(text.split())


def _account(row: RowMapping) -> Account:
    return Account(
        id=row["id"],
        kind=row["kind"],
        tenant=row["tenant"],
        title=row["title"],
        groups=_groups(row["groups"]),
        given_groups=_groups(row["given_groups"]),
        disabled=bool(row["disabled"]),
        shut_s=row["shut"],
        created_s=row["created_s"],
    )


def _key(row: RowMapping) -> KeyRecord:
    scope = KeyScope(
        models=tuple(str(row["models"]).split()),
        actions=tuple(str(row["scopes"]).split()),
        networks=tuple(str(row["networks"]).split()),
    )
    return KeyRecord(
        key_id=row["key_id"],
        digest=row["digest"],
        owner=row["principal"],
        owner_kind=row["owner_kind"],
        tenant=row["tenant"],
        prefix=row["prefix"],
        title=row["title"],
        scope=WIDE if scope == WIDE else scope,
        created_s=row["created_s"],
        created_by=row["created_by"],
        made_with=row["made_with"],
        expires_s=row["expires_s"],
        revoked_s=row["revoked_s"],
        last_used_s=row["last_used_s"],
    )
