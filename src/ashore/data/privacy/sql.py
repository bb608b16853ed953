"""The policy in the state, if an administrator wrote one, and the pseudonym secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from ashore.core.errors import Conflict
from ashore.data.privacy.custom import check_policy
from ashore.data.privacy.policy import PrivacyPolicy
from ashore.kit.state import bump, execute, kept_secret, row_lock

if TYPE_CHECKING:
    from sqlalchemy import Connection

POLICY_EPOCH: Final = "policy"
SECRET: Final = "privacy"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPolicy:
    """A stored policy."""

    policy: PrivacyPolicy | None
    """None: there is none, and that of ashore.toml holds."""
    version: int
    """Raised by every change; 0 where there never was one."""


def privacy_secret(connection: Connection) -> bytes:
    """Return the key of pseudonyms, made at the first call. Needs a writing transaction."""
    return kept_secret(connection, SECRET)


def load_policy(connection: Connection) -> StoredPolicy:
    """Return the policy of the state."""
    return _read(connection, "")


def save_policy(
    connection: Connection, policy: PrivacyPolicy | None, *, replaces: int, who: str, now_s: int
) -> StoredPolicy:
    """Replace the policy of version `replaces`; takes effect in every process within 200 ms.

    Args:
        connection: A writing transaction.
        policy: The new one; None: back to that of ashore.toml.
        replaces: The version that the new one is based on.
        who: Principal who changes it.
        now_s: Time.

    Raises:
        InvalidSpec: the policy cannot be used.
        Conflict: it was changed in between.
    """
    if policy is not None:
        check_policy(policy)
    seen = _read(connection, row_lock(connection))
    refuse_older(seen, replaces)
    execute(
        connection,
        "INSERT INTO privacy_policy (name, document, version, changed_by, changed_s) "
        "VALUES ('policy', :document, :version, :who, :now_s) ON CONFLICT (name) DO UPDATE SET "
        "document = excluded.document, version = excluded.version, changed_by = excluded.changed_by, "
        "changed_s = excluded.changed_s WHERE privacy_policy.version = :replaces",
        document="" if policy is None else msgspec.json.encode(policy).decode(),
        version=replaces + 1,
        who=who,
        now_s=now_s,
        replaces=replaces,
    )
    bump(connection, POLICY_EPOCH)
    return StoredPolicy(policy=policy, version=replaces + 1)


def read_policy(connection: Connection) -> StoredPolicy:
    """Return the policy of the state, held until the end of a writing transaction."""
    return _read(connection, row_lock(connection))


def refuse_older(seen: StoredPolicy, replaces: int) -> None:
    """Raise `Conflict` unless a change is based on the version in force."""
    if seen.version != replaces:
        raise Conflict(
            f"the privacy policy is at version {seen.version}, and this change is based on version {replaces}",
            hint="read the policy again, and repeat the change on that version",
        )


def _read(connection: Connection, lock: str) -> StoredPolicy:
    query = "SELECT document, version FROM privacy_policy WHERE name = 'policy'" + lock
    row = execute(connection, query).mappings().first()
    if row is None:
        return StoredPolicy(policy=None, version=0)
    document = str(row["document"])
    policy = msgspec.json.decode(document, type=PrivacyPolicy) if document else None
    return StoredPolicy(policy=policy, version=int(row["version"]))
