"""The audit log as each process writes it: notes, chains, segments and checkpoints.

Owns: the form of a record and its durability. Refuses: to search for people, to export and to archive.
"""

from ashore.data.audit.checkpoints import Checkpoints
from ashore.data.audit.content import SUBJECTS_EPOCH, ContentSealer, SqlSubjectKeys
from ashore.data.audit.digests import Digester, digest_key
from ashore.data.audit.forms import NoteForm
from ashore.data.audit.launch import AuditLink, open_command_log, open_log
from ashore.data.audit.log import AuditLog, LogOptions
from ashore.data.audit.model import ChainName, Record, RequestNote
from ashore.data.audit.outbox import Outbox
from ashore.data.audit.query import Query, read_moment, shown_moment
from ashore.data.audit.section import AuditSection
from ashore.data.audit.signing import PUBLIC_KEYS, PublicKey, load_signing_key, read_public_keys
from ashore.data.audit.writer import ChainWriter
