"""Commands and keys that a message or hint names exist, and no string names a module of a higher room."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from deploy.check_docs import ROOT, missing_word

import ashore
from ashore.kit.section import tables_of
from ashore.machine.config.document import Spec
from ashore.machine.deployment.forms.places import Places

SOURCE = Path(ashore.__file__).parent
COMMAND = re.compile(r"`(?:\.venv/bin/)?ashore ([a-z][a-z0-9|-]*(?: [a-z][a-z0-9|-]*)*)")
REMEDY = re.compile(r"(?:^|; )ashore ([a-z][a-z0-9|-]*(?: [a-z][a-z0-9|-]*)*)")
KEY = re.compile(r"\[([a-z_]+(?:\.[a-z_]+)*)\]\]? ([a-z_]+)")
MODULE = re.compile(r"ashore\.([a-z_]+)(?:\.[a-z_0-9]+)*(?::\w+)?")
PROSE = re.compile(
    "allows|are|as|becomes|come|does|for|from|has|if|in|is|names|needs|of|on|prices|promises|such|there|where|with"
)
"""Words that follow the name of a table in a sentence."""
KNOWN_ABOVE = frozenset(
    {
        ("control", "ashore.cli.main"),  # the doctor, a drill, a node on Ray: `ashore` in a process of its own
        ("control", "ashore.cli.operation"),
        ("data", "ashore.control.jobs.worker"),
        ("machine", "ashore.cli.fetch"),
    }
)
"""Lower towers that start a module of a higher one. Take a line out when its process moves; add none."""
RECOGNISED = "kit/processes/ports.py"
"""Names the modules of every room that is a process: it starts none of them."""


@dataclass(frozen=True, slots=True)
class Text:
    """A string of the source; `\\0` stands for what is put into it when it runs."""

    file: str
    line: int
    words: str
    is_remedy: bool
    """It stands in `commands=`: each is typed as it is."""

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


def texts_of(file: str, source: str) -> Iterator[Text]:
    """Yield every string of a module, those of docstrings too. Pieces of an f-string come as one."""
    tree = ast.parse(source)
    inside: set[int] = set()
    remedies: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(piece) for piece in node.values}
        elif isinstance(node, ast.keyword) and node.arg == "commands":
            remedies |= {id(piece) for piece in ast.walk(node.value)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            words = "".join(str(piece.value) if isinstance(piece, ast.Constant) else "\0" for piece in node.values)
            yield Text(file, node.lineno, words, id(node) in remedies)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield Text(file, node.lineno, node.value, id(node) in remedies)


@cache
def texts() -> tuple[Text, ...]:
    """Return the strings of all modules that people write."""
    found: list[Text] = []
    for path in sorted(SOURCE.rglob("*.py")):
        if path.parent.name != "gen":
            found += texts_of(str(path.relative_to(SOURCE)), path.read_text(encoding="utf-8"))
    return tuple(found)


def unknown_commands(text: Text) -> list[str]:
    """Return the commands that a string tells to type and that are not there."""
    said = COMMAND.findall(text.words) + (REMEDY.findall(text.words) if text.is_remedy else [])
    return [f"{text.place}: ashore {words}" for words in said if missing_word(words.split())]


@cache
def tables() -> Mapping[str, frozenset[str]]:
    """Return the keys of every table that ashore.toml and places.toml have, by its name: `model.engine`."""
    found: dict[str, frozenset[str]] = {}
    for header, keys in (*tables_of(Spec).items(), *tables_of(Places).items()):
        name = header.strip("[]")
        found[name] = found.get(name, frozenset()) | {key.name for key in keys}
    return found


def unknown_keys(text: Text) -> list[str]:
    """Return the keys that a string gives to a table and that the table does not have."""
    found = []
    for table, key in KEY.findall(text.words):
        known = tables().get(table)
        if known is not None and key not in known and not PROSE.fullmatch(key):
            found.append(f"{text.place}: [{table}] {key}")
    return found


@cache
def floors() -> Mapping[str, int]:
    """Return the floor of each room, 0 for the highest, as import-linter holds it."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = document["tool"]["importlinter"]["contracts"][0]["layers"]
    return {
        room.strip("( )"): floor for floor, rooms in enumerate(layers) for room in rooms.replace(":", "|").split("|")
    }


def named_above(text: Text) -> tuple[str, str] | None:
    """Return the room of a string and the module of a higher room that the string is the name of; else None."""
    own = text.file.split("/")[0].removesuffix(".py")
    found = MODULE.fullmatch(text.words)
    if found is None or own not in floors() or found[1] not in floors() or text.file == RECOGNISED:
        return None
    return (own, text.words) if floors()[found[1]] < floors()[own] else None


def test_every_command_that_a_string_names_exists() -> None:
    assert [line for text in texts() for line in unknown_commands(text)] == []


def test_every_key_that_a_string_names_exists() -> None:
    assert [line for text in texts() for line in unknown_keys(text)] == []


def test_no_string_names_a_module_of_a_higher_room_but_the_known_ones() -> None:
    found = {place for text in texts() if (place := named_above(text)) is not None}
    assert found - KNOWN_ABOVE == set(), "start it from above, or move it down"
    assert KNOWN_ABOVE - found == set(), "take these lines out of KNOWN_ABOVE"


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("find(commands=('ashore status', 'ashore cache status'))", "here:1: ashore cache status"),
        ("find(commands=('unset X  # then: ashore stop; ashore upp',))", "here:1: ashore upp"),
        ("hint = f'run `ashore model pul {name}`'", "here:1: ashore model pul"),
        ("hint = 'ashore keeps its state'", ""),
        ("hint = '[model.share] cores = 2'", "here:1: [model.share] cores"),
        ("hint = 'raise [http] max_body_bytes'", "here:1: [http] max_body_bytes"),
        ("hint = f'{where} [http] port of the file; [[model]] alias'", ""),
    ],
)
def test_it_finds_what_it_looks_for(source: str, wrong: str) -> None:
    found = [line for text in texts_of("here", source) for line in (*unknown_commands(text), *unknown_keys(text))]
    assert found == ([wrong] if wrong else [])
