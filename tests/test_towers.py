"""What the towers hold beside imports, which import-linter checks, and strings (unit/test_names_in_strings.py)."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import ashore
from ashore.kit.listed import LISTED

SOURCE = Path(ashore.__file__).parent
BELOW_FRONTS = 238
"""Imports of a module of another room, not of its package, outside core, kit and cli. It only shrinks: export the name
from the package."""


def test_what_api_workers_open_is_of_the_tower_that_answers() -> None:
    opened = [one.data for one in LISTED if one.data]
    assert opened and all(one.startswith("data.") for one in opened)


def test_imports_below_the_front_of_a_room_only_become_fewer() -> None:
    found: Counter[str] = Counter()
    for path in SOURCE.glob("*/**/*.py"):
        own = path.relative_to(SOURCE).parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ashore."):
                named = tuple(str(node.module).split(".")[1:])
                if len(named) > 2 and not {named[0], own[0]} & {"core", "kit", "cli"} and named[:2] != own[:2]:
                    found["/".join(named[:2])] += 1
    print(f"\n{found.total()} imports below a front: {found.most_common()}")
    assert found.total() <= BELOW_FRONTS
