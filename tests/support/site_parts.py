"""A server of a site that takes parts of ashore.toml, without one that listens."""

from __future__ import annotations

from pathlib import Path

from ashore.control.sites import Parts, SitesSection, checked, merged, read_parts
from ashore.control.sites.parts import write_parts
from ashore.control.sites.rows import SiteRows
from ashore.core.errors import InvalidSpec
from ashore.kit.section import read_section
from ashore.kit.textfile import parse_toml
from ashore.machine.config import Listening, Spec, parse_spec


class ToldParts:
    """Keeps what a running server would use; a new one starts with what its file and its centre say."""

    def __init__(self, folder: Path, text: str, rows: SiteRows) -> None:
        self.folder, self.text, self.rows = folder, text, rows
        self.in_force: Listening = self._spec(self.now()).listening
        self.refuses = ""

    def _spec(self, parts: Parts) -> Spec:
        return read_section(Spec, merged(parse_toml(self.text, "ashore.toml"), parts), "ashore.toml")

    def now(self) -> Parts:
        return read_parts(self.folder)

    def check(self, parts: Parts) -> None:
        checked(parts, parse_spec(self.text).section("sites", SitesSection).takes)
        self._spec(parts)
        self.rows.check(parts, self.now())

    def apply(self, parts: Parts, sequence: int, *, instead_of: Parts) -> None:
        if self.refuses and parts:
            raise InvalidSpec(self.refuses, hint="")
        self.check(parts)
        before = self.now()
        write_parts(self.folder, parts)
        self.rows.apply(parts, before, instead_of)
        self.in_force = self._spec(parts).listening
