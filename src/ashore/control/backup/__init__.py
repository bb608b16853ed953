"""Erasure-coded backups over nodes: any m of k+m may be lost, and a home can be restored from the others and one key.

Owns: the format of shards and commits, their nodes, the backed-up parts of a home, repair and restore, the keys of a
backup. Refuses: knowledge of releases (callers pass the manifests to keep), and field arithmetic of its own.

Where to add what:

- A scheduled task of the backup: an operation, and its `Entry` in control/backup/scheduled.py.
- A kind of storage for backups: a class with the `Node` methods here, and a form in control/backup/nodes.py.
- Further data to back up: control/backup/contents.py. The format stands in docs/reference/backup-format.md, and its
  reader in docs/backup_restore_alone.py.
"""

from ashore.control.backup.code import Code, could_be_lost, parse_code
from ashore.control.backup.contents import HomeContents
from ashore.control.backup.finding import find_backup, find_own
from ashore.control.backup.home import BackupHome
from ashore.control.backup.keys import read_recovery
from ashore.control.backup.model import (
    Finding,
    KeptBackup,
    RepairReport,
    RestoreReport,
    RunReport,
    ScrubReport,
    StatusReport,
)
from ashore.control.backup.nodes import open_node
from ashore.control.backup.ports import Node
from ashore.control.backup.restoring import STAGING, Restore
from ashore.control.backup.section import BackupSection
from ashore.control.backup.service import BackupService
