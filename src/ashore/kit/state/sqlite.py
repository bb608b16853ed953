"""The SQL engine on SQLite: write-ahead log, `BEGIN IMMEDIATE`, `synchronous=FULL`."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ashore.core.clock import Clock, SystemClock
from ashore.core.errors import DiskFull, HomeTooNew, InvalidSpec, Overloaded, StateLost, StateUnavailable
from ashore.kit.folders import make_folder
from ashore.kit.reserve import Reserve
from ashore.kit.state import schema
from ashore.kit.state.ports import Changes
from ashore.kit.state.secrets import OPTION, SealOf
from ashore.kit.state.statement import collect

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

BUSY_TIMEOUT_S = 5.0
"""Longest wait for another process that writes."""
SHORT_BYTES = 1 << 20
"""With less room on the disk, the reserve of the home is released before something is written."""
LOOK_EVERY_S = 0.1
"""Between two looks for an announcement: a file tells nobody of its own accord."""


class SqliteDatabase:
    """A `Database` in one file: a writer holds the write lock from its start; readers never wait."""

    def __init__(self, engine: Engine, path: Path, snapshots: Path) -> None:
        self._engine = engine
        self._snapshots = snapshots
        self.path = path

    @property
    def place(self) -> str:
        return str(self.path)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        free = self.free_bytes()
        if free is not None and free < SHORT_BYTES:
            Reserve(self.path.parent).release()
        with _translated(self.path, self._snapshots), self._engine.begin() as connection:
            after = collect(connection)
            yield connection
        for do in after:
            do()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with _translated(self.path, self._snapshots), self._engine.connect() as connection:
            connection = connection.execution_options(ashore_reads=True)
            with connection.begin():
                yield connection

    def free_bytes(self) -> int | None:
        try:
            disk = os.statvfs(self.path.parent)
        except OSError:
            return None  # the writer gets the reason
        return disk.f_bavail * disk.f_frsize

    def scrub(self) -> None:
        """Checkpoint the write-ahead log into the file, and truncate it."""
        with (
            _translated(self.path, self._snapshots),
            closing(sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S)) as connection,
        ):
            is_busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if is_busy:
            raise Overloaded(
                f"{self.path}: what was erased still lies in its log, because another process reads there",
                hint="try again",
            )

    def changes(self) -> Changes:
        with _translated(self.path, self._snapshots):
            return _Announcements(self.path)

    def close(self) -> None:
        self._engine.dispose()


class _Announcements:
    """Polls, on its own connection, the number that `announce` increments.

    Other commits do not count: usage is written several times a second during answers, and is irrelevant here.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        self._seen = self._count()

    def wait(self, timeout_s: float) -> bool:
        until_s = time.monotonic() + timeout_s
        with _translated(self._path):
            while (left_s := until_s - time.monotonic()) > 0:
                time.sleep(min(left_s, LOOK_EVERY_S))
                count = self._count()
                if count != self._seen:
                    self._seen = count
                    return True
        return False

    def close(self) -> None:
        self._connection.close()

    def _count(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])


def path_of_url(url: str, *, default: Path) -> Path:
    """Return the file that a state URL names; an empty URL names `default`.

    Raises:
        InvalidSpec: the URL is not SQLite's.
    """
    if not url:
        return default
    if url.startswith("sqlite:///"):
        return Path(url.removeprefix("sqlite:///"))
    scheme = url.partition(":")[0]
    raise InvalidSpec(
        f"the state URL starts with {scheme!r}; the state database is SQLite or Postgres",
        hint="use sqlite:////absolute/path/state.db or postgresql://..., or leave it out to use the home's state.db",
    )


def open_database(
    path: Path,
    *,
    snapshots: Path,
    clock: Clock,
    say: Callable[[str], None] = lambda line: None,
    migrations: Sequence[schema.Migration] | None = None,
    secrets: SealOf | None = None,
    create: bool = True,
) -> SqliteDatabase:
    """Open the state, created or migrated first.

    May be called by several processes at once: the first one migrates, the others wait. A crash in the middle leaves
    the old version intact.

    Args:
        path: The database file; created with mode 0600 if absent.
        snapshots: Folder for the copy that is made before an existing database is migrated.
        clock: Names the snapshot.
        say: Called with messages about a migration, and how to undo it.
        migrations: Steps from version 0 on; None: those of the rooms.
        secrets: Opens what `kept_secret` finds sealed.
        create: Create it if it is missing or empty.

    Raises:
        StateLost: it is missing or empty, and `create` is off.
        HomeTooNew: a newer ashore wrote it; nothing is changed.
        StateUnavailable: it is not a database, or cannot be opened.
    """
    with _translated(path, snapshots):
        if not create and not (path.exists() and path.stat().st_size):
            raise StateLost(
                f"{path} is missing or empty, but existed when this server started",
                hint="restart ashore; it says how to recover the file",
            )
        if not path.exists():
            make_folder(path.parent, mode=0o700)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        _migrate(path, snapshots, clock, say, schema.migrations() if migrations is None else migrations)
        return SqliteDatabase(_make_engine(path, secrets), path, snapshots)


