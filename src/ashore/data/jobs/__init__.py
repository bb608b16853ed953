"""Deferred requests: the queue, files, batches, conversations and stored responses of clients.

Owns: leases, retries, dead letters, fairness, deadlines, results with an end, as rows and rules. Refuses: to run a job.
"""

from ashore.data.jobs.batchlines import ENDPOINTS
from ashore.data.jobs.batchorder import KIND as BATCH_KIND
from ashore.data.jobs.batchorder import BatchOrder, BatchTokens, add_tokens, expires_of, progress_of
from ashore.data.jobs.conversations import MOST_ITEMS, Conversation, KeptItem, SqlConversations, head_of
from ashore.data.jobs.desk import EventChunk, JobDesk, SqlEvents, make_desk
from ashore.data.jobs.filesql import PIECE_BYTES, SqlFiles
from ashore.data.jobs.launch import LOGINS, ApiAddress, JobsLaunch, jobs_command
from ashore.data.jobs.model import (
    ANY_MODEL,
    Again,
    Cancelled,
    CutOff,
    Done,
    Failed,
    Job,
    JobState,
    Lease,
    NewJob,
    Outcome,
    StoredFile,
    new_id,
)
from ashore.data.jobs.paging import PAGE_BYTES, page_length
from ashore.data.jobs.ports import Quotas
from ashore.data.jobs.queue import JobQueue
from ashore.data.jobs.quota import ROW_BYTES, NoQuotas, check_stored
from ashore.data.jobs.request import Call, Reply
from ashore.data.jobs.reserve import check_room
from ashore.data.jobs.section import EgressSection, JobsSection
from ashore.data.jobs.sql import SqlJobs
