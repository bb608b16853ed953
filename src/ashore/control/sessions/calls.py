"""Calls about log-ins to the console and its sessions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final, Literal
from urllib.parse import urlencode

import msgspec

from ashore.control.sessions.model import CONSOLE
from ashore.control.sessions.office import LogInOffice, Standing
from ashore.control.sessions.rules import Rules
from ashore.control.sessions.sql import LogInState, SessionRow
from ashore.data.authority.actions import ACCESS_READ, ACCESS_WRITE
from ashore.kit.call import Actor, Call
from ashore.kit.copied import copied

Page = Annotated[int, msgspec.Meta(ge=1, le=1000, extra={"page": True})]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionsDesk:
    """The use cases of this room."""

    office: LogInOffice
    rules: Callable[[], Rules]
    now_s: Callable[[], float]


class AccountsIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which users to list."""

    search: Annotated[str, msgspec.Meta(max_length=200)] = ""
    """List only users whose id or title contains this text."""
    state: LogInState = ""
    """List only these. invited: has not chosen a password yet; locked: failed to log in too often; disabled: the user
    is."""
    after: str = ""
    limit: Page = 100


OneAccount = Annotated[str, msgspec.Meta(max_length=128, description="Id of the user: alice.")]


class LogInOut(msgspec.Struct, frozen=True, kw_only=True):
    """How a user logs in to the console. Passwords and secrets are never shown."""

    account: str
    tenant: str
    state: Literal["invited", "expired", "active", "disabled"]
    """invited: no password chosen yet; expired: neither a password nor an invitation that is still valid."""
    has_factor: bool
    passkeys: int
    """Passkeys that count as a second factor."""
    recovery_codes: int
    """Recovery codes left."""
    password_set_at: int | None
    password_expires_at: Annotated[int | None, msgspec.Meta(extra={"absent": "never"})]
    locked_until: Annotated[int | None, msgspec.Meta(extra={"absent": "no"})]
    """Until when strangers' browsers are refused after too many failures."""
    last_log_in_at: int | None
    invited_by: str
    sessions: int
    """Sessions that are open."""


class LogInList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of users that log in by a password here."""

    items: list[LogInOut]
    next: str | None
    """Value of `after` for the next page; null on the last page."""


class InvitedOut(msgspec.Struct, frozen=True, kw_only=True):
    """An invitation. It is shown only in this response."""

    account: str
    invitation: str
    """To be given to the user, who enters it once on that page with a password of their own."""
    page: str
    """Path of the page where the user enters it: /console/invitation?account=zoe, behind the address of the server."""
    expires_at: int


class SessionsIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which sessions to list."""

    account: str = ""
    """List only sessions of this user: alice, or corp:alice of a provider."""
    after: str = ""
    limit: Page = 100


OneSession = Annotated[str, msgspec.Meta(description="Id of the session: ses_ and twelve characters.")]


class SessionOut(msgspec.Struct, frozen=True, kw_only=True):
    """An open session of the console."""

    id: str
    account: str
    tenant: str
    way: Literal["password", "directory", "provider", "first-link"]
    factors: list[str]
    """How it was shown who this is: pwd, otp, hwk (a passkey), mfa."""
    opened_at: int
    active_at: int
    """Last request of a person, accurate to a few seconds."""
    ends_at: int
    """When it ends if nothing more is done."""
    origin: str
    agent: str


class SessionList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of sessions."""

    items: list[SessionOut]
    next: str | None
    """Value of `after` for the next page; null on the last page."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """Sessions that were ended."""

    ended: list[str]


def list_log_ins(desk: SessionsDesk, actor: Actor, asked: AccountsIn) -> LogInList:
    """List the users that log in to the console by a password, with factor, lock and last log-in."""
    found = desk.office.accounts(actor, **msgspec.structs.asdict(asked))
    return LogInList(
        items=[_log_in(desk, one) for one in found], next=found[-1].local.id if len(found) == asked.limit else None
    )


def show_log_in(desk: SessionsDesk, actor: Actor, account: OneAccount) -> LogInOut:
    """Show how one user logs in to the console. Everyone may see their own."""
    return _log_in(desk, desk.office.account(actor, account))


def create_log_in(desk: SessionsDesk, actor: Actor, account: OneAccount) -> InvitedOut:
    """Create the log-in of a user to the console. Prints an invitation, valid once within a day.

    The user opens /console/invitation and chooses a password. Everyone may create their own with a key; for others, a
    security officer does. The user itself comes first: `ashore access user create`.
    """
    return _invited(desk, actor, account, reset=False)


def reset_log_in(desk: SessionsDesk, actor: Actor, account: OneAccount) -> InvitedOut:
    """Remove a user's password and second factor, end their sessions, and print a new invitation.

    For a lost password or telephone. Everyone may reset their own with a key. An administrator with a valid key is
    reset by nobody else.
    """
    return _invited(desk, actor, account, reset=True)


def disable_log_in(desk: SessionsDesk, actor: Actor, account: OneAccount) -> LogInOut:
    """Disable a user's log-in to the console and end their sessions. Keys keep working."""
    return _log_in(desk, desk.office.change(actor, account, disabled=True))


