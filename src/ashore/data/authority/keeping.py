"""The directory and the policy of one worker, synchronised with the state.

Read whole at the start and on reload; when the epoch of keys or of the policy changes, only changes are read. Without a
state, the first key's own file is used; without a key, requests need none.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from ashore.core.clock import Clock
from ashore.core.errors import AshoreError, InvalidSpec, Unauthenticated
from ashore.core.principal import DEFAULT_TENANT, Principal
from ashore.data.authority import sql as access_sql
from ashore.data.authority.authority import PolicyAuthority
from ashore.data.authority.directory import FIRST_KEY_IS, Directory
from ashore.data.authority.doorkeeper import Doorkeeper, TokenVerifier
from ashore.data.authority.keys import MAX_TOKEN_CHARS, KeyDigest, digest_of, looks_like_key, new_key
from ashore.data.authority.ports import Authenticator
from ashore.data.authority.roles import DEVELOPER, FIRST_KEY, VIEWER
from ashore.data.authority.sql import KEYS_EPOCH, POLICY_EPOCH
from ashore.kit.recorder import Recorder
from ashore.kit.state import Database, EpochWatch, read_epochs

FLUSH_EVERY_S: Final = 15.0
"""Delay until the state learns of a key's last use, and of its expiry."""

log = logging.getLogger("ashore.worker")


class KeyTable:
    """Digests of keys and their owners: suits the first key and a few others.

    Every entry is compared in full for every token, so the time reveals nothing about any key.
    """

    def __init__(self, entries: Iterable[tuple[KeyDigest, Principal]] = ()) -> None:
        self._entries = tuple(entries)

    def take(self, entries: Iterable[tuple[KeyDigest, Principal]]) -> None:
        """Replace the keys. May be called from any thread."""
        self._entries = tuple(entries)

    @classmethod
    def with_first_key(cls, key: str) -> KeyTable:
        """Return a table that holds the first key alone."""
        principal = Principal(id="first-key", kind="first-key", tenant=DEFAULT_TENANT, roles=frozenset((FIRST_KEY,)))
        return cls([(digest_of(key), principal)])

    def authenticate(self, token: str | None, origin: str = "") -> Principal:
        if not token:
            raise Unauthenticated(
                "no API key was given",
                hint=f"send `Authorization: Bearer KEY`; {FIRST_KEY_IS}",
            )
        found: Principal | None = None
        if len(token) <= MAX_TOKEN_CHARS:
            for digest, principal in self._entries:
                if digest.matches(token):
                    found = principal
        if found is None:
            raise Unauthenticated("the API key is not valid", hint=f"check the key; {FIRST_KEY_IS}")
        return found


class OpenDoor:
    """Admits everybody as one principal. For load generators and tests; must not be reachable from elsewhere."""

    def __init__(self) -> None:
        self._principal: Final = Principal(
            id="anyone", kind="key", tenant=DEFAULT_TENANT, roles=frozenset((DEVELOPER, VIEWER))
        )

    def authenticate(self, token: str | None, origin: str = "") -> Principal:
        return self._principal


