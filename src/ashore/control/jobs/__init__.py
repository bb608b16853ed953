"""Work that may wait, as it is run: the job worker, operations, batches, webhooks, and the schedule.

Owns: which handler runs what, operations in processes of their own, the calls `job`. Refuses to own: the queue and its
rules (`data/jobs`), what a job does (it knows only a `Handler`), HTTP routes, keys.

Where to add what:

- A kind of job: a `Handler` (data/jobs/ports.py) in the map and in a lane of control/jobs/worker.py (without a lane it
  never runs); its submission: data/http/desk.py and a route; whether its result is shown: `job_out` in
  data/http/jobs.py; the noun of its webhook: data/jobs/rules.py.
"""

from ashore.control.jobs.batch import BatchHandler
from ashore.control.jobs.runner import Lane, Runner
from ashore.control.jobs.webhook import WebhookHandler, signed_headers, webhook_secret
