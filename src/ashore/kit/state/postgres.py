"""The SQL engine on Postgres, for several machines. Needs `ashore[postgres]`.

Writers run in parallel here, while SQLite has one at a time: a transaction that reads a row to change it locks it
(`row_lock`), and a second one waits.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from ashore.core.errors import (
    DiskFull,
    HomeTooNew,
    InvalidRequest,
    InvalidSpec,
    MissingExtra,
    Overloaded,
    StateUnavailable,
)
from ashore.core.foreign import foreign_errors
from ashore.kit.extras import how_to_install
from ashore.kit.state import schema
from ashore.kit.state.ports import Changes, Database
from ashore.kit.state.secrets import OPTION, SealOf
from ashore.kit.state.statement import CHANNEL, collect, execute

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

CONNECT_TIMEOUT_S: Final = 5
LOCK_TIMEOUT_S: Final = 5
"""Longest wait for a row that another transaction holds."""
STATEMENT_TIMEOUT_S: Final = 60
ANSWER_S: Final = STATEMENT_TIMEOUT_S + 5.0
"""Longest wait for an answer of a server that is connected, and hangs."""
LASTING: Final = {
    "connect_timeout": CONNECT_TIMEOUT_S, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}  # fmt: skip
"""Notices a peer that is gone within a minute, and keeps idle connections open in routers that drop them."""
MIGRATION_LOCK: Final = 0x6173686F7265
"""Advisory lock of a migration: `ashore` in hexadecimal."""

_TYPES: Final = {"BLOB": "BYTEA", "INTEGER": "BIGINT", "REAL": "DOUBLE PRECISION"}
_TYPE: Final = re.compile(r"\b(" + "|".join(_TYPES) + r")\b")


def is_postgres_url(url: str) -> bool:
    """Return whether a state URL names a Postgres database."""
    return url.startswith(("postgresql://", "postgres://"))


def postgres_ddl(statement: str) -> str:
    """Return a statement of a step for Postgres: only the names of three types differ."""
    return _TYPE.sub(lambda found: _TYPES[found[1]], statement)


class PostgresDatabase:
    """A `Database` on a Postgres server."""

    def __init__(self, engine: Engine, place: str, conninfo: str) -> None:
        self._engine = engine
        self._place = place
        self._conninfo = conninfo

    @property
    def place(self) -> str:
        return self._place

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with _translated(self._place), self._engine.begin() as connection:
            after = collect(connection)
            yield connection
        for do in after:
            do()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with _translated(self._place), self._engine.connect() as connection:
            connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                yield connection

    def free_bytes(self) -> int | None:
        return None

    def scrub(self) -> None:
        """See `Database.scrub`."""

    def changes(self) -> Changes:
        return _Notifications(self._conninfo, self._place)

    def close(self) -> None:
        self._engine.dispose()


class _Notifications:
    """`LISTEN` on its own connection; reconnects after a failure, which counts as a change."""

    def __init__(self, conninfo: str, place: str) -> None:
        self._conninfo = conninfo
        self._place = place
        with _translated(place):
            self._connection: Any = self._connect()

    def wait(self, timeout_s: float) -> bool:
        with _translated(self._place):
            if self._connection is None:
                self._connection = self._connect()
                return True
            try:
                return any(True for _ in self._connection.notifies(timeout=timeout_s, stop_after=1))
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
            self._connection = None

    def _connect(self) -> Any:
        connection = _patient().connect(self._conninfo, autocommit=True, **LASTING)
        connection.execute(f"LISTEN {CHANNEL}")
        return connection


def open_postgres(
    url: str,
    *,
    say: Callable[[str], None] = lambda line: None,
    migrations: Sequence[schema.Migration] | None = None,
    secrets: SealOf | None = None,
) -> Database:
    """Open the state on a Postgres server, created or migrated first, in one transaction.

    May be called by several machines at once: one migrates, the others wait. Makes no snapshot: to undo a migration,
    use the server's own backup.

    Raises:
        HomeTooNew: a newer ashore wrote it; nothing is changed.
        StateUnavailable: the server cannot be reached or refuses.
        MissingExtra: `ashore[postgres]` is not installed.
    """
    try:
        import psycopg  # noqa: F401 - asked for here, so that the answer says what to install
    except ImportError as fault:
        raise MissingExtra(
            "the state database is Postgres, and the Postgres driver is not installed", hint=how_to_install("postgres")
        ) from (fault)
    from sqlalchemy import create_engine

    conninfo = "postgresql://" + url.partition("://")[2]
    place = _without_password(conninfo)
    options = f"-c lock_timeout={LOCK_TIMEOUT_S}s -c statement_timeout={STATEMENT_TIMEOUT_S}s -c timezone=UTC"
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: _patient().connect(conninfo, options=options, **LASTING),
        pool_pre_ping=True,
        pool_timeout=LOCK_TIMEOUT_S,
        execution_options={OPTION: secrets},
    )
    try:
        with _translated(place), engine.begin() as connection:
            _migrate(connection, place, say, schema.migrations() if migrations is None else migrations)
    except BaseException:
        engine.dispose()
        raise
    return PostgresDatabase(engine, place, conninfo)


@cache
def _patient() -> Any:
    """Return the driver's connection, which gives a server up that does not answer: the driver waits for ever."""
    import psycopg

    class Patient(psycopg.Connection[Any]):
        def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
            try:
                return super().wait(until(gen, time.monotonic() + ANSWER_S), *args, **options)
            except Silent:
                self.pgconn.finish()
                raise

    class Silent(psycopg.OperationalError):
        pass

    def until(gen: Any, end_s: float) -> Generator[Any, Any, Any]:
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > end_s:
                    raise Silent(f"no answer in {ANSWER_S:g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value

    return Patient


def _migrate(connection: Connection, place: str, say: Callable[[str], None], steps: Sequence[schema.Migration]) -> None:
    execute(connection, "SELECT pg_advisory_xact_lock(:number)", number=MIGRATION_LOCK)
    connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
    found = int(execute(connection, "SELECT value FROM meta WHERE key = 'schema_version'").scalar() or 0)
    wanted = len(steps)
    if found > wanted:
        raise HomeTooNew(
            f"{place} has schema version {found}; this ashore knows versions up to {wanted}",
            hint="install the newer ashore that wrote it, or restore a backup of the database",
        )
    if found == wanted:
        return
    for step in steps[found:]:
        for statement in step:
            connection.exec_driver_sql(postgres_ddl(statement))
    execute(
        connection,
        "INSERT INTO meta VALUES ('schema_version', :version) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        version=str(wanted),
    )
    if found:
        say(f"{place} was migrated from schema version {found} to {wanted}; to go back, restore the database's backup")


def _without_password(url: str) -> str:
    with foreign_errors("the state URL is malformed", InvalidSpec, hint="postgresql://USER@HOST:5432/DATABASE"):
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    user = f"{parts.username}@" if parts.username else ""
    return f"postgresql://{user}{parts.hostname or ''}{port}{parts.path}"


@contextmanager
def _translated(place: str) -> Iterator[None]:
    """Translate the driver's errors. The driver is imported by the code that could raise them."""
    import psycopg
    from sqlalchemy.exc import TimeoutError as PoolTimeout

    try:
        yield
    except psycopg.Error as fault:
        raise _our_error(fault, place) from fault
    except PoolTimeout as fault:
        raise Overloaded("every connection to the state database is in use", hint="try again") from fault
    except Exception as fault:  # SQLAlchemy wraps the driver's error
        origin = getattr(fault, "orig", None)
        if isinstance(origin, psycopg.Error):
            raise _our_error(origin, place) from fault
        raise


def _our_error(fault: Any, place: str) -> Exception:
    """Source of the codes: PostgreSQL's appendix A."""
    code = fault.sqlstate or ""
    words = str(fault).strip().partition("\n")[0]
    if code in ("55P03", "57014", "40001", "40P01") or code.startswith("53300"):
        return Overloaded("the state database is busy", hint="try again")
    if code == "53100":
        return DiskFull("no space left on the disk of the state database", hint="free some space; nothing was lost")
    if not code and "NUL" in words:  # the driver's own error about a parameter, before the server is called
        return InvalidRequest("a text has the character U+0000, which Postgres cannot keep", hint="leave it out")
    if not code or code.startswith(("08", "57P")):
        return StateUnavailable(
            f"{place} cannot be reached: {words}", hint="check [state] url, and that the server is running"
        )
    return StateUnavailable(f"{place}: {words}", hint="check [state] url and the privileges of its user")
