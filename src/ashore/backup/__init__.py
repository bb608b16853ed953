"""Erasure-coded backups over nodes: any m of k+m may be lost, and a home can be restored from the others and one key.

Owns: the format of shards and commits, their nodes, the backed-up parts of a home, repair and restore, the keys of a
backup. Refuses: knowledge of releases (callers pass the manifests to keep), and field arithmetic of its own.

Where to add what:

- A scheduled task of the backup: an operation, and its `Entry` in backup/scheduled.py.
- A kind of storage for backups: a class with the `Node` methods here, and a form in backup/nodes.py.
- Further data to back up: backup/contents.py. The format stands in docs/reference/backup-format.md, and its
  reader in docs/backup_restore_alone.py.
"""

from ashore.backup.code import Code, could_be_lost, parse_code
from ashore.backup.contents import HomeContents
from ashore.backup.finding import find_backup, find_own
from ashore.backup.home import BackupHome
from ashore.backup.keys import read_recovery
from ashore.backup.memory import MemoryNode
from ashore.backup.model import Finding, KeptBackup, RepairReport, RestoreReport, RunReport, ScrubReport, StatusReport
from ashore.backup.nodes import open_node
from ashore.backup.ports import KeepNamed, Node
from ashore.backup.restoring import STAGING, Restore
from ashore.backup.section import BackupSection
from ashore.backup.service import BackupService
