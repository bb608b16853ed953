"""A new first key where administrators lost theirs, or rules block all administration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ashore.control.access.book import save
from ashore.core.errors import Conflict
from ashore.data.authority import Binding, make_first_key, sql
from ashore.data.authority.acts import SYSTEM, Acts, Desk
from ashore.data.authority.offices import bindings_in_the_way, missing_offices, standing_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Revived:
    """Result of the repair."""

    missing: tuple[str, ...]
    """Offices without a holder who has a valid key; the new first key can create their holders. Empty: no new key."""
    taken_away: tuple[Binding, ...]
    """Removed bindings, whose rules blocked administration."""
    revoked: tuple[str, ...] = ()
    """Keys of the administrators that were revoked as lost."""


def revive_first_key(acts: Acts, path: Path, *, machine: str = "", lost: bool = False, by: str = "") -> Revived:
    """Remove bindings that block all administration, and write a new first key to `path` if an office has no usable
    holder.

    The key creates the missing administrators, and is revoked when all three exist. Anyone with write access to state
    and home could do the same by hand; this way it is audited.

    Args:
        acts: Performs and audits it.
        path: The file of the first key.
        machine: Name of the home among those that share the state.
        by: Who runs the command, as the system knows them.
        lost: The keys of the administrators are lost: revoke all keys of the holders of the three offices first.

    Raises:
        Conflict: every office has a holder with a valid key and the rights of the office.
    """
    with acts.write(SYSTEM, "first-key:revive", "first-key") as desk:
        desk.detail["by"] = by
        revoked = _revoke_officers(desk) if lost else ()
        taken = bindings_in_the_way(standing_of(desk.connection, desk.compiled, desk.now_s))
        if taken:
            policy = desk.compiled.policy
            mended = replace(policy, bindings=tuple(one for one in policy.bindings if one not in taken))
            save(desk, mended, comment="revived: nobody could administer")
            desk.detail["taken_away"] = ", ".join(f"{one.subject} has {one.role}" for one in taken)[:1000]
        missing = missing_offices(desk.connection, desk.now_s)
        if not missing and not taken:
            raise Conflict(
                "every office has a holder with a valid key and the rights of the office",
                hint="a security officer makes further keys; if their keys are lost, add --lost",
            )
        if missing:
            path.unlink(missing_ok=True)
            sql.forget_first_keys(desk.connection)
            sql.keep_first_key(desk.connection, make_first_key(path), machine=machine, created_s=desk.now_s)
            desk.detail["missing"] = ", ".join(missing)
    return Revived(missing=missing, taken_away=taken, revoked=revoked)


def _revoke_officers(desk: Desk) -> tuple[str, ...]:
    """Revoke every valid key of all holders of the three offices; return their ids."""
    officers = standing_of(desk.connection, desk.compiled, desk.now_s).officers
    holders = sorted(frozenset[str]().union(*officers.values()))
    keys = [key for one in holders for key in sql.list_keys(desk.connection, owner=one, limit=10_000)]
    live = [key for key in keys if key.is_live(desk.now_s)]
    for key in live:
        sql.save_key(desk.connection, replace(key, revoked_s=desk.now_s))
    desk.before = standing_of(desk.connection, desk.compiled, desk.now_s)  # the new first key creates the missing ones
    desk.detail["lost"] = ", ".join(f"{key.key_id} of {key.owner}" for key in live)[:1000]
    return tuple(key.key_id for key in live)
