"""What the directory says of one person now: the groups that they are in at any depth."""

from __future__ import annotations

from typing import Final

from ashore.control.directory.ber import any_of, equal
from ashore.control.directory.reading import plain
from ashore.control.directory.section import DirectorySection
from ashore.control.directory.wire import Ldap

MOST_GROUPS: Final = 5_000
AT_ONCE: Final = 100


async def groups_of(connection: Ldap, section: DirectorySection, dn: str) -> set[str]:
    """Return the plain names of the groups that hold an entry at any depth, each with those that hold it."""
    found: set[str] = set()
    todo = [dn]
    while todo and len(found) < MOST_GROUPS:
        some, todo = todo[:AT_ONCE], todo[AT_ONCE:]
        what = any_of(*(equal(name, one) for one in some for name in ("member", "uniqueMember")))
        async for entry in connection.search(section.groups, what, ("cn",)):
            if plain(entry.dn) not in found:
                found.add(plain(entry.dn))
                todo.append(entry.dn)
    return found
