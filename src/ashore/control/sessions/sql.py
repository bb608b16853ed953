"""SQL of this room. Each function runs inside a transaction of the caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from ashore.control.sessions.locks import CALM_S, Tries
from ashore.control.sessions.model import Stage, Way
from ashore.control.sessions.webauthn import Passkey
from ashore.kit.state import (
    among,
    bump,
    contains,
    execute,
    execute_many,
    insert,
    opened_secret,
    pattern_of,
    row_lock,
    upsert,
    written_secret,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection, RowMapping

SESSIONS_EPOCH: Final = "sessions"
MOST_DEVICES: Final = 20
"""Browsers of one account that are remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalAccount:
    """How a user of the access room logs in here. No secret is readable in it except the pending one of its owner."""

    id: str
    password: str = field(default="", repr=False)
    """Hash; empty: none was chosen yet."""
    former: tuple[str, ...] = field(default=(), repr=False)
    password_set_s: int = 0
    factor: str = field(default="", repr=False)
    """Sealed secret of the authenticator; empty: none."""
    factor_new: str = field(default="", repr=False)
    """One that is being set up."""
    factor_session: str = ""
    """The session that sets it up. Another one gets another secret: a different person may have seen this one."""
    factor_step: int = 0
    """Of the last code that was taken; older ones are replays."""
    recovery: tuple[str, ...] = field(default=(), repr=False)
    """Digests of unused recovery codes."""
    invitation: str = field(default="", repr=False)
    """Digest of the invitation; empty: none."""
    invitation_ends_s: int = 0
    invited_by: str = ""
    disabled: bool = False
    created_s: int = 0
    last_s: int | None = None
    """Last log-in."""
    passkeys: tuple[Passkey, ...] = ()
    """Kept apart: `save_account` leaves them alone."""

    @property
    def has_factor(self) -> bool:
        """Whether there is a second factor."""
        return bool(self.factor or self.passkeys)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """A session as stored."""

    digest: str = field(repr=False)
    id: str
    stage: Stage
    way: Way
    owner: str
    """Id of the principal."""
    tenant: str
    claims: str = ""
    """What the provider said, as JSON; for the first link the id of its key."""
    sid: str = ""
    """The provider's name for its session."""
    factors: tuple[str, ...] = ()
    opened_s: int
    active_s: int
    proof_s: int
    """When code or password were given last."""
    ends_s: int
    origin: str = ""
    agent: str = ""
    next_page: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A log-in in progress at a provider."""

    state: str = field(repr=False)
    """Digest."""
    provider: str
    verifier: str = field(repr=False)
    nonce: str = field(repr=False)
    visit: str
    """Digest of the cookie of the browser that began it."""
    next_page: str
    session: str = ""
    """Digest of the session that gives a fresh proof; empty: one is to be opened."""
    origin: str = ""
    """Address that is held responsible."""
    ends_s: int


_ACCOUNT: Final = tuple(one.name for one in fields(LocalAccount) if one.name != "passkeys")
_SESSION: Final = tuple(one.name for one in fields(SessionRow))
_PASSKEY: Final = tuple(one.name for one in fields(Passkey))
_FLOW: Final = tuple(one.name for one in fields(Flow))


def _plain(row: object, names: tuple[str, ...]) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in names}
    return {name: int(one) if isinstance(one, bool) else one for name, one in values.items()}


# --- accounts


LogInState = Literal["", "invited", "locked", "disabled"]
"""invited: has not chosen a password yet; locked: failed to log in too often; disabled: the user is."""
_THERE: Final = (
    "EXISTS (SELECT 1 FROM access_account AS a WHERE a.id = login_account.id AND a.removed = 0 "
    "AND a.created_s <= login_account.created_s)"
)
"""A log-in belongs to the user that it was made for, and not to a later one of the same name."""


def find_account(connection: Connection, account: str, *, change: bool = False) -> LocalAccount | None:
    """Return a person's log-in; None: they have no password here. `change`: lock it for a change in the same
    transaction.
    """
    query = f"SELECT * FROM login_account WHERE id = :id AND {_THERE}" + (row_lock(connection) if change else "")
    row = execute(connection, query, id=account).mappings().first()
    return None if row is None else with_passkeys(connection, (_account(row),))[0]


def list_accounts(
    connection: Connection, *, search: str = "", state: LogInState = "", after: str, limit: int
) -> tuple[LocalAccount, ...]:
    """Return local accounts by id, after `after`. `state`: as in `LogInState`, where locked means any: see `locked`."""
    of_it = "SELECT 1 FROM access_account AS b WHERE b.id = login_account.id"
    theirs = (contains("b.id", "b.title") if search else "") + (
        " AND b.disabled + b.shut > 0" if state == "disabled" else ""
    )
    alike = f"AND EXISTS ({of_it} {theirs}) " if theirs else ""
    query = (
        f"SELECT * FROM login_account WHERE id > :after AND {_THERE} {alike}"
        "AND (:invited = 0 OR password = '' AND invitation_ends_s > 0) ORDER BY id LIMIT :limit"
    )
    places = {"after": after, "limit": limit, "invited": int(state == "invited")}
    rows = execute(connection, query, **places, **pattern_of(search)).mappings().all()
    return tuple(_account(row) for row in rows)


def locked(connection: Connection, now_s: float) -> frozenset[str]:
    """Return the names whose log-in is locked."""
    rows = execute(connection, "SELECT subject FROM login_tries WHERE locked_until_s > :now_s", now_s=now_s)
    return frozenset(str(row.subject) for row in rows)


def save_account(connection: Connection, account: LocalAccount) -> None:
    """Store a person's log-in, replacing the one of the same id."""
    values = _plain(account, _ACCOUNT)
    for name in ("former", "recovery"):
        values[name] = msgspec.json.encode(values[name]).decode()
    upsert(connection, "login_account", values, key="id")


