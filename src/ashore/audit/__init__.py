"""The audit log, which cannot be changed unnoticed: who requested, decided and did what, with which outcome.

Owns: the lines on disk and their hashes, the writer of each process, checkpoints and anchors, verifying, searching,
exporting, archiving. Refuses to own: what is recorded (each room reports it through `core.Recorder`), who may read.

Where to add what:

- Something an auditor must find: an `Act` (core/recorder.py) passed to the `Recorder` of a use case.
- An anchor or an archive: audit/anchors/ (its `__init__` opens it by the form of the place), the form in
  audit/section.py, audit/archive.py (scheduled: archivist.py), and a parameter of tests/contract/test_audit_anchors.py.
"""

from ashore.audit.anchors import Anchor, open_anchor
from ashore.audit.archive import Archive, MemoryArchive, archive_segments, open_archive
from ashore.audit.archivist import Archivist
from ashore.audit.checkpoints import Checkpoints
from ashore.audit.content import SUBJECTS_EPOCH, ContentSealer, SqlSubjectKeys
from ashore.audit.digests import Digester, digest_key
from ashore.audit.export import verify_export
from ashore.audit.following import Follower
from ashore.audit.forms import NoteForm
from ashore.audit.keyseal import PRIVATE_KEYS, rewrap_audit_keys, seal_audit_keys, unseal_audit_keys
from ashore.audit.launch import AuditLink, open_command_log, open_log
from ashore.audit.log import AuditLog, LogOptions
from ashore.audit.model import ChainName, Record, RequestNote
from ashore.audit.notary import Notary, read_anchors
from ashore.audit.outbox import Outbox
from ashore.audit.query import Query, read_moment, shown_moment
from ashore.audit.render import hit_line
from ashore.audit.section import AuditSection
from ashore.audit.service import AuditService
from ashore.audit.signing import PUBLIC_KEYS, PublicKey, load_signing_key, read_public_keys
from ashore.audit.verify import verify_local
from ashore.audit.verifyfolder import VerifyReport, verify_folder
from ashore.audit.writer import ChainWriter
