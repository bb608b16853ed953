"""A branch office loses its line to the centre, or its power while it switches to a new version."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Final

from ashore.control.drills.centre import ALIAS, Centre
from ashore.control.drills.faults.disks import AuditFault
from ashore.control.drills.faults.network import Cut
from ashore.control.drills.faults.processes import KilledSupervisor
from ashore.control.drills.model import Check
from ashore.core.errors import EngineFailed, EnvironmentFault

COUNT_S: Final = 30.0
SILENT_S: Final = 5.0
"""The office asks every second."""
WAIT_S: Final = 90.0


class SiteFault(AuditFault):
    """Trouble at an office. In the end it serves what its centre assigned, and its audit log verifies."""

    @property
    def centre(self) -> Centre:
        centre = self.scene.network.centre
        if centre is None:
            raise EnvironmentFault("this server has no centre that a drill may use", hint="rehearse it with --twin")
        return centre

    def kept(self, name: str) -> dict[str, Any]:
        """Return a file of the office's own process."""
        path = self.scene.home.sites / name
        return json.loads(path.read_bytes()) if path.exists() else {}

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something at the office.

        Raises:
            EngineFailed: it does not come.
        """
        end_s = time.monotonic() + WAIT_S
        while not holds():
            if time.monotonic() > end_s:
                raise EngineFailed(f"nothing in {WAIT_S:g} s: {self.kept('status.json')}", hint="report this")
            time.sleep(0.002)

    def why_unwell(self) -> str:
        status = self.kept("status.json")
        if ALIAS not in status.get("serving", {}) or status["phase"] != "idle":
            return f"it does not serve what its centre assigned: {status.get('phase')} {status.get('note')}"
        return super().why_unwell()


class CutCentre(Cut, SiteFault):
    """A version is assigned while nothing passes; usage is counted all the while, and handed in once."""

    def fire(self) -> None:
        self.until(lambda: self.kept("status.json").get("news_s", 0) > 0)
        super().fire()
        self.centre.assign()

    def felt(self) -> str:
        silent_s = time.time() - self.kept("status.json")["news_s"]
        return f"no news for {silent_s:.0f} s" if silent_s > SILENT_S else ""

    def checks(self) -> tuple[Check, ...]:
        end_s = time.monotonic() + COUNT_S
        while (counts := (self._here(), self._there()))[0] != counts[1] and time.monotonic() < end_s:
            time.sleep(1)
        seen = f"{counts[1]} of {counts[0]} requests"
        held = counts[0] == counts[1] > 0
        return (*super().checks(), Check(name="usage at the centre", held=held, seen=seen, bound="each counted once"))

    def _here(self) -> int:
        told = json.loads(self.scene.ashore("access", "usage", "--json").stdout)
        return sum(int(one["requests"]) for one in told["items"])

    def _there(self) -> int:
        return sum(int(one["requests"]) for one in self.centre.shown()["usage"])


class LostPower(KilledSupervisor, SiteFault):
    """Every process dies as soon as the office has begun to point its alias elsewhere."""

    def fire(self) -> None:
        self.centre.assign()
        self.until(lambda: self.kept("switch.json").get("phase") in ("switching", "judging"))
        super().fire()
        self.phase = self.kept("switch.json").get("phase")

    def felt(self) -> str:
        gone = super().felt()
        return f"{gone}, in mid-switch ({self.phase})" if gone and self.phase != "idle" else ""

    def mend(self) -> None:
        super().mend()
        told = json.loads(self.scene.ashore("release", "list", "--alias", ALIAS, "--json").stdout)
        self.live = [str(one["name"]) for one in told["items"] if one["state"] == "live"]

    def why_unwell(self) -> str:
        return SiteFault.why_unwell(self)

    def checks(self) -> tuple[Check, ...]:
        one = Check(
            name="releases that answer after the start", held=len(self.live) == 1, seen=", ".join(self.live) or "none",
            bound="one, the old or the new",
        )  # fmt: skip
        return (*super().checks(), *AuditFault.checks(self), one)
