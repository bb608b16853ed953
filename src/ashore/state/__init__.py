"""The source of truth for everything that must not be lost: the SQL engine, its schema, migrations, and epochs.

Owns: opening, transactions, versions, snapshots before a migration, and notifying processes of changes. Refuses: the
meaning of a room's rows.

Where to add what:

- A secret of a home: `kept_secret` for one of the state, `written_secret` for rows of a table of yours (`_TABLES` in
  state/secrets.py), a `SecretFolder` for files; its row in docs/reference/sealing.md, and in bootstrap/secrets.py if it
  stays in clear.
- Something that pages and clients follow: `keep_event` in the transaction of the change (state/happenings.py).
- Something stored for clients: `account` and `models` in its row (its owner, and the models that a narrowed key must
  allow), found and listed through api/http/stored.py.
"""

from ashore.state.committed import Record, after_commit, unrecorded
from ashore.state.epochs import IN_FORCE_S, EpochWatch, bump, read_epochs
from ashore.state.happenings import (
    EVENTS,
    Event,
    events_after,
    events_read,
    events_span,
    keep_event,
    keep_events_read,
)
from ashore.state.model import TuningRow
from ashore.state.opening import open_state
from ashore.state.ports import Changes, Database
from ashore.state.postgres import is_postgres_url, open_postgres
from ashore.state.schema import schema_version
from ashore.state.secrets import (
    SealOf,
    SecretRow,
    content_key_name,
    exchange_secrets,
    kept_secret,
    list_secrets,
    opened_secret,
    read_note,
    write_note,
    written_secret,
)
from ashore.state.section import StateSection
from ashore.state.sqlite import copy_database, has_state, open_database, open_scratch, path_of_url
from ashore.state.statement import announce, execute, execute_many, is_postgres, row_lock
from ashore.state.tables import load_tuning, save_tuning
