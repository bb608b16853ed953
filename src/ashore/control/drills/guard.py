"""Whether a drill may start: pure."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ashore.control.drills.model import Drill
from ashore.control.drills.section import DrillsSection, is_open


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """The circumstances of a drill."""

    on_twin: bool
    production: bool
    consents: tuple[str, ...] = ()
    """Officers who consented to this drill within the last day."""
    reason: str = ""
    """Why it is run, in the words of who runs it."""
    candidates: tuple[str, ...] = ()
    """Releases that are being compared with the live one."""
    backup_runs: bool = False
    replicas: int | None = None
    """How many the model has that the load asks; None: not known."""
    now_s: float = 0.0


def is_production(section: DrillsSection, missing_offices: tuple[str, ...]) -> bool:
    """Return whether users depend on a server: by its configuration, else once all three offices are filled."""
    if section.production == "auto":
        return not missing_offices
    return section.production == "yes"


def refusal(drill: Drill, section: DrillsSection, now: Situation) -> tuple[str, str]:
    """Return why a drill may not start, and what to do; empty: it may."""
    if now.on_twin:
        return "", ""
    if drill.twin_only:
        return f"{drill.name} is run on a twin alone: {drill.fault}", "add --twin"
    if now.replicas is not None and drill.spare and now.replicas <= drill.spare:
        return (
            f"{drill.name} needs a model with {drill.spare + 1} replicas, and this one has {now.replicas}",
            f"set replicas = {drill.spare + 1} under [[model]] in ashore.toml, or name another --model; or add --twin",
        )
    moment = time.gmtime(now.now_s)
    if not is_open(section.window, moment.tm_wday, moment.tm_hour * 60 + moment.tm_min):
        return f"drills may run here in the window {section.window!r} (UTC) alone", "wait for it, or add --twin"
    if now.candidates:
        return (
            f"{', '.join(now.candidates)} is being compared with the live release",
            "wait until it is promoted or retired",
        )
    if now.backup_runs:
        return "a backup runs", "wait until it has ended"
    if now.production:
        if not now.reason:
            return "users depend on this server, and no reason was given", "add --reason 'why'; or add --twin"
        if not now.consents:
            return (
                f"users depend on this server, and no security officer consented to {drill.name} in the last 24 hours",
                f"ask one for `ashore drill consent {drill.name}`; or add --twin",
            )
    return "", ""
