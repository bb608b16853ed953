"""Rooms bring their tables by number: what was released stays as it was, and a number is of one room."""

from __future__ import annotations

from collections import Counter

from ashore.kit.listed import PACKAGE
from ashore.kit.state.schema import migrations

RELEASED = {1: ["access", "state"], 3: ["cache", "state"]}
"""Versions that two rooms share; no more do."""


def test_every_version_is_of_one_room_and_a_released_one_gets_no_more_files() -> None:
    rooms: dict[int, list[str]] = {}
    for file in sorted(PACKAGE.rglob("tables/*.sql")):
        rooms.setdefault(int(file.stem), []).append(file.parent.parent.name)
    assert {number: names for number, names in rooms.items() if len(names) > 1} == RELEASED
    assert sorted(rooms) == list(range(1, len(migrations()) + 1))


def test_statements_end_at_the_end_of_a_line() -> None:
    found = [statement for step in migrations() for statement in step]
    assert not [one for one in found if ";" in one]
    verbs = Counter(one.split()[0] for one in found)
    assert set(verbs) == {"CREATE", "ALTER", "INSERT", "UPDATE", "DROP"} and verbs["CREATE"] > 40
