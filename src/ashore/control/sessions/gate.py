"""Checks before a form is processed: its origin, the security of the channel, and lockouts."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ashore.control.sessions import sql
from ashore.control.sessions.cookies import Cookies, digest_of
from ashore.control.sessions.hashing import same
from ashore.control.sessions.locks import Tries, after_failure, taken_back
from ashore.control.sessions.model import Visit
from ashore.control.sessions.rules import Rules
from ashore.core.clock import Clock
from ashore.core.errors import PermissionDenied, TooManyAttempts
from ashore.data.authority.guessing import Guesses
from ashore.kit.recorder import Act, Recorder
from ashore.kit.state import in_read, in_write

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ashore.kit.state import Database

_SITE: Final = "pages of other sites may not send this form"


def check_site(visit: Visit) -> None:
    """Check that the browser reports a page of this server as the origin.

    Raises:
        PermissionDenied: it reports another site, or none.
    """
    if visit.fetch_site == "same-origin" or (not visit.fetch_site and visit.origin_said == visit.base):
        return
    seen = visit.fetch_site or visit.origin_said
    raise PermissionDenied(
        f"{_SITE}; the browser says that this came from {seen[:100]!r}" if seen else f"{_SITE}; it came without Origin",
        hint="open the console anew and try again; a proxy must pass the headers Host and Origin on as they are",
        rule="same origin",
    )


def check_token(right: str, given: str) -> None:
    """Check that a form has its session's CSRF token.

    Raises:
        PermissionDenied: it is another session's, or missing.
    """
    if not right or not same(right, given):
        raise PermissionDenied(
            "the CSRF token of this form is missing, or belongs to a session that has ended",
            hint="load the page again, then send it",
            rule="token",
        )


def check_channel(visit: Visit) -> None:
    """Check that a password may be sent here: over TLS, or within this machine.

    Raises:
        PermissionDenied: it would be sent in clear.
    """
    if visit.is_secure or (is_loopback(urlsplit(visit.base).hostname or "") and is_here(visit)):
        return
    raise PermissionDenied(
        "log-in over plain HTTP is refused, because others on the network could read the password",
        hint='offer TLS: set [edge] kind = "envoy" in ashore.toml, and open the console with https',
        rule="TLS",
    )


def is_here(visit: Visit) -> bool:
    """Return whether the browser runs on this machine."""
    return is_loopback(visit.origin) and not visit.passed_on


def is_loopback(host: str) -> bool:
    """Return whether an address or name is this machine; True if empty."""
    if host in ("", "localhost") or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0].strip("[]"))
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


@dataclass(frozen=True, slots=True, kw_only=True)
class Trying:
    """A log-in attempt and the failures counted against it."""

    account: str
    subject: str
    """Whose count it is: that of the name, or of a browser that the account knows."""
    device: str
    """Digest of that browser's cookie; empty: a stranger's."""
    before: Tries
    after: Tries
    """What is held against them if this try is wrong."""


class Gate:
    """Counts failures, by address in memory and by account in the state."""

    def __init__(self, database: Database, clock: Clock, recorder: Recorder, cookies: Cookies) -> None:
        self._database = database
        self._clock = clock
        self._recorder = recorder
        self._cookies = cookies
        self._guesses: Final = Guesses()

    async def begin(self, visit: Visit, account: str, rules: Rules) -> Trying:
        """Count one more attempt for `account`, existing or not, before checking it: parallel attempts gain nothing
        over sequential ones. `released` or `passed` undoes the count.

        Raises:
            TooManyAttempts: the address or the account is locked.
        """
        now_s = int(self._clock.now_s())
        value = self._cookies.read(visit, "device")
        device = digest_of(value)
        try:
            self._guesses.check(_mark(account), visit.origin, now_s)
        except TooManyAttempts as fault:
            # Many people may share one address: a browser that logged in before has its own count.
            if not value or not await in_read(self._database, sql.is_device_of, device, account):
                raise _locked(fault.retry_after_s or 0.0) from fault

        def count(connection: Connection) -> Trying:
            known = device if sql.is_device_of(connection, device, account) else ""
            subject = f"device/{known}" if known else subject_of(account)
            before = sql.find_tries(connection, subject)
            after = before
            if not before.left_s(now_s):
                after = after_failure(before, rules, now_s)
                sql.save_tries(connection, subject, after)
            return Trying(account=account, subject=subject, device=known, before=before, after=after)

        trying = await in_write(self._database, count)
        if trying.before.left_s(now_s):
            raise _locked(trying.before.left_s(now_s))
        return trying

    async def failed(self, visit: Visit, trying: Trying, *, what: str, tenant: str = "") -> None:
        """Keep the count, and record the reason."""
        now_s = int(self._clock.now_s())
        self._tell(visit, "session:refuse", trying.account, tenant, what, {})
        if trying.after.left_s(now_s):
            if trying.device:
                await in_write(self._database, sql.forget_device, trying.device)
            whose = "browser" if trying.device else "account"
            detail: dict[str, str | int] = {"for_s": round(trying.after.left_s(now_s)), "locked": whose}
            self._tell(visit, "account:lock", trying.account, tenant, f"{trying.before.failures + 1} failures", detail)
        if self._guesses.failed(visit.origin, now_s):
            self._tell(visit, "address:lock", trying.account, tenant, "wrong passwords", {})

    async def released(self, trying: Trying) -> None:
        """Undo the count of this attempt: it was right, but another step follows. Not to be called twice."""

        def write(connection: Connection) -> None:
            now = sql.find_tries(connection, trying.subject)
            sql.save_tries(connection, trying.subject, taken_back(now, trying.before, trying.after))

        await in_write(self._database, write)

    async def passed(self, visit: Visit, trying: Trying) -> str:
        """Clear the failures; return the value of a new device cookie, if they have none."""
        self._guesses.succeeded(_mark(trying.account), visit.origin)
        new = "" if trying.device else self._cookies.new("device")
        now_s = int(self._clock.now_s())

        def write(connection: Connection) -> None:
            sql.forget_tries(connection, trying.subject)
            sql.save_device(connection, trying.device or digest_of(new), trying.account, now_s)

        await in_write(self._database, write)
        return new

    def _tell(
        self, visit: Visit, action: str, account: str, tenant: str, reason: str, detail: Mapping[str, str | int]
    ) -> None:
        self._recorder.record(
            Act(
                action=action, actor=account[:100] or "-", tenant=tenant, resource=f"account/{account[:100]}",
                outcome="denied", origin=visit.origin, request_id=visit.request_id, reason=reason, detail=detail,
            )
        )  # fmt: skip


def subject_of(account: str) -> str:
    """Return the key that counts strangers' failures for an account."""
    return f"account/{_mark(account).hex()}"


def _mark(account: str) -> bytes:
    return hashlib.sha256(b"log-in:" + account.casefold().encode()).digest()


def _locked(left_s: float) -> TooManyAttempts:
    return TooManyAttempts(
        f"too many wrong passwords or codes; nobody is heard for {max(1, round(left_s))} s",
        hint="wait, or ask a security officer: `ashore account unlock NAME`; a browser that logged in before is heard",
        retry_after_s=left_s,
    )
