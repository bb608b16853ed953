"""A home examined by the doctor, in this process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from waiting import eventually

from ashore.cli.bootstrap.doctor import open_doctor
from ashore.cli.doctor import configuration_of
from ashore.control.doctor import Diagnosis, Finding, diagnose, load_rules
from ashore.control.doctor.examine import Doctor
from ashore.control.doctor.look import Look
from ashore.kit.settings import Home, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """One home, and its doctor."""

    home: Home
    doctor: Doctor
    settings: Settings

    def look(self) -> Look:
        """Take an earlier look, for `findings`."""
        return self.doctor.look()[0]

    def diagnosis(self, before: Look | None = None, span_s: float = 0.5) -> Diagnosis:
        """Return what is found between an earlier look and now; without one, between two looks."""
        if before is None:
            before = self.look()
            time.sleep(span_s)
        look, scene = self.doctor.look()
        return diagnose(self.doctor.readings(before, look, scene), load_rules())

    def findings(self, before: Look | None = None, span_s: float = 0.5) -> dict[str, Finding]:
        """Return the findings by their rule; of several of one rule, the first."""
        found: dict[str, Finding] = {}
        for one in self.diagnosis(before, span_s).findings:
            found.setdefault(one.rule, one)
        return found

    def finds(self, rule: str, before: Look | None = None) -> Finding:
        """Wait until a rule fires."""
        return eventually(lambda: self.findings(before).get(rule), told=lambda: f"{rule} stayed silent")

    def is_silent(self, rule: str) -> None:
        """Wait until a rule fires no more."""
        eventually(lambda: rule not in self.findings(), told=lambda: f"{rule} goes on")


def examined(root: Path, *, state_url: str = "", warnings: tuple[str, ...] = ()) -> Examined:
    """Return the doctor of a home."""
    settings = Settings(home=Home(root=root), state_url=state_url, warnings=warnings)
    doctor = open_doctor(settings, lambda: configuration_of(settings), lambda served: (), survey_s=60)
    return Examined(home=settings.home, doctor=doctor, settings=settings)
