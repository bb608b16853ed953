"""The record that nobody can quietly change: who asked, decided, did what, with which outcome.

Owns: the lines on disk and their hashes, the writer of each process, checkpoints and anchors, verifying, searching,
exporting, archiving. Refuses to own: what is worth an act (each room tells it through `core.Recorder`), who may read.
"""

from ashore.audit.digests import Digester, digest_key
from ashore.audit.launch import AuditLink, open_command_log, open_log
from ashore.audit.log import AuditLog, Durability, LogOptions, LogStats
from ashore.audit.model import ChainName, Head, Kind, Record, RequestNote
from ashore.audit.query import Query, read_moment
from ashore.audit.render import hit_json, hit_line
from ashore.audit.search import Hit
from ashore.audit.service import AuditService, Reader, VerifyReport, verify_folder
from ashore.audit.verify import ChainReport, Problem, verify_chain
from ashore.audit.writer import ChainWriter

__all__ = [
    "AuditLink",
    "AuditLog",
    "AuditService",
    "ChainName",
    "ChainReport",
    "ChainWriter",
    "Digester",
    "Durability",
    "Head",
    "Hit",
    "Kind",
    "LogOptions",
    "LogStats",
    "Problem",
    "Query",
    "Reader",
    "Record",
    "RequestNote",
    "VerifyReport",
    "digest_key",
    "hit_json",
    "hit_line",
    "open_command_log",
    "open_log",
    "read_moment",
    "verify_chain",
    "verify_folder",
]
