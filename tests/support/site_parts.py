"""A server of a site that takes parts of ashore.toml, without one that listens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ashore.control.sites import Parts, SitesSection, checked, merged, read_parts
from ashore.core.errors import AshoreError, InvalidSpec
from ashore.kit.section import read_section
from ashore.kit.textfile import parse_toml
from ashore.machine.config import Listening, Spec, parse_spec


class ToldServer:
    """Keeps what a running server would use; a new one starts with what its file and its centre say."""

    def __init__(self, folder: Path, text: str) -> None:
        self.text, self.refuses = text, ""
        self.in_force: Listening = self._spec(read_parts(folder)).listening

    def _spec(self, parts: Parts) -> Spec:
        return read_section(Spec, merged(parse_toml(self.text, "ashore.toml"), parts), "ashore.toml")

    def ask(self, question: Mapping[str, Any]) -> Iterator[dict[str, object]]:
        """Answer as the supervisor does."""
        parts, is_asked = question["parts"], question["op"] == "check parts"
        try:
            checked(parts, parse_spec(self.text).section("sites", SitesSection).takes)
            fresh = self._spec(parts).listening
            if self.refuses and parts and not is_asked:
                raise InvalidSpec(self.refuses, hint="")
        except AshoreError as fault:
            yield {"error": fault.message, "hint": fault.hint}
            return
        self.in_force = self.in_force if is_asked else fresh
        yield {"done": True}
