"""Sessions of one worker: found by cookie, renewed by activity, ended by time, rule or request.

The state is the source of truth. Sessions are cached until their epoch moves, so that a page costs no read. Last
activity is written every few seconds, in one batch.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Collection
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Final

import msgspec

from ashore.control.sessions import sql
from ashore.control.sessions.cookies import Cookies, digest_of, set_cookie
from ashore.control.sessions.model import TYPED, Session, Visit, has_second
from ashore.control.sessions.rules import WARN_DAYS, Rules
from ashore.control.sessions.sql import LocalAccount, SessionRow
from ashore.core.clock import Clock
from ashore.core.errors import AshoreError, Unauthenticated
from ashore.data.authority import ACTIONS, KEY_CREATE_OWN, Claims, Directory, KeyScope, Principal
from ashore.data.background import take_turns
from ashore.kit.recorder import Act, Recorder
from ashore.kit.state import in_read, in_write

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ashore.kit.state import Database

log = logging.getLogger("ashore.worker")

FLUSH_EVERY_S: Final = 5.0
CLEAR_EVERY_S: Final = 60.0
UNFINISHED_S: Final = 600
"""How long a log-in may take that has begun."""
MOST_REMEMBERED: Final = 10_000
MOST_AGENT_CHARS: Final = 200
LOOKS: Final = ("audit:search", "audit:verify")
"""Actions of an office that only show something, beside those that end in `:read`."""


@dataclass(frozen=True, slots=True)
class Found:
    """A session as read."""

    row: SessionRow
    local: LocalAccount | None


@cache
def narrow(*, fresh: bool = False) -> KeyScope:
    """Return the scope of a session with reduced rights: no changes that belong to an office and, without a fresh
    proof, no keys, which would outlive it.
    """
    some = (one.name for one in ACTIONS if one.office is None or one.is_read or one.name in LOOKS)
    return KeyScope(actions=tuple(name for name in some if fresh or name != KEY_CREATE_OWN))


@dataclass(slots=True)
class Keeper:
    """Finds, opens, renews and ends sessions. Used by one event loop; `forget` may be called from any thread."""

    database: Database
    directory: Directory
    clock: Clock
    recorder: Recorder
    cookies: Cookies
    _: KW_ONLY
    rules: Callable[[], Rules]
    providers: Callable[[], Collection[str]]
    local: Callable[[], bool]
    directories: Callable[[], Collection[str]] = tuple
    _found: dict[str, Found] = field(default_factory=dict, init=False)
    _generation: int = field(default=0, init=False)
    _active: dict[str, int] = field(default_factory=dict, init=False)
    _unsaved: dict[str, int] = field(default_factory=dict, init=False)

    @property
    def now_s(self) -> int:
        return int(self.clock.now_s())

    def forget(self) -> None:
        """Drop the cache: a session has ended or changed."""
        self._generation += 1
        self._found = {}

    # --- finding

    async def find(self, visit: Visit, *, active: bool = True) -> Found | None:
        """Return the session of the cookie, at any stage; None: none, or ended."""
        value = self.cookies.read(visit, "session")
        if not value:
            return None
        digest = digest_of(value)
        found = self._found.get(digest) or await self._read(digest)
        if found is None:
            return None
        if self._is_idle(found.row):  # another worker may have seen its owner since
            found = await self._read(digest)
            if found is None or self._is_idle(found.row):
                await self._end_by_itself(digest, found)
                return None
        if active:
            self._active[digest] = self._unsaved[digest] = self.now_s
        return found

    async def session_of(self, visit: Visit, *, active: bool = True) -> Session | None:
        """Return the open session of the cookie."""
        found = await self.find(visit, active=active)
        if found is None or found.row.stage != "open":
            return None
        try:
            return self._session(found, self.cookies.csrf(self.cookies.read(visit, "session")))
        except Unauthenticated as fault:
            await self.end(found.row, reason=fault.message)
            return None

    def principal_of(self, row: SessionRow) -> Principal:
        """Return the principal of a session.

        Raises:
            Unauthenticated: the principal no longer exists.
        """
        name = row.owner.partition(":")[0]
        match row.way:
            case "password":
                is_open = self.local()
            case "directory":
                is_open = name in self.directories()
            case "provider":
                is_open = name in self.providers()
            case _:
                is_open = True
        if not is_open:
            raise Unauthenticated("this way to log in is closed", hint="log in again")
        if row.way in TYPED:
            return self.directory.of_account(row.owner, factors=row.factors)
        if row.way == "first-link":
            return self.directory.of_key_id(row.claims, self.now_s)
        claims = msgspec.convert(msgspec.json.decode(row.claims), Claims)
        return self.directory.of_claims(claims)

    def person(self, account: str) -> Principal | None:
        """Return the principal of an account that may log in; None: missing or disabled."""
        try:
            return self.directory.of_account(account)
        except Unauthenticated:
            return None

    def _session(self, found: Found, csrf: str) -> Session:
        row, rules = found.row, self.rules()
        who = self.principal_of(row)
        # a provider may require a code instead of a password
        second = has_second(row.factors) if row.way in TYPED else "mfa" in row.factors
        strong = row.way == "first-link" or rules.factor == "nobody" or second
        fresh = row.way == "first-link" or self.now_s - row.proof_s < rules.fresh_s
        active_s = self._last_active(row)
        return Session(
            id=row.id,
            principal=who if strong and fresh else replace(who, scope=narrow(fresh=bool(fresh))),
            whole=who if strong else replace(who, scope=narrow(fresh=True)),
            way=row.way,
            csrf=csrf,
            opened_s=row.opened_s,
            active_s=active_s,
            ends_s=row.ends_s,
            idle_ends_s=min(row.ends_s, active_s + rules.idle_s),
            is_fresh=bool(fresh),
            origin=row.origin,
            agent=row.agent,
            account=row.owner if row.way in TYPED else "",
            has_factor=has_second(row.factors),
            notices=self._notices(found, rules),
        )

    def _notices(self, found: Found, rules: Rules) -> tuple[str, ...]:
        said = []
        local = found.local
        if found.row.way == "first-link":
            said += [
                "You are here by the one-time link of this machine. Make the three administrators next.",
                "With the third, this session and the first key end; each logs in with their key.",
            ]
        if local is not None and local.password and rules.max_age_s:
            days = (local.password_set_s + rules.max_age_s - self.now_s) // 86_400
            if days < WARN_DAYS:
                said.append(f"Your password expires in {max(0, days)} days.")
        if local is not None and local.has_factor and len(local.recovery) < 3:
            said.append(
                f"You have {len(local.recovery)} recovery codes left; set up the second factor again for new ones."
            )
        return tuple(said)

    def _last_active(self, row: SessionRow) -> int:
        return max(row.active_s, self._active.get(row.digest, 0))

    def _is_idle(self, row: SessionRow) -> bool:
        idle_s = self.rules().idle_s if row.stage == "open" else UNFINISHED_S
        return self.now_s >= min(row.ends_s, self._last_active(row) + idle_s)

    async def _read(self, digest: str) -> Found | None:
        generation = self._generation

        def read(connection: Connection) -> Found | None:
            row = sql.find_session(connection, digest)
            if row is None:
                return None
            if row.way not in TYPED:
                return Found(row, None)
            local = sql.find_account(connection, row.owner)
            lacks_password = row.way == "password" and local is not None and not local.password
            if local is None or local.disabled or lacks_password or row.opened_s < local.created_s:
                return None  # of a log-in that was removed, disabled or reset meanwhile
            return Found(row, local)

        found = await in_read(self.database, read)
        if len(self._found) >= MOST_REMEMBERED:
            self._found = {}
        if found is None:
            self._found.pop(digest, None)
        elif generation == self._generation:  # else something changed meanwhile
            self._found[digest] = found
        return found

    # --- opening and ending

    async def open(self, visit: Visit, row: SessionRow, *, replaces: SessionRow | None = None) -> tuple[str, ...]:
        """Store a session under a new cookie, in place of another one; return the `Set-Cookie` headers.

        Every step of a log-in and every proof gets a new cookie, so that a cookie planted or seen earlier is useless.

        Raises:
            Unauthenticated: the other session has ended meanwhile.
        """
        value = self.cookies.new("session")
        row = replace(row, digest=digest_of(value))
        rules = self.rules()

        def save(connection: Connection) -> None:
            if replaces is not None and not sql.end_session(connection, replaces.digest):
                raise Unauthenticated("the session has ended", hint="log in again")
            sql.save_session(connection, row)
            if row.stage != "open":
                return
            mine = sorted(
                (one for one in sql.list_sessions(connection, owner=row.owner) if one.id != row.id),
                key=lambda one: (one.stage == "open", one.active_s),
            )
            over = mine[: max(0, len(mine) + 1 - rules.most_sessions)]
            for one in over:
                sql.end_session(connection, one.digest)
                if one.stage == "open":
                    reason = f"more than {rules.most_sessions} sessions"
                    self.record("session:end", one, visit, reason=reason, on=connection)
            if replaces is None or replaces.stage != "open":
                detail: dict[str, str | int] = {"way": row.way, "factors": " ".join(row.factors)}
                self.record("session:open", row, visit, detail=detail, on=connection)

        await in_write(self.database, save)
        self.forget()
        cookies = [set_cookie(visit, "session", value, strict=not self.providers())]  # lax: it is sent on the way back
        if row.stage == "open":
            cookies.append(set_cookie(visit, "visit", "", strict=False))
        return tuple(cookies)

    def new_row(self, visit: Visit, *, stage: str, way: str, owner: str, tenant: str, **more: object) -> SessionRow:
        """Return a new session. `open` sets its cookie."""
        now_s = self.now_s
        values: dict[str, object] = {
            "digest": "", "id": f"ses_{secrets.token_hex(6)}", "stage": stage, "way": way, "owner": owner,
            "tenant": tenant, "opened_s": now_s, "active_s": now_s, "proof_s": now_s,
            "ends_s": now_s + (self.rules().longest_s if stage == "open" else UNFINISHED_S),
            "origin": visit.origin, "agent": visit.agent[:MOST_AGENT_CHARS], **more,
        }  # fmt: skip
        return SessionRow(**values)  # type: ignore[arg-type]

    async def end(self, row: SessionRow, visit: Visit | None = None, *, reason: str) -> None:
        """End a session, in every process. May be called twice."""

        def end(connection: Connection) -> None:
            if sql.end_session(connection, row.digest) and row.stage == "open":
                self.record("session:end", row, visit, reason=reason, on=connection)

        await in_write(self.database, end)
        self.forget()
        self._active.pop(row.digest, None)

    async def _end_by_itself(self, digest: str, found: Found | None) -> None:
        if found is not None:
            late = self.now_s >= found.row.ends_s
            await self.end(found.row, reason="its time was over" if late else "nobody used it")
        self._active.pop(digest, None)

    def record(
        self,
        action: str,
        row: SessionRow,
        visit: Visit | None,
        *,
        reason: str = "",
        detail: dict[str, str | int] | None = None,
        on: Connection | None,
    ) -> None:
        """Record an event of a session in the audit log, in its transaction; None without a recorder."""
        self.recorder.record(
            Act(
                action=action,
                actor=row.owner,
                tenant=row.tenant,
                resource=f"session/{row.id}",
                origin=row.origin if visit is None else visit.origin,
                request_id="" if visit is None else visit.request_id,
                reason=reason,
                detail=detail or {},
            ),
            on=on,
        )

    # --- in the background

    async def keep_flushing(self) -> None:
        """Write activity regularly. Ends when cancelled, after a last write."""
        try:
            while True:
                await asyncio.sleep(FLUSH_EVERY_S)
                await self.flush()
        finally:
            await self.flush()

    async def flush(self) -> None:
        """Write activity now."""
        active, self._unsaved = self._unsaved, {}
        if active:
            try:
                await in_write(self.database, sql.note_active, active)
            except AshoreError as fault:
                self._unsaved = active | self._unsaved
                log.warning("cannot save who uses the console: %s", fault.message)
        if len(self._active) > MOST_REMEMBERED:
            oldest = sorted(self._active, key=lambda one: self._active[one])
            for digest in oldest[: MOST_REMEMBERED // 2]:
                del self._active[digest]

    async def keep_clearing(self) -> None:
        """Delete expired sessions every minute, until cancelled."""
        await take_turns("cannot remove sessions that have ended", self.clear, every_s=CLEAR_EVERY_S)

    async def clear(self) -> None:
        """Delete them now."""
        idle_s = self.rules().idle_s + int(2 * FLUSH_EVERY_S)  # others write a moment later

        def clear(connection: Connection) -> None:
            for row in sql.clear_old(connection, self.now_s, idle_s=idle_s):
                if row.stage == "open":
                    reason = "its time was over" if self.now_s >= row.ends_s else "nobody used it"
                    self.record("session:end", row, None, reason=reason, on=connection)

        await in_write(self.database, clear)
        for row in await in_read(self.database, sql.list_sessions, limit=MOST_REMEMBERED):
            try:
                self.principal_of(row)
            except Unauthenticated as fault:  # disabled, removed, or a first key that is dead
                await self.end(row, reason=fault.message)