def open_scratch() -> SqliteDatabase:
    """Open a new state of this process only, deleted with the object: for tests, and for servers without a state."""
    from sqlalchemy import event

    folder = Path(tempfile.mkdtemp(prefix="ashore-state-"))
    database = open_database(folder / "state.db", snapshots=folder, clock=SystemClock())
    event.listen(database._engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    weakref.finalize(database, _drop, database._engine, folder)
    return database


def _drop(engine: Engine, folder: Path) -> None:
    engine.dispose()
    shutil.rmtree(folder, ignore_errors=True)


def _migrate(
    path: Path, snapshots: Path, clock: Clock, say: Callable[[str], None], steps: Sequence[schema.Migration]
) -> None:
    with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        found = _version(connection)
        wanted = len(steps)
        if found > wanted:
            raise HomeTooNew(
                f"{path} has schema version {found}; this ashore knows versions up to {wanted}",
                hint="install the newer ashore that wrote it"
                + (f", or go back to a snapshot in {snapshots}" if snapshots.is_dir() else ""),
            )
        if found == wanted:
            return
        snapshot = _snapshot(connection, found, snapshots, clock) if _has_tables(connection) else None
        connection.execute("BEGIN IMMEDIATE")
        try:
            found = _version(connection)
            for step in steps[found:]:
                for statement in step:
                    connection.execute(statement)
            connection.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('schema_version', ?)", (str(wanted),))
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        if snapshot is not None:
            say(f"{path} was migrated from schema version {found} to {wanted}; the old one is kept in {snapshot}")
            say(
                f"to go back: stop ashore, remove {path}-wal and {path}-shm, cp {snapshot} {path}, start the old ashore"
            )


def _has_tables(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0])


def has_state(path: Path) -> bool:
    """Return whether this file is a state of ashore; True if unknown: opening it reports the error."""
    if not path.exists() or not path.stat().st_size:
        return False
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
            return _version(connection) > 0
    except sqlite3.Error:
        return True


def _version(connection: sqlite3.Connection) -> int:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
        return 0
    row = connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    if row and not str(row[0]).isdecimal():
        raise sqlite3.DatabaseError(f"malformed schema version {ascii(row[0])[:40]}")
    return int(row[0]) if row else 0


def _snapshot(connection: sqlite3.Connection, version: int, snapshots: Path, clock: Clock) -> Path:
    make_folder(snapshots, mode=0o700)
    number = 0
    while True:
        suffix = f"-{number}" if number else ""
        target = snapshots / f"state-v{version}-{int(clock.now_s())}{suffix}.db"
        if not target.exists():
            break
        number += 1
    connection.execute("VACUUM INTO ?", (str(target),))
    target.chmod(0o600)
    return target


def copy_database(path: Path, target: Path) -> None:
    """Copy a database at one moment, during writes; `target` (0600) must not exist.

    Raises:
        StateUnavailable: it is not a database, or is damaged.
        DiskFull: there is no room for the copy.
    """
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    with _translated(path):
        source = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
        copy = sqlite3.connect(target)
        try:
            source.backup(copy)
        finally:
            copy.close()
            source.close()


def _make_engine(path: Path, secrets: SealOf | None) -> Engine:
    from sqlalchemy import create_engine, event

    engine = create_engine(
        f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT_S}, execution_options={OPTION: secrets}
    )

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, record: object) -> None:
        connection.isolation_level = None  # the driver would begin late, and never before a SELECT
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA secure_delete=ON")  # not every build of SQLite has it on

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get("ashore_reads")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


@contextmanager
def _translated(path: Path, snapshots: Path | None = None) -> Iterator[None]:
    """Translate the driver's errors."""
    try:
        yield
    except sqlite3.Error as fault:
        raise _our_error(fault, path, snapshots) from fault
    except UnicodeDecodeError as fault:  # the driver returned a damaged text, or its own message about one
        raise _damaged(fault, path, snapshots) from fault
    except Exception as fault:  # SQLAlchemy wraps the driver's error; its module must not be imported for this check
        origin = getattr(fault, "orig", None)
        if isinstance(origin, sqlite3.Error):
            raise _our_error(origin, path, snapshots) from fault
        raise


def _our_error(fault: sqlite3.Error, path: Path, snapshots: Path | None) -> Exception:
    name = getattr(fault, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Overloaded(f"{path.name} was locked by another process for {BUSY_TIMEOUT_S:.0f} s", hint="try again")
    if name.startswith("SQLITE_FULL"):
        return DiskFull(f"no room left on the disk for {path.name}", hint="free some space; nothing was lost")
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")) or "malformed" in str(fault) or "decode" in str(fault):
        return _damaged(fault, path, snapshots)
    return StateUnavailable(f"{path}: {fault}", hint="check that the file and its directory are writable")


def _damaged(fault: Exception, path: Path, snapshots: Path | None) -> StateUnavailable:
    """Return the error for a damaged file, with the newest snapshot if there is one."""
    found = sorted(snapshots.glob("*.db"), key=lambda p: p.stat().st_mtime) if snapshots else []
    back = f"cp {found[-1]} {path}, which is older, or " if found else ""
    said = (str(fault).splitlines() or [""])[0][:200]
    return StateUnavailable(
        f"{path} is damaged: {said if said.isprintable() else ascii(said)}",
        hint=f"stop ashore; then {back}restore a backup of this home, or restore the file from your own copy",
    )
