"""The record that nobody can quietly change: who asked, decided, did what, with which outcome.

Owns: the lines on disk and their hashes, the writer of each process, checkpoints and anchors, verifying, searching,
exporting, archiving. Refuses to own: what is worth an act (each room tells it through `core.Recorder`), who may read.
"""

from ashore.audit.anchors import Anchor, open_anchor
from ashore.audit.checkpoints import Checkpoint, Checkpoints
from ashore.audit.digests import Digester, digest_key
from ashore.audit.launch import AuditLink, open_command_log, open_log
from ashore.audit.log import AuditLog, Durability, LogOptions, LogStats
from ashore.audit.model import ChainName, Head, Kind, Record, RequestNote
from ashore.audit.notary import Notary
from ashore.audit.query import Query, read_moment
from ashore.audit.render import hit_json, hit_line
from ashore.audit.search import Hit
from ashore.audit.service import AuditService, Reader
from ashore.audit.signing import PUBLIC_KEYS, PublicKey, SigningKey, load_signing_key, read_public_keys
from ashore.audit.verify import ChainReport, Problem, verify_chain
from ashore.audit.verifyfolder import VerifyReport, verify_folder
from ashore.audit.vouching import CheckpointReport
from ashore.audit.writer import ChainWriter

__all__ = [
    "PUBLIC_KEYS",
    "Anchor",
    "AuditLink",
    "AuditLog",
    "AuditService",
    "ChainName",
    "ChainReport",
    "ChainWriter",
    "Checkpoint",
    "CheckpointReport",
    "Checkpoints",
    "Digester",
    "Durability",
    "Head",
    "Hit",
    "Kind",
    "LogOptions",
    "LogStats",
    "Notary",
    "Problem",
    "PublicKey",
    "Query",
    "Reader",
    "Record",
    "RequestNote",
    "SigningKey",
    "VerifyReport",
    "digest_key",
    "hit_json",
    "hit_line",
    "load_signing_key",
    "open_anchor",
    "open_command_log",
    "open_log",
    "read_moment",
    "read_public_keys",
    "verify_chain",
    "verify_folder",
]
