"""Administration of log-ins and sessions of the console."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ashore.control.access import keep_administrators_keys
from ashore.control.sessions import sql
from ashore.control.sessions.cookies import digest_of
from ashore.control.sessions.gate import subject_of
from ashore.control.sessions.locks import Tries
from ashore.control.sessions.sql import LocalAccount, SessionRow
from ashore.core.errors import Conflict, NotFound, PermissionDenied
from ashore.core.nearest import did_you_mean
from ashore.core.principal import WIDE
from ashore.data.authority import SYSTEM, Account, Actor, Acts, KeyRecord
from ashore.data.authority import sql as access_sql
from ashore.data.authority.actions import ACCESS_READ, ACCESS_WRITE, ROLE_GRANT
from ashore.data.authority.acts import Desk, page_of
from ashore.data.authority.roles import AUDITOR

if TYPE_CHECKING:
    from ashore.kit.state import Database

SESSION_READ: Final = "session:read"
SESSION_END: Final = "session:end"
INVITATION_S: Final = 86_400
LINK_S: Final = 600
"""How long the one-time link of `ashore up` opens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one user logs in."""

    account: Account
    local: LocalAccount
    tries: Tries
    sessions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Invited:
    """A new invitation: shown only once."""

    account: str
    invitation: str
    ends_s: int

    def __repr__(self) -> str:
        return f"Invited({self.account})"


class LogInOffice:
    """Accounts and sessions of the console, as administrators see them."""

    def __init__(self, acts: Acts, *, changed: Callable[[], None] = lambda: None) -> None:
        """Create it. `changed`: makes this worker reload sessions."""
        self._acts = acts
        self.changed: Final = changed

    # --- accounts

    def accounts(
        self, actor: Actor, *, search: str = "", state: sql.LogInState = "", after: str = "", limit: int = 100
    ) -> tuple[Standing, ...]:
        """Return a page of the users with a log-in that the actor may see, by id."""
        with self._acts.read(actor, ACCESS_READ, "tenant/*") as desk:
            locked = sql.locked(desk.connection, desk.now_s) if state == "locked" else None
            if state == "locked" and not locked:
                return ()
            known: dict[str, Account] = {}

            def rows(behind: str, size: int) -> tuple[LocalAccount, ...]:
                found = sql.list_accounts(desk.connection, search=search, state=state, after=behind, limit=size)
                wanted = [one.id for one in found if locked is None or subject_of(one.id) in locked]
                known.update(access_sql.accounts_named(desk.connection, wanted))
                return found

            found = page_of(
                rows,
                lambda one: one.id,
                lambda one: one.id in known and desk.allows(ACCESS_READ, known[one.id].resource),
                after=after,
                limit=limit,
            )
            return _standings(desk, sql.with_passkeys(desk.connection, found), known)

    def account(self, actor: Actor, name: str) -> Standing:
        """Return how one user logs in. Everyone may see their own.

        Raises:
            NotFound: there is no such user, or it has no log-in.
        """
        with self._acts.look(actor) as desk:
            account = _user(desk, name, allowed=name == actor.principal.id)
            if name != actor.principal.id:
                desk.require(ACCESS_READ, account.resource)
            local = sql.find_account(desk.connection, name)
            if local is None:
                raise NotFound(
                    f"user/{name} has no log-in to the console", hint=f"make one: `ashore account create {name}`"
                )
            return _standing(desk, local, account)

    def invite(self, actor: Actor, name: str, *, reset: bool) -> Invited:
        """Create an invitation with which the user sets a password, once, within a day.

        The creator of an invitation knows it. So the rule for keys applies: for an administrator with a live key, only
        that administrator can create one.

        Args:
            actor: The caller. Everyone may for themselves, with a key.
            name: The user.
            reset: Remove the password, the second factor and all sessions first.

        Raises:
            NotFound: there is no such user.
            Conflict: there is a log-in already, and `reset` is not set.
            PermissionDenied: the actor may not.
        """
        with self._acts.write(actor, "account:reset" if reset else "account:create", f"account/{name}") as desk:
            account = self._changeable(desk, name)
            local = sql.find_account(desk.connection, name)
            if local is not None and local.password and not reset:
                raise Conflict(
                    f"user/{name} has a log-in already",
                    hint=f"if the password or the telephone is lost: `ashore account reset {name}`",
                )
            if local is None and reset:
                raise NotFound(
                    f"user/{name} has no log-in to the console", hint=f"make one: `ashore account create {name}`"
                )
            if reset or local is None:
                sql.remove_passkeys_of(desk.connection, name)
            code = secrets.token_urlsafe(24)
            local = local or LocalAccount(id=name, created_s=max(desk.now_s, account.created_s))
            if reset:
                local = replace(local, password="", factor="", factor_new="", recovery=())
                _end_all(desk, name)
            sql.save_account(
                desk.connection,
                replace(
                    local,
                    invitation=digest_of(code),
                    invitation_ends_s=desk.now_s + INVITATION_S,
                    invited_by=actor.principal.id,
                ),
            )
            if actor.principal.id != name:
                access_sql.note_maker(desk.connection, account.id, actor.principal.id)
            ends_s = desk.now_s + INVITATION_S
        self.changed()
        return Invited(account=name, invitation=code, ends_s=ends_s)

    def change(self, actor: Actor, name: str, *, disabled: bool) -> Standing:
        """Disable the log-in of a user, which ends its sessions, or enable it again. Keys are not touched.

        Everyone may disable their own, with a key. Only a security officer may enable what one disabled.
        """
        with self._acts.write(actor, "account:disable" if disabled else "account:enable", f"account/{name}") as desk:
            account = self._changeable(desk, name) if disabled else _enableable(desk, name)
            local = _local(desk, name)
            sql.save_account(desk.connection, replace(local, disabled=disabled))
            if disabled:
                _end_all(desk, name)
            found = _standing(desk, replace(local, disabled=disabled), account)
        self.changed()
        return found

    def unlock(self, actor: Actor, name: str) -> Standing:
        """Clear the failed attempts of a user."""
        with self._acts.write(actor, "account:unlock", f"account/{name}") as desk:
            account = _user(desk, name)
            desk.require(ACCESS_WRITE, account.resource)
            local = _local(desk, name)
            desk.detail["was_counted"] = int(sql.forget_tries(desk.connection, subject_of(name)))
            return _standing(desk, local, account)

    def _changeable(self, desk: Desk, name: str) -> Account:
        """Return a user whose log-in the actor may change.

        Raises:
            PermissionDenied: it may not.
            Conflict: an auditor would lose a log-in, and no system administrator consented.
        """
        mine = name == desk.principal.id and bool(desk.principal.key_id)
        account = _user(desk, name, allowed=mine)
        if mine and desk.principal.scope != WIDE:
            raise PermissionDenied(
                f"the key {desk.principal.key_id} is restricted, and a log-in has all rights of {account.subject}",
                hint="use a key of yours without restrictions, or ask a security officer",
                action=ACCESS_WRITE,
                resource=f"tenant/{account.tenant}/key/{name}",
                rule="a restricted key opens no log-in",
            )
        if mine:
            return account
        desk.require(ACCESS_WRITE, f"tenant/{account.tenant}/key/{name}")
        if name == desk.principal.id:
            return account
        keep_administrators_keys(desk, account)
        offices = _offices(desk, account)
        for role in offices:
            desk.require(ROLE_GRANT, f"role/{role}")
        local = sql.find_account(desk.connection, name)
        if AUDITOR in offices and local is not None and local.password and not local.disabled:
            desk.use_consent(name, account.resource)
        return account

    # --- sessions

    def sessions(self, actor: Actor, *, account: str = "", after: str = "", limit: int = 100) -> tuple[SessionRow, ...]:
        """Return a page of the open sessions that the actor may see. Everyone may list their own."""
        mine = bool(account) and account == actor.principal.id
        with self._acts.look(actor) as desk:
            if not mine:
                desk.require(SESSION_READ, "tenant/*" if not account else _session_resource(desk, account))
            return page_of(
                lambda behind, size: sql.list_sessions(
                    desk.connection, owner=account, after=behind, limit=size, open_only=True
                ),
                lambda row: row.id,
                lambda row: mine or desk.allows(SESSION_READ, f"tenant/{row.tenant}/session/{row.owner}"),
                after=after,
                limit=limit,
            )

    def end_session(self, actor: Actor, name: str) -> SessionRow:
        """End a session everywhere within one second. Everyone may end their own.

        Raises:
            NotFound: there is none of this name, or the actor may not see it.
        """
        with self._acts.write(actor, "session:end", f"session/{name}") as desk:
            row = sql.session_named(desk.connection, name)
            if row is None:
                raise NotFound(f"there is no session {name[:40]!r}", hint="list them with `ashore session list`")
            if row.owner != actor.principal.id:
                desk.require(SESSION_END, f"tenant/{row.tenant}/session/{row.owner}")
            sql.end_session(desk.connection, row.digest)
            desk.detail["owner"] = row.owner
        self.changed()
        return row

    def end_sessions(self, actor: Actor, account: str) -> tuple[str, ...]:
        """End all sessions of a person; return their names. Everyone may end their own."""
        with self._acts.write(actor, "session:end", f"account/{account}") as desk:
            if account != actor.principal.id:
                desk.require(SESSION_END, _session_resource(desk, account))
            gone = sql.end_sessions_of(desk.connection, account)
            desk.detail["ended"] = len(gone)
        self.changed()
        return gone


def make_first_link(database: Database, acts: Acts, now_s: int) -> str:
    """Return the token of a new one-time link that logs the holder of this home into the console as the first key;
    empty if that key is disabled. Invalidates the previous link. May be called at every start.
    """
    token = secrets.token_urlsafe(32)
    with database.write() as connection:
        key = next((one for one in access_sql.list_keys(connection, limit=10_000) if _lives(one, now_s)), None)
        if key is None:
            return ""
        sql.save_link(connection, digest_of(token), key_id=key.key_id, ends_s=now_s + LINK_S)
        acts.tell(SYSTEM, "session:link", f"key/{key.key_id}", {"for_s": LINK_S}, on=connection)
    return token


def _lives(key: KeyRecord, now_s: int) -> bool:
    return key.is_first and key.is_live(now_s)


def _user(desk: Desk, name: str, *, allowed: bool = False) -> Account:
    """Return a user."""
    found = access_sql.find_account(desk.connection, name)
    if found is not None and found.kind == "user":
        return found
    if not allowed:
        desk.require(ACCESS_READ, "tenant/*")
    some = access_sql.list_accounts(desk.connection, kind="user", limit=1000)
    hint = did_you_mean(name[:100], [one.id for one in some]) or "create it: `ashore access user create NAME`"
    raise NotFound(f"there is no user {name[:100]!r}", hint=hint, param="account")


def _enableable(desk: Desk, name: str) -> Account:
    """Return a user whose log-in the actor may enable again. This gives the actor no access.

    Raises:
        PermissionDenied: the actor may not.
    """
    account = _user(desk, name)
    desk.require(ACCESS_WRITE, f"tenant/{account.tenant}/key/{name}")
    for role in _offices(desk, account):
        desk.require(ROLE_GRANT, f"role/{role}")
    return account


def _local(desk: Desk, name: str) -> LocalAccount:
    local = sql.find_account(desk.connection, name, change=True)
    if local is None:
        raise NotFound(f"user/{name} has no log-in to the console", hint=f"make one: `ashore account create {name}`")
    return local


def _standing(desk: Desk, local: LocalAccount, account: Account) -> Standing:
    return _standings(desk, (local,), {local.id: account})[0]


def _standings(desk: Desk, locals_: Sequence[LocalAccount], accounts: Mapping[str, Account]) -> tuple[Standing, ...]:
    subjects = {one.id: subject_of(one.id) for one in locals_}
    sessions = sql.open_sessions(desk.connection, [*subjects])
    tries = sql.tries_of(desk.connection, [*subjects.values()])
    return tuple(
        Standing(
            account=accounts[one.id],
            local=one,
            tries=tries.get(subjects[one.id], Tries()),
            sessions=sessions.get(one.id, 0),
        )
        for one in locals_
    )


def _offices(desk: Desk, account: Account) -> tuple[str, ...]:
    return tuple(role.name for role, _ in desk.compiled.roles_of(account.principal) if role.offices)


def _end_all(desk: Desk, name: str) -> None:
    gone = sql.end_sessions_of(desk.connection, name)
    sql.forget_devices_of(desk.connection, name)
    if gone:
        desk.detail["ended"] = len(gone)


def _session_resource(desk: Desk, owner: str) -> str:
    found = access_sql.find_account(desk.connection, owner)
    if found is not None:
        return f"tenant/{found.tenant}/session/{owner}"
    rows = sql.list_sessions(desk.connection, owner=owner, limit=1)
    return f"tenant/{rows[0].tenant if rows else '*'}/session/{owner}"