# --- passkeys


def with_passkeys(connection: Connection, accounts: Sequence[LocalAccount]) -> tuple[LocalAccount, ...]:
    """Return accounts with their passkeys, without those of an earlier account of the same name."""
    places: dict[str, object] = {}
    named = among("account", [one.id for one in accounts], places)
    query = f"SELECT * FROM login_passkey WHERE {named} ORDER BY created_s, id"
    rows = execute(connection, query, **places).mappings()
    keys = [Passkey(**{name: row[name] for name in _PASSKEY}) for row in rows]
    return tuple(
        replace(one, passkeys=tuple(key for key in keys if key.account == one.id and key.created_s >= one.created_s))
        for one in accounts
    )


def open_sessions(connection: Connection, owners: Sequence[str]) -> dict[str, int]:
    """Return by owner how many sessions are open."""
    places: dict[str, object] = {}
    query = f"SELECT owner, COUNT(*) AS n FROM login_session WHERE stage = 'open' AND {among('owner', owners, places)}"
    return {row.owner: int(row.n) for row in execute(connection, f"{query} GROUP BY owner", **places)}


def add_passkey(connection: Connection, passkey: Passkey) -> bool:
    """Store a passkey; return whether it is new. An existing one keeps its owner."""
    bump(connection, SESSIONS_EPOCH)
    return bool(insert(connection, "login_passkey", _plain(passkey, _PASSKEY), once=True))


def use_passkey(connection: Connection, name: str, *, counter: int, now_s: int) -> bool:
    """Store the counter of a proof; return whether it is higher than before, or the authenticator does not count."""
    query = (
        "UPDATE login_passkey SET counter = :counter, last_s = :now_s "
        "WHERE id = :id AND (counter < :counter OR (counter = 0 AND :counter = 0))"
    )
    return bool(execute(connection, query, id=name, counter=counter, now_s=now_s).rowcount)


def remove_passkeys_of(connection: Connection, account: str, *, only: str = "") -> bool:
    """Remove all passkeys of a person, or the one with that id; return whether there was any."""
    query = "DELETE FROM login_passkey WHERE account = :account AND (:only = '' OR id = :only)"
    bump(connection, SESSIONS_EPOCH)
    return bool(execute(connection, query, account=account, only=only).rowcount)


def save_challenge(connection: Connection, digest: str, kind: str, challenge: str, ends_s: int) -> None:
    """Store the challenge of a session, replacing an earlier one. Raises no epoch."""
    query = "UPDATE login_session SET challenge = :challenge WHERE digest = :digest"
    execute(connection, query, digest=digest, challenge=f"{kind}:{ends_s}:{challenge}")


def take_challenge(connection: Connection, digest: str, kind: str, now_s: int) -> str:
    """Return the challenge of a session, once; empty: none, another one, or expired."""
    query = "SELECT challenge FROM login_session WHERE digest = :digest" + row_lock(connection)
    kept = execute(connection, query, digest=digest).scalar_one_or_none()
    execute(connection, "UPDATE login_session SET challenge = '' WHERE digest = :digest", digest=digest)
    what, _, rest = str(kept or "").partition(":")
    ends_s, _, challenge = rest.partition(":")
    return challenge if what == kind and ends_s.isdecimal() and now_s < int(ends_s) else ""


# --- secrets of authenticator apps


def seal_factor(connection: Connection, account: str, secret: bytes) -> str:
    """Return the stored form of an authenticator's secret."""
    return written_secret(connection, f"login-factor/{account}", secret)


