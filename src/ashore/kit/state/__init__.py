"""The source of truth for everything that must not be lost: the SQL engine, its schema, migrations, and epochs.

Owns: opening, transactions, versions, snapshots before a migration, and notifying processes of changes. Refuses: the
meaning of a room's rows.

Where to add what:

- A secret of a home: `kept_secret` for one of the state, `written_secret` for rows of a table of yours (`_TABLES` in
  kit/state/secrets.py), a `SecretFolder` for files; its row in docs/reference/sealing.md, and in
  cli/bootstrap/secrets.py if it stays in clear.
- Something that pages and clients follow: `keep_event` in the transaction of the change (kit/state/happenings.py).
- Something stored for clients: `account` and `models` in its row (its owner, and the models that a narrowed key must
  allow), found and listed through data/http/stored.py.
"""

from ashore.kit.state.epochs import IN_FORCE_S, EpochWatch, bump, read_epochs
from ashore.kit.state.following import Following
from ashore.kit.state.happenings import (
    EVENTS,
    Event,
    events_after,
    events_read,
    events_span,
    keep_event,
    keep_events_read,
)
from ashore.kit.state.opening import open_state
from ashore.kit.state.ports import Changes, Database
from ashore.kit.state.postgres import is_postgres_url, open_postgres
from ashore.kit.state.secrets import (
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
from ashore.kit.state.section import StateSection
from ashore.kit.state.sqlite import copy_database, has_state, open_database, open_scratch, path_of_url
from ashore.kit.state.statement import (
    Record,
    after_commit,
    among,
    announce,
    contains,
    execute,
    execute_many,
    insert,
    is_postgres,
    pattern_of,
    row_lock,
    unrecorded,
    upsert,
)
from ashore.kit.state.tables import TuningRow, load_tuning, save_tuning
from ashore.kit.state.threads import in_read, in_write
