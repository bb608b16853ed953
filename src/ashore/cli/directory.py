"""`ashore directory`: LDAP and Active Directory, whose people and groups ashore follows."""

from __future__ import annotations

from ashore.cli.calls import noun_of, table
from ashore.cli.operations import operation_command
from ashore.control.directory.calls import CALLS, CheckStep, DirectoryDetail, DirectoryOut
from ashore.core.visible import on_a_screen
from ashore.kit.call import Items


def _show_all(found: Items[DirectoryOut]) -> None:
    print(table(found.items, ("name", "kind", "state", "people", "synced_at")) if found.items else "no directories")
    for one in found.items:
        if one.state in ("failed", "held"):
            print(on_a_screen(f"{one.name}: {one.says}"))


def _show_one(found: DirectoryDetail) -> None:
    _show_all(Items(items=[found.directory]))
    print()
    print(table(found.groups, ("group", "dn", "guid")) if found.groups else "no groups in [directory.map]")


def _show_check(found: Items[CheckStep]) -> None:
    for one in found.items:
        print(on_a_screen(f"{'ok   ' if one.ok else 'WRONG'} {one.what}: {one.says}"))


app = noun_of(
    "directory",
    "Follow LDAP and Active Directory: people, groups, log-in.",
    CALLS,
    {"list": _show_all, "show": _show_one, "check": _show_check},
)
app.command(operation_command("directory sync"), name="sync")
