"""Events of a background response that is read as a stream, stored as long as the response."""

from __future__ import annotations

from dataclasses import dataclass

from ashore.data.jobs.paging import page_length
from ashore.kit.state import Database, execute


@dataclass(frozen=True, slots=True)
class EventChunk:
    """Consecutive events."""

    last: int
    """Number of the last one."""
    events: bytes


class SqlEvents:
    """Events of jobs in the state. Every method is one blocking transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, job_id: str, attempt: int, chunk: EventChunk) -> bool:
        """Store a chunk; False, and nothing stored, if another attempt has the job."""
        statement = (
            "INSERT INTO job_event (job_id, last, events) SELECT :id, :last, :events WHERE EXISTS "
            "(SELECT 1 FROM job WHERE job_id = :id AND lease_number = :attempt AND state = 'running') "
            "ON CONFLICT DO NOTHING"
        )
        with self._database.write() as connection:
            values: dict[str, object] = {"id": job_id, "last": chunk.last, "events": chunk.events, "attempt": attempt}
            if not execute(connection, statement, **values).rowcount:
                return False
            execute(
                connection,
                "UPDATE job SET num_bytes = num_bytes + :more WHERE job_id = :id",
                id=job_id,
                more=len(chunk.events),
            )
            return True

    def begin_calls(self, job_id: str, attempt: int) -> bool:
        """Note, before it calls a tool, that an attempt does; False: an earlier one did, or it has the job no more."""
        statement = (
            "UPDATE job SET progress = :mark WHERE job_id = :id AND lease_number = :attempt AND state = 'running' "
            "AND progress IN ('', :mark)"
        )
        with self._database.write() as connection:
            values: dict[str, object] = {"id": job_id, "attempt": attempt, "mark": f'{{"calls_of":{attempt}}}'}
            return execute(connection, statement, **values).rowcount > 0

    def last(self, job_id: str) -> int:
        """Return the number of the last stored event; -1 if there is none."""
        with self._database.read() as connection:
            found = execute(connection, "SELECT MAX(last) FROM job_event WHERE job_id = :id", id=job_id).scalar()
            return -1 if found is None else int(found)

    def after(self, job_id: str, number: int, *, limit: int) -> list[EventChunk]:
        """Return the chunks with events after a number, in order: at most `limit`, and one page."""
        where = "WHERE job_id = :id AND last > :number ORDER BY last LIMIT :limit"
        sizes, rows = f"SELECT LENGTH(events) FROM job_event {where}", f"SELECT last, events FROM job_event {where}"
        with self._database.read() as connection:
            values: dict[str, object] = {"id": job_id, "number": number}
            lengths = [int(row[0]) for row in execute(connection, sizes, limit=limit, **values)]
            found = execute(connection, rows, limit=page_length(lengths), **values).mappings()
            return [EventChunk(int(row["last"]), bytes(row["events"])) for row in found]
