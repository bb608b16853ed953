"""Directories: LDAP and Active Directory, whose people and groups ashore follows.

Owns: reading LDAP, who a person is across names, what a sync changes, and when it runs. Refuses: what a group may do
(`access`: roles are granted to groups here), offices (no group of a directory carries one), and deleting anybody.

Where to add what:

- A kind of directory: a row of `NAMES` in section.py; what says that somebody is disabled: `is_disabled` in reading.py.
- A rule of what a sync does: deciding.py, and a row in tests/unit/directory/test_directory_syncing.py.
"""

from ashore.control.directory.binding import TRIES, DirectoryLogIn
from ashore.control.directory.section import DirectoriesSection, DirectorySection
from ashore.control.directory.syncing import Report, Syncing
