"""One drill from its baseline to its verdict."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from ashore import __version__
from ashore.control.drills.faults import MAKERS, Fault, Scene, lacking
from ashore.control.drills.load import Asked, Load
from ashore.control.drills.model import Check, Drill, Outcome, Report, Verdict
from ashore.control.drills.rules import is_well, lost_check, phase_of, should_abort, steady, verdict_of
from ashore.control.drills.twin import TwinServer
from ashore.control.drills.undoing import Undoing
from ashore.core.errors import AshoreError, Conflict
from ashore.kit.settings import Home

BASELINE_S: Final = 3.0
LOOK_S: Final = 0.1
FELT_S: Final = 5.0
"""A fault that nobody felt within so long after it was made was none."""
DOCTOR_S: Final = 20.0
"""Longest wait for the doctor after a drill. Its findings are part of the report, and no condition of it."""


class Stopped(Exception):
    """The drill was asked to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where a drill runs, and its observers."""

    home: Home
    """That keeps the journal and the reports; also the one on which it runs, where that is no twin."""
    journal: Path
    place: int | None = None
    """From `Book.running`."""
    asked: Asked | None = None
    """The server that answers users; None: a twin is made."""
    say: Callable[[str], None] = lambda line: None
    noticed: Callable[[Home], tuple[str, ...]] = lambda home: ()
    """Asks the doctor what it finds while the fault is there."""
    stopped: Callable[[], bool] = lambda: False
    """Whether somebody asked it to end."""
    baseline_s: float = BASELINE_S
    """How long the server is looked at before the fault."""
    id: str = ""
    actor: str = ""
    consent: str = ""
    production: bool = False


def run_drill(drill: Drill, stage: Stage) -> Report:
    """Run a drill, and return its result. The fault is always undone on return.

    Raises:
        AshoreError: the twin did not start, or an earlier drill left something behind.
    """
    began_s = time.time()
    if why := lacking(drill.needs):
        return _report(drill, stage, began_s, "error", f"this machine cannot make the fault: {why}")
    with (
        tempfile.TemporaryDirectory(prefix="ashore-drill-", ignore_cleanup_errors=True) as folder,
        Undoing(stage.journal, drill.most_s + 120, place=stage.place) as undoing,
    ):
        scene = _scene(drill, stage, Path(folder), undoing)
        return run_on(drill, stage, scene, began_s)


def run_on(drill: Drill, stage: Stage, scene: Scene, began_s: float) -> Report:
    """Run a drill on an existing server, and return its result. The fault is always undone on return.

    Args:
        drill: The drill.
        stage: Its observers.
        scene: The server. Its watcher (`scene.undoing`) runs.
        began_s: Seconds since 1970.
    """
    return _Run(drill, stage, scene, began_s).go()


def _scene(drill: Drill, stage: Stage, folder: Path, undoing: Undoing) -> Scene:
    if stage.asked is None:
        twin = TwinServer(drill, folder, undoing)
        stage.say("starting a twin")
        asked = twin.start()
        return Scene(
            home=twin.home,
            asked=asked,
            undoing=undoing,
            drill=drill,
            restart=twin.restart,
            ashore=twin.ashore,
            folder=folder,
            group=twin.group,
            neighbours=twin.network,
            clock=twin.clock,
        )

    def no_restart() -> None:
        raise Conflict("the server that answers users is not started again by a drill", hint="rehearse it with --twin")

    def no_command(*words: str) -> object:
        raise Conflict(f"`ashore {' '.join(words)}` is run on a twin alone", hint="rehearse it with --twin")

    return Scene(
        home=stage.home, asked=stage.asked, undoing=undoing, drill=drill, restart=no_restart, ashore=no_command,  # type: ignore[arg-type]
        folder=folder,
    )  # fmt: skip


class _Run:
    """The steps of one drill, in order."""

    def __init__(self, drill: Drill, stage: Stage, scene: Scene, began_s: float) -> None:
        self._drill = drill
        self._stage = stage
        self._scene = scene
        self._began_s = began_s
        self._zero_s = time.monotonic()
        self._load = Load(replace(scene.asked, cached=drill.cached), drill.load)
        self._felt = ""
        self._noticed: tuple[str, ...] = ()
        self._doctor: threading.Thread | None = None
        self._fault_at_s = self._healed_at_s = 0.0

    def go(self) -> Report:
        drill, say = self._drill, self._stage.say
        self._scene.replicas = self._scene.ready()
        if not self._scene.drill.twin_only and drill.spare and self._scene.replicas <= drill.spare:
            return self._end("unfit", f"{self._scene.replicas} replica is ready; {drill.spare + 1} are needed")
        self._load.start(self._zero_s)
        try:
            say(f"steady state, {self._stage.baseline_s:g} s")
            self._wait(self._stage.baseline_s)
            if why := steady(self._load.outcomes()):
                return self._end("unfit", why)
            return self._broken(MAKERS[drill.maker](self._scene))
        except Stopped:
            return self._end("aborted", "somebody stopped it")
        finally:
            self._scene.undoing.heal()
            self._load.stop()
            self._hear_doctor()  # before anything is deleted that it looks at

    def _broken(self, fault: Fault) -> Report:
        drill, say = self._drill, self._stage.say
        say(f"fault: {drill.fault}")
        self._fault_at_s = self._now_s()
        why = ""
        try:
            fault.fire()
        except OSError as error:
            return self._end("error", f"the fault could not be made: {error}")
        why = self._hold(fault)
        left = self._scene.undoing.heal()
        if not why and not left:
            fault.mend()
        self._healed_at_s = self._now_s()
        say(f"healed after {self._healed_at_s - self._fault_at_s:.1f} s; {self._felt or 'nobody felt it'}")
        if left:
            return self._end("error", f"what was broken could not be undone: {'; '.join(left)}")
        if why:
            return self._end("aborted", why)
        if not self._felt:
            return self._end("error", "nobody felt the fault, so nothing was rehearsed")
        return self._recover(fault)

    def _hold(self, fault: Fault) -> str:
        """Wait while the fault lasts; return why it must end early."""
        began_s = time.monotonic()
        while (passed_s := time.monotonic() - began_s) < max(self._drill.hold_s, 0 if self._felt else FELT_S):
            self._felt = self._felt or fault.felt()
            if self._doctor is None and passed_s >= min(2.0, self._drill.hold_s / 2):
                self._doctor = threading.Thread(target=self._ask_doctor, daemon=True)
                self._doctor.start()
            if self._felt and fault.is_over():
                return ""
            if passed_s > self._drill.most_s:
                return f"the fault lasted longer than {self._drill.most_s:.0f} s"
            if why := should_abort(self._drill, self._load.outcomes(), self._now_s()):
                return why
            self._look()
        self._felt = self._felt or fault.felt()
        return ""

    def _ask_doctor(self) -> None:
        """Query the doctor in parallel to the drill, whose limits stay in force."""
        try:
            self._noticed = self._stage.noticed(self._scene.home)
        except (AshoreError, OSError) as fault:
            self._stage.say(f"the doctor could not look: {fault}")

    def _hear_doctor(self) -> None:
        if self._doctor is not None:
            self._doctor.join(DOCTOR_S)

    def _recover(self, fault: Fault) -> Report:
        drill, say = self._drill, self._stage.say
        end_s = self._healed_at_s + 2 * drill.recovery_s + 5
        unwell = "no request was answered since"
        well_s: float | None = None
        while self._now_s() < end_s:
            answered_s = is_well(self._load.outcomes(), self._healed_at_s)
            if answered_s is not None:
                try:
                    unwell = fault.why_unwell()
                except AshoreError as error:
                    unwell = error.message
                if not unwell:
                    well_s = max(answered_s, self._now_s() if well_s is None else well_s)
                    break
            self._look()
        outcomes = self._load.stop()
        self._hear_doctor()
        from_s = self._healed_at_s if drill.hold_s else self._fault_at_s
        recovered_s = None if well_s is None else well_s - from_s
        say("well again" if recovered_s is not None else f"not well: {unwell}")
        seen = f"{recovered_s:.2f} s" if recovered_s is not None else unwell
        checks = (
            lost_check(drill, [one for one in outcomes if one.at_s + one.took_s >= self._fault_at_s]),
            Check(
                name="recovery", held=recovered_s is not None and recovered_s <= drill.recovery_s, seen=seen,
                bound=f"{drill.recovery_s:g} s",
            ),
            *(fault.checks() if recovered_s is not None else ()),
        )  # fmt: skip
        verdict, why = verdict_of(checks)
        return self._end(verdict, why, checks=checks, recovered_s=recovered_s)

    def _end(
        self, verdict: Verdict, why: str, *, checks: tuple[Check, ...] = (), recovered_s: float | None = None
    ) -> Report:
        outcomes = self._load.outcomes()
        at, healed = self._fault_at_s, self._healed_at_s

        def between(start_s: float, end_s: float) -> list[Outcome]:
            return [one for one in outcomes if start_s <= one.at_s + one.took_s < end_s]

        phases = {"before": phase_of(between(0.0, at or self._now_s()))}
        if at:
            phases["during"] = phase_of(between(at, healed or self._now_s()))
            phases["after"] = phase_of(between(healed, float("inf")) if healed else [])
        return msgspec.structs.replace(
            _report(self._drill, self._stage, self._began_s, verdict, why),
            fault_at_s=round(at, 3),
            fault_for_s=round(max(0.0, healed - at), 3),
            felt=self._felt,
            recovered_s=None if recovered_s is None else round(recovered_s, 3),
            noticed=self._noticed,
            phases=phases,
            checks=checks,
            outcomes=outcomes,
        )

    def _now_s(self) -> float:
        return time.monotonic() - self._zero_s

    def _look(self) -> None:
        if self._stage.stopped():
            raise Stopped
        time.sleep(LOOK_S)

    def _wait(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self._look()


def _report(drill: Drill, stage: Stage, began_s: float, verdict: Verdict, why: str) -> Report:
    return Report(
        id=stage.id,
        drill=drill.name,
        title=drill.title,
        verdict=verdict,
        why=why,
        on=stage.asked.url if stage.asked else "twin",
        production=stage.production,
        began_s=round(began_s, 3),
        actor=stage.actor,
        consent=stage.consent,
        versions={"ashore": __version__},
    )