def enable_log_in(desk: SessionsDesk, actor: Actor, account: OneAccount) -> LogInOut:
    """Enable a user's log-in to the console again."""
    return _log_in(desk, desk.office.change(actor, account, disabled=False))


def unlock_log_in(desk: SessionsDesk, actor: Actor, account: OneAccount) -> LogInOut:
    """Forget a user's failed log-ins, so that a locked log-in is open again."""
    return _log_in(desk, desk.office.unlock(actor, account))


def list_sessions(desk: SessionsDesk, actor: Actor, asked: SessionsIn) -> SessionList:
    """List open sessions of the console. Everyone may list their own with --account."""
    found = desk.office.sessions(actor, account=asked.account, after=asked.after, limit=asked.limit)
    return SessionList(
        items=[session_out(desk, one) for one in found], next=found[-1].id if len(found) == asked.limit else None
    )


def end_session(desk: SessionsDesk, actor: Actor, session: OneSession) -> Ended:
    """End a session of the console. It stops working everywhere within one second. Everyone may end their own."""
    return Ended(ended=[desk.office.end_session(actor, session).id])


def end_sessions(desk: SessionsDesk, actor: Actor, account: OneAccount) -> Ended:
    """End all sessions of a user. They stop working everywhere within one second. Everyone may end their own."""
    return Ended(ended=[*desk.office.end_sessions(actor, account)])


LOG_IN: Final = "/log-ins/{account}"
CALLS: Final[tuple[Call, ...]] = (
    Call("account", "list", "GET", "/log-ins", ACCESS_READ, list_log_ins),
    Call("account", "show", "GET", LOG_IN, "", show_log_in),
    Call("account", "create", "POST", LOG_IN, "", create_log_in),
    Call("account", "reset", "POST", f"{LOG_IN}/reset", "", reset_log_in,
         sure="remove the password and the second factor of {account}, and end all sessions"),
    Call("account", "disable", "POST", f"{LOG_IN}/disable", "", disable_log_in),
    Call("account", "enable", "POST", f"{LOG_IN}/enable", "", enable_log_in),
    Call("account", "unlock", "POST", f"{LOG_IN}/unlock", ACCESS_WRITE, unlock_log_in),
    Call("session", "list", "GET", "/sessions", "", list_sessions),
    Call("session", "end", "DELETE", "/sessions/{session}", "", end_session),
    Call("session", "end-all", "DELETE", f"{LOG_IN}/sessions", "", end_sessions),
)  # fmt: skip


def _invited(desk: SessionsDesk, actor: Actor, account: OneAccount, *, reset: bool) -> InvitedOut:
    made = desk.office.invite(actor, account, reset=reset)
    page = f"{CONSOLE}/invitation?{urlencode({'account': made.account})}"
    return InvitedOut(account=made.account, invitation=made.invitation, page=page, expires_at=made.ends_s)


def _log_in(desk: SessionsDesk, standing: Standing) -> LogInOut:
    local, rules, now_s = standing.local, desk.rules(), desk.now_s()
    invited = bool(local.invitation) and now_s < local.invitation_ends_s
    state: Literal["invited", "expired", "active", "disabled"] = "active"
    if local.disabled or standing.account.is_out:
        state = "disabled"
    elif not local.password and local.invitation_ends_s:  # never invited: the password is that of a directory
        state = "invited" if invited else "expired"
    return LogInOut(
        account=local.id,
        tenant=standing.account.tenant,
        state=state,
        has_factor=local.has_factor,
        passkeys=len(local.passkeys),
        recovery_codes=len(local.recovery),
        password_set_at=local.password_set_s or None,
        password_expires_at=local.password_set_s + rules.max_age_s if local.password and rules.max_age_s else None,
        locked_until=standing.tries.locked_until_s if standing.tries.left_s(now_s) else None,
        last_log_in_at=local.last_s,
        invited_by=local.invited_by,
        sessions=standing.sessions,
    )


def session_out(desk: SessionsDesk, row: SessionRow) -> SessionOut:
    """Return a session without its digest."""
    return copied(
        SessionOut,
        row,
        account=row.owner,
        factors=[*row.factors],
        opened_at=row.opened_s,
        active_at=row.active_s,
        ends_at=min(row.ends_s, row.active_s + desk.rules().idle_s),
    )
