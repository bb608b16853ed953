"""The audit log as its readers use it: verified, searched, exported, anchored and archived.

Owns: the calls `audit`, verdicts, anchors, the archive. Refuses to own: how a record is written (`data/audit`), what is
recorded (each room reports it to its `Recorder`), who may read.

Where to add what:

- Something an auditor must find: an `Act` (kit/recorder.py) passed to the `Recorder` of a use case.
- An anchor or an archive: control/audit/anchors/ (its `__init__` opens it by the form of the place), the form in
  data/audit/section.py, control/audit/archive.py (scheduled: archivist.py), and a parameter of
  tests/contract/test_audit_anchors.py.
"""

from ashore.control.audit.anchors import Anchor, open_anchor
from ashore.control.audit.archive import Archive, archive_segments, open_archive
from ashore.control.audit.archivist import Archivist
from ashore.control.audit.calls import hit_line
from ashore.control.audit.export import cef_line, plain_json, verify_export
from ashore.control.audit.fed import FeedStanding, Reached, forget_feed, keep_feed, read_feeds
from ashore.control.audit.following import Follower
from ashore.control.audit.keyseal import PRIVATE_KEYS, rewrap_audit_keys, seal_audit_keys, unseal_audit_keys
from ashore.control.audit.notary import Notary, read_anchors
from ashore.control.audit.service import AuditService
from ashore.control.audit.verify import verify_local
from ashore.control.audit.verifyfolder import VerifyReport, verify_folder
from ashore.control.audit.vouching import verify_checkpoints, vouched_of