def open_factor(connection: Connection, account: str, kept: str) -> bytes:
    """Return the secret from the output of `seal_factor`."""
    return opened_secret(connection, f"login-factor/{account}", kept)


# --- sessions


def find_session(connection: Connection, digest: str) -> SessionRow | None:
    """Return the session of a cookie."""
    row = execute(connection, "SELECT * FROM login_session WHERE digest = :digest", digest=digest).mappings().first()
    return None if row is None else _session(row)


def session_named(connection: Connection, session: str) -> SessionRow | None:
    """Return a session by its public name."""
    row = execute(connection, "SELECT * FROM login_session WHERE id = :id", id=session).mappings().first()
    return None if row is None else _session(row)


def list_sessions(
    connection: Connection, *, owner: str = "", after: str = "", limit: int = 1000, open_only: bool = False
) -> tuple[SessionRow, ...]:
    """Return sessions by public name, after `after`."""
    query = (
        "SELECT * FROM login_session WHERE id > :after AND (:owner = '' OR owner = :owner) "
        "AND (:open = 0 OR stage = 'open') ORDER BY id LIMIT :limit"
    )
    rows = execute(connection, query, owner=owner, after=after, limit=limit, open=int(open_only)).mappings()
    return tuple(_session(row) for row in rows)


def save_session(connection: Connection, row: SessionRow) -> None:
    """Store a session."""
    values = _plain(row, _SESSION)
    values["factors"] = " ".join(row.factors)
    upsert(connection, "login_session", values, key="digest")


def end_session(connection: Connection, digest: str) -> bool:
    """Delete a session everywhere; return whether it existed."""
    gone = execute(connection, "DELETE FROM login_session WHERE digest = :digest", digest=digest).rowcount
    bump(connection, SESSIONS_EPOCH)
    return bool(gone)


def end_sessions_of(connection: Connection, owner: str, *, but: str = "") -> tuple[str, ...]:
    """End all sessions of a person except the one with the digest `but`; return their names."""
    query = "DELETE FROM login_session WHERE owner = :owner AND digest <> :but RETURNING id"
    gone = tuple(str(row[0]) for row in execute(connection, query, owner=owner, but=but))
    bump(connection, SESSIONS_EPOCH)
    return gone


def end_sessions_of_provider(connection: Connection, prefix: str, *, owner: str, sid: str) -> tuple[SessionRow, ...]:
    """End the sessions of a provider's person, or of one of the provider's own sessions; return them."""
    query = (
        "SELECT * FROM login_session WHERE way = 'provider' AND owner LIKE :prefix AND (:owner = '' OR owner = :owner) "
        "AND (:sid = '' OR sid = :sid)"
    )
    rows = execute(connection, query, prefix=f"{prefix}:%", owner=owner, sid=sid).mappings()
    gone = tuple(_session(row) for row in rows)
    for row in gone:
        execute(connection, "DELETE FROM login_session WHERE digest = :digest", digest=row.digest)
    bump(connection, SESSIONS_EPOCH)
    return gone


def note_active(connection: Connection, active: dict[str, int]) -> None:
    """Store when sessions were last used. Raises no epoch."""
    execute_many(
        connection,
        "UPDATE login_session SET active_s = :at WHERE digest = :digest AND active_s < :at",
        [{"digest": digest, "at": at} for digest, at in sorted(active.items())],
    )


def clear_old(connection: Connection, now_s: int, *, idle_s: int) -> tuple[SessionRow, ...]:
    """Delete what has expired; return the open sessions among it."""
    over = "ends_s <= :now_s OR active_s <= :idle_s"
    rows = execute(connection, f"SELECT * FROM login_session WHERE {over}", now_s=now_s, idle_s=now_s - idle_s)
    gone = tuple(_session(row) for row in rows.mappings())
    execute(connection, f"DELETE FROM login_session WHERE {over}", now_s=now_s, idle_s=now_s - idle_s)
    for table in ("login_flow", "login_link", "login_logout"):
        execute(connection, f"DELETE FROM {table} WHERE ends_s <= :now_s", now_s=now_s)
    execute(connection, f"DELETE FROM login_account WHERE NOT {_THERE}")
    execute(connection, "DELETE FROM login_passkey WHERE account NOT IN (SELECT id FROM login_account)")
    execute(connection, "DELETE FROM login_device WHERE account NOT IN (SELECT id FROM login_account)")
    query = "DELETE FROM login_tries WHERE at_s <= :calm_s AND locked_until_s <= :now_s"
    execute(connection, query, calm_s=now_s - CALM_S, now_s=now_s)
    return gone


# --- tries and browsers


def find_tries(connection: Connection, subject: str) -> Tries:
    """Return the failures of a name."""
    return tries_of(connection, (subject,)).get(subject, Tries())


