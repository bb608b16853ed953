"""Work that may wait: a durable queue, the files it reads and writes, and the workers that run it.

Owns: leases, retries, dead letters, fairness, deadlines, results with an end, batches, webhooks and where they may go.
Refuses to own: what a job does (it knows only a `Handler`), HTTP routes, keys.
"""

from ashore.jobs.filesql import PIECE_BYTES, SqlFiles
from ashore.jobs.memory import MemoryFiles, MemoryJobs
from ashore.jobs.model import (
    FINAL,
    Again,
    Cancelled,
    Done,
    Failed,
    Job,
    JobBody,
    JobState,
    Lease,
    NewJob,
    Outcome,
    StoredFile,
    new_id,
)
from ashore.jobs.ports import FileStore, Handler, JobStore
from ashore.jobs.queue import JobQueue
from ashore.jobs.sql import SqlJobs

__all__ = [
    "FINAL",
    "PIECE_BYTES",
    "Again",
    "Cancelled",
    "Done",
    "Failed",
    "FileStore",
    "Handler",
    "Job",
    "JobBody",
    "JobQueue",
    "JobState",
    "JobStore",
    "Lease",
    "MemoryFiles",
    "MemoryJobs",
    "NewJob",
    "Outcome",
    "SqlFiles",
    "SqlJobs",
    "StoredFile",
    "new_id",
]
