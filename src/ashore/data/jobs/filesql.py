"""Files in SQL, in pieces of at most a mebibyte: one source of truth, whichever machine took the upload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from ashore.data.jobs.model import StoredFile
from ashore.data.jobs.quota import check_stored, stored_bytes, tenant_lock, too_many_bytes
from ashore.data.jobs.reserve import check_room
from ashore.kit.state import Database, execute, execute_many, insert

if TYPE_CHECKING:
    from sqlalchemy import Connection

PIECE_BYTES: Final = 1 << 20
_COLUMNS: Final = "file_id, tenant, filename, purpose, num_bytes, created_ms, expires_ms, complete, account, models"


class SqlFiles:
    """Files in the state, in pieces. Each piece is its own transaction, so a slow upload blocks no one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, file: StoredFile) -> None:
        """Start an empty, incomplete file. The same id again restarts it."""
        with self._database.write() as connection:
            _drop(connection, file.file_id)
            insert(connection, "stored_file", {**asdict(file), "num_bytes": 0, "complete": 0})

    def append(self, file_id: str, number: int, piece: bytes, *, most_bytes: int | None = None) -> None:
        """Store one piece; the same number again replaces it. It counts at once, as the file may never be complete.

        Raises:
            BudgetExceeded: the tenant would store more than `most_bytes`. DiskFull: there is no room.
        """
        assert len(piece) <= PIECE_BYTES
        statement = (
            "INSERT INTO file_piece (file_id, number, piece) SELECT :id, :number, :piece "
            "WHERE EXISTS (SELECT 1 FROM stored_file WHERE file_id = :id) "
            "ON CONFLICT (file_id, number) DO UPDATE SET piece = excluded.piece"
        )
        length = "UPDATE stored_file SET num_bytes = :end WHERE file_id = :id AND num_bytes < :end"
        owner = "SELECT tenant FROM stored_file WHERE file_id = :id AND purpose <> 'batch_output'"
        with self._database.write() as connection:
            tenant = execute(connection, owner, id=file_id).scalar()
            check_room(self._database, len(piece), of=None if tenant is None else (connection, str(tenant)))
            if tenant is not None:
                check_stored(connection, str(tenant), len(piece), most_bytes)
            execute(connection, statement, id=file_id, number=number, piece=piece)
            execute(connection, length, id=file_id, end=number * PIECE_BYTES + len(piece))

    def complete(self, file: StoredFile, *, most_bytes: int | None = None) -> StoredFile | None:
        """Mark a file complete, with its purpose, name, length and expiry. None: it is gone.

        Raises:
            BudgetExceeded: the files of its tenant would be longer than `most_bytes` together; this one is dropped.
        """
        statement = (
            "UPDATE stored_file SET complete = 1, num_bytes = :num_bytes, purpose = :purpose, filename = :filename, "
            "expires_ms = :expires_ms WHERE file_id = :id"
        )
        over: int | None = None
        with self._database.write() as connection:
            if most_bytes is not None:
                over = _over(connection, file, most_bytes)
            if over is not None:
                _drop(connection, file.file_id)
            else:
                execute(
                    connection,
                    statement,
                    id=file.file_id,
                    num_bytes=file.num_bytes,
                    purpose=file.purpose,
                    filename=file.filename,
                    expires_ms=file.expires_ms,
                )
        if over is not None and most_bytes is not None:
            raise too_many_bytes(file.tenant, over, file.num_bytes, most_bytes)
        return self.get(file.file_id)

    def get(self, file_id: str) -> StoredFile | None:
        """Return the metadata of a complete file."""
        if "\0" in file_id:  # Postgres rejects such a value even in a query
            return None
        statement = f"SELECT {_COLUMNS} FROM stored_file WHERE file_id = :id AND complete = 1"
        with self._database.read() as connection:
            row = execute(connection, statement, id=file_id).mappings().first()
            return None if row is None else _file(row)

    def piece(self, file_id: str, number: int) -> bytes | None:
        """Return one piece, None after the last."""
        statement = "SELECT piece FROM file_piece WHERE file_id = :id AND number = :number"
        with self._database.read() as connection:
            piece = execute(connection, statement, id=file_id, number=number).scalar()
            return None if piece is None else bytes(piece)

    def select(
        self,
        *,
        tenant: str,
        purpose: str | None,
        after: tuple[int, str] | None,
        limit: int,
        account: str | None = None,
        oldest_first: bool = False,
    ) -> list[StoredFile]:
        """Return complete files of a tenant, or of one of its accounts, newest first."""
        way, beyond = ("ASC", ">") if oldest_first else ("DESC", "<")
        where, values = "tenant = :tenant AND complete = 1", dict[str, object](tenant=tenant, limit=limit)
        if account is not None:
            where += " AND account = :account"
            values["account"] = account
        if purpose is not None:
            if "\0" in purpose:
                return []
            where += " AND purpose = :purpose"
            values["purpose"] = purpose
        if after is not None:
            where += f" AND (created_ms, file_id) {beyond} (:after_ms, :after_id)"
            values |= {"after_ms": after[0], "after_id": after[1]}
        statement = (
            f"SELECT {_COLUMNS} FROM stored_file WHERE {where} ORDER BY created_ms {way}, file_id {way} LIMIT :limit"
        )
        with self._database.read() as connection:
            return [_file(row) for row in execute(connection, statement, **values).mappings()]

    def delete(self, file_id: str) -> bool:
        """Delete a file with its bytes; False if there was none."""
        with self._database.write() as connection:
            execute(connection, "DELETE FROM file_piece WHERE file_id = :id", id=file_id)
            return bool(execute(connection, "DELETE FROM stored_file WHERE file_id = :id", id=file_id).rowcount)

    def prune(self, *, now_ms: int, abandoned_before_ms: int, limit: int) -> int:
        """Delete expired files, and uploads abandoned before a moment; return how many."""
        statement = (
            "SELECT file_id FROM stored_file WHERE expires_ms <= :now "
            "OR (complete = 0 AND created_ms <= :abandoned) LIMIT :limit"
        )
        with self._database.read() as connection:
            rows = execute(connection, statement, now=now_ms, abandoned=abandoned_before_ms, limit=limit)
            gone = [{"id": row[0]} for row in rows]
        if gone:
            with self._database.write() as connection:
                execute_many(connection, "DELETE FROM file_piece WHERE file_id = :id", gone)
                execute_many(connection, "DELETE FROM stored_file WHERE file_id = :id", gone)
        return len(gone)


def _file(row: Mapping[Any, Any]) -> StoredFile:
    return StoredFile(**{**row, "complete": bool(row["complete"])})


def _drop(connection: Connection, file_id: str) -> None:
    execute(connection, "DELETE FROM file_piece WHERE file_id = :id", id=file_id)
    execute(connection, "DELETE FROM stored_file WHERE file_id = :id", id=file_id)


def _over(connection: Connection, file: StoredFile, most_bytes: int) -> int | None:
    """Return what the tenant stores already, if that plus the file exceeds the limit."""
    tenant_lock(connection, file.tenant)
    others = stored_bytes(connection, file.tenant, without_file=file.file_id)
    return others if others + file.num_bytes > most_bytes else None