def make_first_key(path: Path) -> str:
    """Return the key in `path`, creating it (mode 0600) if missing. Safe for concurrent callers.

    Raises:
        InvalidSpec: the file holds something else.
    """
    if not path.exists():
        scratch = path.with_name(f".{path.name}.{os.getpid()}")
        scratch.unlink(missing_ok=True)
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(new_key() + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(scratch, path)
        except FileExistsError:
            pass  # another process was first; its key is used
        finally:
            scratch.unlink()
    return read_first_key(path)


def read_first_key(path: Path) -> str:
    """Return the key in `path`.

    Raises:
        InvalidSpec: the file is missing or holds no key.
    """
    try:
        key = path.read_text().strip()
    except OSError as fault:
        raise InvalidSpec(f"first key {path}: {fault.strerror}", hint="`ashore up` creates it") from fault
    except UnicodeDecodeError:
        key = ""
    if not looks_like_key(key):
        raise InvalidSpec(
            f"{path} does not contain an ashore key", hint=f"remove {path}; `ashore up` creates a new one"
        )
    return key


class Keys:
    """Authenticator and authority of one worker."""

    def __init__(
        self,
        first_key: Path | None,
        database: Database | None,
        watch: EpochWatch | None = None,
        *,
        clock: Clock,
        recorder: Recorder,
        verifier: TokenVerifier | None = None,
    ) -> None:
        """Create it. `first_key`: the file of the first key; None: requests need no key.

        Reads everything, and later the changes of each epoch that `watch` reports, on its own thread.

        Raises:
            AshoreError: the state cannot be read, or there is neither a state nor a readable first key.
        """
        self.database: Final[Database | None] = None if first_key is None else database
        """The state with the keys; None without one."""
        self._clock = clock
        self._reading = threading.Lock()
        self._seen = -1
        self._mark = (-1, -1)
        """Mark of the last policy read."""
        self.after_change: Callable[[], object] = lambda: None
        """Called on the thread that read a change, once the directory and the policy have it."""
        self.directory: Final = Directory()
        self.authority: Final = PolicyAuthority()
        self._doorkeeper = Doorkeeper(self.directory, clock, recorder, verifier=verifier)
        self.authenticator: Authenticator = self._doorkeeper
        if first_key is None:
            self.authenticator = OpenDoor()
        elif database is None:
            self.authenticator = KeyTable.with_first_key(read_first_key(first_key))
        else:
            if watch is not None:
                watch.on_change(self._changed)
            self._take(whole=True)  # after the line above, so that no change falls between them

    async def reread(self, *, whole: bool = True) -> None:
        """Read again: everything, as on `reload`, or the changes since the last time.

        Raises:
            AshoreError: the state cannot be read; the keys stay as they were.
        """
        if self.database is not None:
            await asyncio.to_thread(self._take, whole=whole)

    def current(self, principal: Principal) -> Principal:
        """Return what a principal that was admitted before is by now: the same object, if nothing has changed.

        Raises:
            Unauthenticated: its key, account or tenant is not valid any more.
        """
        if self.database is None:
            return principal
        now = self.directory.current(principal, self._clock.now_s())
        return principal if now == principal else now  # memos find by identity first

    def acting(self, name: str, tenant: str) -> Principal:
        """Return the current principal of a job.

        Raises:
            PermissionDenied: its submitter is not authorised any more.
        """
        return self.directory.acting(name, tenant, self._clock.now_s())

    def forget(self) -> None:
        """Clear cached results: the keys of an issuer have changed."""
        self._doorkeeper.forget()

    def use(self, verifier: TokenVerifier | None) -> None:
        """Use this verifier from now on."""
        self._doorkeeper.use(verifier)

    async def keep_flushing(self) -> None:
        """Periodically save when keys were last used, and revoke expired ones. Ends when it is cancelled, after a
        last save."""
        try:
            while True:
                await asyncio.sleep(FLUSH_EVERY_S)
                await asyncio.to_thread(self.flush)
        finally:
            await asyncio.to_thread(self.flush)

    def flush(self) -> None:
        """Save now. A failure is logged, and retried with the next uses."""
        if self.database is None:
            return
        uses = self._doorkeeper.take_uses()
        try:
            with self.database.read() as connection:
                over = access_sql.has_expired(connection, int(self._clock.now_s()))
            if uses or over:
                with self.database.write() as connection:
                    access_sql.note_uses(connection, uses)
                    if over:
                        access_sql.expire_keys(connection, int(self._clock.now_s()))
        except AshoreError as fault:
            log.warning("cannot save the last uses of %d keys: %s", len(uses), fault.message)

    def _changed(self, kind: str, value: int) -> None:
        if kind in (KEYS_EPOCH, POLICY_EPOCH):
            self._take(whole=False)

    def _take(self, *, whole: bool) -> None:
        assert self.database is not None
        with self._reading:
            since = -1 if whole else self._seen
            with self.database.read() as connection:
                seen = read_epochs(connection).get(KEYS_EPOCH, 0)
                tenants = access_sql.list_tenants(connection)
                accounts, gone = access_sql.changed_accounts(connection, since)
                keys = access_sql.changed_keys(connection, since)
                mark = access_sql.policy_mark(connection)
                policy = access_sql.load_policy(connection) if whole or mark != self._mark else None
            self.directory.take(tenants=tenants, accounts=accounts, gone=gone, keys=keys, whole=whole)
            if policy is not None and policy != self.authority.compiled.policy:
                self.authority.take(policy)
            self._seen, self._mark = seen, mark
            self._doorkeeper.forget()
        self.after_change()
