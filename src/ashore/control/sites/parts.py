"""Parts of ashore.toml that a centre sets at its sites: which they may be, where they lie, how they are merged.

`parts.json` is replaced whole. `ashore up` and `ashore reload` of a site merge it into ashore.toml, as far as `[sites]
takes` still names its sections; so it holds at every start until the next want replaces it. Two parts, `ROWS`, are no
sections of that file: they become rows of the state (rows.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ashore.control.sites.rows import ROWS, SiteRows, rows_of
from ashore.core.errors import InvalidSpec, NotReady, PermissionDenied
from ashore.kit.recorder import Act, Recorder, begin
from ashore.kit.recordfile import read_record, write_record
from ashore.kit.section import is_from_file
from ashore.kit.textfile import parse_toml

Parts = Mapping[str, str]
"""TOML text by section."""

SETTABLE: Final[Mapping[str, tuple[str, ...]]] = {
    "admission": ("max_running", "max_waiting", "max_tokens_in_flight", "default_deadline_s"),
    "cache": ("mode", "ttl_s", "max_temperature"),
    "privacy": ("floor",),
    "budgets": ("budget",),
    "pairs": ("pair",),
}
"""Keys that a centre may ever set: no program, address, folder, library or listener; and nothing that masks less, or
shares answers between tenants."""
MOST_BYTES: Final = 64 << 10
"""Of one part."""
NAME: Final = "ashore.toml"
"""Stands for the parts in what is said of a failed assignment."""


@dataclass(frozen=True, slots=True)
class SiteParts:
    """Gives parts to the server of this home."""

    folder: Path
    """`sites/` of the home."""
    recorder: Recorder
    rows: SiteRows
    server: Callable[[Mapping[str, object]], Iterable[Mapping[str, object]]]
    """Asks the supervisor; yields the lines of its answer."""

    def now(self) -> Parts:
        """Return the parts in force."""
        return read_parts(self.folder)

    def check(self, parts: Parts, instead_of: Parts | None = None) -> None:
        """Return when the server could take these parts, in place of those that it has from the centre.

        Raises:
            InvalidSpec: `[sites] takes` does not allow one of them, or ashore.toml with these parts cannot be used.
            NotReady: it cannot be asked now.
        """
        self._ask({"op": "check parts", "parts": parts})
        self.rows.check(parts, self.now(), instead_of or {})

    def apply(self, parts: Parts, sequence: int, *, instead_of: Parts) -> None:
        """Put these parts in force for this server and for its next starts. May be called again, also after a kill.

        Args:
            parts: In place of those before. A section that is not allowed any more has no effect.
            sequence: Of the want that they come from.
            instead_of: The parts that the server may still have. Sections of neither are left alone.

        Raises:
            AshoreError: as `check`.
        """
        before = self.now()
        self.check(parts, instead_of)
        for section in sorted({*parts, *before}):
            if parts.get(section) != before.get(section):
                detail: dict[str, str | int] = {"sequence": sequence, "part": parts.get(section, "")}
                act = Act(action="site:part", actor="site", resource=f"section/{section}", detail=detail)
                begin(self.recorder, act)
        write_parts(self.folder, parts)
        self.rows.apply(parts, before, instead_of)
        self._ask({"op": "apply parts", "parts": parts, "instead_of": instead_of})

    def drop(self, takes: Collection[str]) -> None:
        """Take away the budgets and pairs that the officer does not allow any more. May be called at any time."""
        before = self.now()
        kept = {name: text for name, text in before.items() if name not in ROWS or name in takes}
        if kept != before:
            self.rows.apply(kept, before)
            write_parts(self.folder, kept)

    def _ask(self, question: Mapping[str, object]) -> None:
        try:
            for answer in self.server(question):
                if "error" in answer:
                    kind = NotReady if answer.get("retryable") else InvalidSpec
                    raise kind(str(answer["error"]), hint=str(answer.get("hint", "")))
        except OSError as fault:  # a time-out is one
            raise NotReady(f"the server of this site does not answer: {fault}", hint="it is asked again") from fault


def checked(parts: Parts, takes: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return the tables of parts that come from a centre.

    Raises:
        PermissionDenied: a section or key may not be set by the centre.
        InvalidSpec: a part is too long, or is not TOML.
    """
    found = {}
    for section, text in sorted(parts.items()):
        where = f"the centre's part [{section[:60]}]"
        if section not in SETTABLE:
            raise PermissionDenied(
                f"{where} cannot be set at a site", hint=f"a centre may set parts of {', '.join(SETTABLE)}"
            )
        if section not in takes:
            raise PermissionDenied(
                f"{where} is not allowed at this site", hint=f'to allow it, add "{section}" to [sites] takes here'
            )
        if len(text.encode()) > MOST_BYTES:
            raise InvalidSpec(f"{where} is longer than {MOST_BYTES:,} bytes", hint="shorten it at the centre")
        table = parse_toml(text, where)
        for key in table:
            if key not in SETTABLE[section]:
                raise PermissionDenied(
                    f"{where} sets {key[:60]!r}, which a centre cannot set", hint=f"it may set {SETTABLE[section]}"
                )
        if _names_file(table):
            raise PermissionDenied(f"{where} takes a value from a file of this site", hint="write the value itself")
        found[section] = table
    rows_of(parts)
    return found


def merged(document: Mapping[str, Any], parts: Parts) -> dict[str, Any]:
    """Return the document of ashore.toml with the parts that its `[sites] takes` allows; the others are left out.

    A key of the centre replaces that of the file; a list of tables is added to the file's.

    Raises:
        InvalidSpec, PermissionDenied: as `checked`.
    """
    sites = document.get("sites")
    takes = sites.get("takes", ()) if isinstance(sites, dict) else ()
    allowed = tuple(one for one in takes if isinstance(one, str)) if isinstance(takes, list) else ()
    result = dict(document)
    for section, table in checked({name: text for name, text in parts.items() if name in allowed}, allowed).items():
        own = document.get(section, {})
        if section not in ROWS and isinstance(own, dict):  # else its reader says what is wrong
            result[section] = {**own, **{key: _joined(own.get(key), value) for key, value in table.items()}}
    return result


def _names_file(value: object) -> bool:
    """Return whether a value would be read from a file, whose text could then be seen in a message."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return is_from_file(value) or any(map(_names_file, inner))


def _joined(own: object, theirs: object) -> object:
    return [*own, *theirs] if isinstance(own, list) and isinstance(theirs, list) else theirs


def read_parts(folder: Path) -> Parts:
    """Return the parts in force.

    Args:
        folder: `sites/` of the home.

    Raises:
        CorruptBlob: the file is damaged.
    """
    hint = "delete it: the site takes the parts from its centre again"
    return read_record(folder / "parts.json", dict[str, str], if_damaged=hint) or {}


def write_parts(folder: Path, parts: Parts) -> None:
    """Replace the parts in force; a kill leaves the old or the new ones."""
    write_record(folder / "parts.json", parts)