def tries_of(connection: Connection, subjects: Sequence[str]) -> dict[str, Tries]:
    """Return the failures of names that have any."""
    places: dict[str, object] = {}
    query = f"SELECT * FROM login_tries WHERE {among('subject', subjects, places)}"
    rows = execute(connection, query, **places).mappings()
    return {row["subject"]: Tries(**{name: row[name] for name in _TRIES}) for row in rows}


def save_tries(connection: Connection, subject: str, tries: Tries) -> None:
    """Store the failures of a name."""
    upsert(connection, "login_tries", {"subject": subject, **_plain(tries, _TRIES)}, key="subject")


def forget_tries(connection: Connection, subject: str) -> bool:
    """Clear the failures of a name; return whether there were any."""
    return bool(execute(connection, "DELETE FROM login_tries WHERE subject = :subject", subject=subject).rowcount)


_TRIES: Final = tuple(one.name for one in fields(Tries))


def is_device_of(connection: Connection, digest: str, account: str) -> bool:
    """Return whether a browser has logged in to an account before."""
    query = "SELECT COUNT(*) FROM login_device WHERE digest = :digest AND account = :account"
    return bool(execute(connection, query, digest=digest, account=account).scalar_one())


def save_device(connection: Connection, digest: str, account: str, now_s: int) -> None:
    """Store a known browser of an account; the oldest are deleted."""
    upsert(connection, "login_device", {"digest": digest, "account": account, "last_s": now_s}, key="digest")
    query = "SELECT digest FROM login_device WHERE account = :account ORDER BY last_s DESC, digest LIMIT 1000"
    for row in execute(connection, query, account=account).all()[MOST_DEVICES:]:
        forget_device(connection, str(row[0]))


def forget_device(connection: Connection, digest: str) -> None:
    """Delete a known browser."""
    execute(connection, "DELETE FROM login_device WHERE digest = :digest", digest=digest)


def forget_devices_of(connection: Connection, account: str) -> None:
    """Delete all known browsers of an account."""
    execute(connection, "DELETE FROM login_device WHERE account = :account", account=account)


# --- one-time items


def save_flow(connection: Connection, flow: Flow) -> None:
    """Store a log-in in progress at a provider."""
    upsert(connection, "login_flow", _plain(flow, _FLOW), key="state")


def take_flow(connection: Connection, state: str, now_s: int) -> Flow | None:
    """Return a log-in that returned from a provider, once."""
    query = "DELETE FROM login_flow WHERE state = :state RETURNING *"
    row = execute(connection, query, state=state).mappings().first()
    if row is None or row["ends_s"] <= now_s:
        return None
    return Flow(**{name: row[name] for name in _FLOW})


def count_flows(connection: Connection, now_s: int, origin: str) -> tuple[int, int]:
    """Return how many log-ins are in progress at providers: in all, and from one address."""
    query = (
        "SELECT COUNT(*) AS everyone, COALESCE(SUM(CASE WHEN origin = :origin THEN 1 ELSE 0 END), 0) AS mine "
        "FROM login_flow WHERE ends_s > :now_s"
    )
    row = execute(connection, query, now_s=now_s, origin=origin).mappings().one()
    return int(row["everyone"]), int(row["mine"])


def save_link(connection: Connection, digest: str, *, key_id: str, ends_s: int) -> None:
    """Store a one-time link of a first key, replacing the previous one."""
    execute(connection, "DELETE FROM login_link WHERE key_id = :key_id", key_id=key_id)
    insert(connection, "login_link", {"digest": digest, "key_id": key_id, "ends_s": ends_s})


def take_link(connection: Connection, digest: str, now_s: int) -> str:
    """Return the first key of a link, once; empty: unknown or used."""
    query = "DELETE FROM login_link WHERE digest = :digest RETURNING key_id, ends_s"
    row = execute(connection, query, digest=digest).first()
    return "" if row is None or int(row.ends_s) <= now_s else str(row.key_id)


def take_logout(connection: Connection, jti: str, ends_s: int) -> bool:
    """Return whether a logout token is new."""
    return bool(insert(connection, "login_logout", {"jti": jti, "ends_s": ends_s}, once=True))


def _account(row: RowMapping) -> LocalAccount:
    values = {name: row[name] for name in _ACCOUNT}
    for name in ("former", "recovery"):
        values[name] = tuple(msgspec.json.decode(values[name]))
    return LocalAccount(**{**values, "disabled": bool(values["disabled"])})


def _session(row: RowMapping) -> SessionRow:
    values = {name: row[name] for name in _SESSION}
    return SessionRow(**{**values, "factors": tuple(str(row["factors"]).split())})
