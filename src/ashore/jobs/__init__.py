"""Work that may wait: a durable queue, the files it reads and writes, conversations, and the workers that run it.

Owns: leases, retries, dead letters, fairness, deadlines, results with an end, batches, webhooks.
Refuses to own: what a job does (it knows only a `Handler`), HTTP routes, keys.

Where to add what:

- A kind of job: a `Handler` (jobs/ports.py) in the map and in a lane of jobs/worker.py (without a lane it never runs);
  its submission: api/http/desk.py and a route; whether its result is shown: `job_out` in api/http/jobs.py;
  the noun of its webhook: jobs/rules.py.
"""

from ashore.jobs.batch import BatchHandler
from ashore.jobs.batchlines import ENDPOINTS
from ashore.jobs.batchorder import KIND as BATCH_KIND
from ashore.jobs.batchorder import BatchOrder, expires_of, progress_of
from ashore.jobs.batchtokens import BatchTokens, add_tokens
from ashore.jobs.conversations import MOST_ITEMS, Conversation, KeptItem, SqlConversations, head_of
from ashore.jobs.desk import JobDesk, make_desk
from ashore.jobs.events import EventChunk, SqlEvents
from ashore.jobs.filesql import PIECE_BYTES, SqlFiles
from ashore.jobs.launch import LOGINS, ApiAddress, JobsLaunch, jobs_command
from ashore.jobs.model import (
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
from ashore.jobs.paging import PAGE_BYTES, page_length
from ashore.jobs.ports import Quotas
from ashore.jobs.queue import JobQueue
from ashore.jobs.quota import ROW_BYTES, NoQuotas, check_stored
from ashore.jobs.request import Call, Reply
from ashore.jobs.reserve import check_room
from ashore.jobs.runner import Lane, Runner
from ashore.jobs.section import EgressSection, JobsSection
from ashore.jobs.sql import SqlJobs
from ashore.jobs.webhook import WebhookHandler, webhook_secret
