"""Gives the parts of ashore.toml that a centre sets to the server of this home."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from ashore.core.errors import InvalidSpec, NotReady
from ashore.kit.processes import ask
from ashore.kit.recorder import Act, Recorder, begin
from ashore.kit.settings import Home

if TYPE_CHECKING:
    from ashore.control.sites import Parts


@dataclass(frozen=True, slots=True)
class ServerParts:
    """The `SiteParts` of the server that listens on the control socket of a home."""

    home: Home
    recorder: Recorder

    def now(self) -> Parts:
        from ashore.control.sites import read_parts

        return read_parts(self.home.sites)

    def check(self, parts: Parts) -> None:
        self._wanted(parts)

    def apply(self, parts: Parts, sequence: int, *, instead_of: Parts) -> None:
        from ashore.cli.upplan import ReloadOrder
        from ashore.control.sites import write_parts
        from ashore.data.engines import Plan

        status, serving, wanted = self._wanted(parts)
        before = self.now()
        for section in sorted({*parts, *before}):
            if parts.get(section) != before.get(section):
                detail: dict[str, str | int] = {"sequence": sequence, "part": parts.get(section, "")}
                act = Act(action="site:part", actor="site", resource=f"section/{section}", detail=detail)
                begin(self.recorder, act)
        write_parts(self.home.sites, parts)
        moved = {name: getattr(wanted, name) for name in {*parts, *instead_of}}
        listening = msgspec.structs.replace(serving, **moved)  # and nothing else that the file may say by now
        if listening != serving:
            plan = msgspec.convert(status["plan"], Plan)
            self._ask({"op": "apply", "order": msgspec.to_builtins(ReloadOrder(plan=plan, listening=listening))})

    def _wanted(self, parts: Parts) -> tuple[Mapping[str, Any], Any, Any]:
        """Return what the server says, its configuration, and the one with these parts."""
        from ashore.cli.upplan import request_of
        from ashore.control.sites import SitesSection, checked
        from ashore.machine.config import Listening

        status = self._ask({"op": "status"})
        spec = request_of(status["request"]).spec_with(parts)
        checked(parts, spec.section("sites", SitesSection).takes)
        return status, msgspec.convert(status["listening"], Listening), spec.listening

    def _ask(self, question: Mapping[str, object]) -> dict[str, Any]:
        """Return the last line of the server's answer.

        Raises:
            NotReady: it cannot be asked now.
            InvalidSpec: it refuses.
        """
        last: dict[str, Any] = {}
        try:
            for last in ask(self.home.control_socket, question):
                if "error" in last:
                    raise InvalidSpec(str(last["error"]), hint=str(last.get("hint", "")))
        except (NotReady, OSError) as fault:
            raise NotReady(f"the server of this site cannot be asked: {fault}", hint="it is asked again") from fault
        return last
