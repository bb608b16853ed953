"""The audit log as each process writes it, so that it cannot be changed unnoticed: who did what, with which outcome.

Owns: the lines on disk and their hashes, one chain for each process, segments, checkpoints. Refuses to own: what is
recorded (each room reports it to its `Recorder`), verifying, exporting and archiving (`control/audit`).
"""

from ashore.data.audit.canonical import decode as read_record
from ashore.data.audit.canonical import encode as encode_record
from ashore.data.audit.chain import genesis, linked
from ashore.data.audit.checkpoints import CHECKPOINTS, Checkpoints, SignedLine, read_checkpoints, read_home
from ashore.data.audit.content import SUBJECTS_EPOCH, ContentSealer, SqlSubjectKeys
from ashore.data.audit.digests import Digester, digest_key
from ashore.data.audit.launch import AuditLink, open_command_log, open_log
from ashore.data.audit.log import AuditLog, LogOptions
from ashore.data.audit.model import ChainName, Record, RequestNote
from ashore.data.audit.outbox import Outbox
from ashore.data.audit.query import Query, read_moment, shown_moment
from ashore.data.audit.section import AuditSection
from ashore.data.audit.segments import chains_in, last_record, read_lines, segment_path, segments_of
from ashore.data.audit.signing import PUBLIC_KEYS, PublicKey, load_signing_key, read_public_keys
from ashore.data.audit.writer import ChainWriter, NoteForm
