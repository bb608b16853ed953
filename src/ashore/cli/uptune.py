"""Measures models in the background of `ashore up`, the first time on a machine, and lets the server take the choice.

Measuring waits until the server has been quiet, runs in a process of its own at idle priority, and is given up as soon
as a request comes: nobody waits for it, and no figure has a request in it. It then starts over at the next quiet time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from ashore.core.clock import Clock
from ashore.core.errors import UnknownModel
from ashore.data.engines import Plan, card_of
from ashore.data.engines.tuning import TunedChoice, describe_machine, recorded_choice
from ashore.kit.processes import free_memory_bytes, python_command
from ashore.kit.processes.child import tied
from ashore.kit.processes.logs import open_log
from ashore.kit.settings import Settings
from ashore.kit.state import Database
from ashore.kit.store import ModelStore
from ashore.machine.config import Spec

BUDGET_S: Final = 110.0
QUIET_S: Final = 60.0
LOOK_EVERY_S: Final = 5.0
_LOOK_WHILE_MEASURING_S: Final = 1.0
REST_S: Final = 3600.0
_COPIES: Final = 3
"""Of the weights that must fit into free memory, and onto the disk: a candidate and what it is made from."""


class Process(Protocol):
    """A measurement in progress, as `subprocess.Popen`."""

    def poll(self) -> int | None: ...
    def kill(self) -> None: ...
    def wait(self) -> int: ...


class FirstTuning:
    """Measures models one after another. Called from the supervisor's loop."""

    def __init__(
        self,
        names: Sequence[str],
        *,
        work_done: Callable[[], int | None],
        start: Callable[[str], Process],
        take: Callable[[str], None],
        say: Callable[[str], None],
        clock: Clock,
    ) -> None:
        """Create it; starts nothing.

        Args:
            names: Store names of models.
            work_done: Returns a count that grows with every request; None: not known now.
            start: Starts measuring a model.
            take: Called with the name once its choice is recorded.
            say: Called with each message.
            clock: For the quiet time.
        """
        self._names = list(names)
        self._work_done, self._start, self._take, self._say = work_done, start, take, say
        self._clock = clock
        self._seen: int | None = None
        self._quiet_since_s = clock.monotonic_s()
        self._process: Process | None = None

    def look(self) -> float:
        """Start, give up or end a measurement; return the seconds until the next look."""
        if not self._names:
            return REST_S
        name, now_s, seen = self._names[0], self._clock.monotonic_s(), self._work_done()
        if seen is None:
            self._quiet_since_s = now_s  # too busy to report, or restarting; a measurement goes on
        elif seen != self._seen:
            self._seen, self._quiet_since_s = seen, now_s
            if self._process is not None:
                self.stop()
                self._say(f"measuring {name} was given up for a request; it starts again after {QUIET_S:g} quiet s")
        if self._process is None and now_s - self._quiet_since_s >= QUIET_S:
            self._say(f"measuring in the background which engine suits {name}, for up to {BUDGET_S:g} s")
            self._process = self._start(name)
        elif self._process is not None and (code := self._process.poll()) is not None:
            self._process = None
            self._names.pop(0)
            if code:
                self._say(f"{name} could not be measured: see logs/engine-tune.log; try `ashore engine tune {name}`")
            else:
                self._take(name)
        return LOOK_EVERY_S if self._process is None else _LOOK_WHILE_MEASURING_S

    def stop(self) -> None:
        """End the measurement in progress, without a choice. May be called twice."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def untuned(spec: Spec, plan: Plan, store: ModelStore, state: Database) -> tuple[str, ...]:
    """Return the models of which nothing was measured on this machine, as far as the operator leaves the choice open
    and there is room for a second copy."""
    open_ones = {
        model.alias or model.name
        for model in spec.models
        if model.engine.tune
        and (model.engine.kind, model.engine.threads, model.engine.options) == ("auto", 0, {})
        and (model.load, model.replicas, model.adapters, model.ladder.rungs) == ("start", 1, {}, ())
        and not model.engine.fleet
    }
    here = describe_machine(cpu=plan.inventory.cpu, cores=plan.inventory.cores)
    found: list[str] = []
    for one in plan.models:
        if one.alias not in open_ones or not one.in_store or not one.chats or one.name in found:
            continue
        if card_of(one.options.kind).prefix:  # a scripted model has no weights to measure
            continue
        try:
            model = store.resolve(one.name)
        except UnknownModel:  # a variant was imported alone: no other form can be made to compare it with
            continue
        needed = _COPIES * model.num_bytes
        if model.sealed or min(free_memory_bytes(), shutil.disk_usage(store.root).free) < needed:
            continue
        with state.read() as connection:
            known = recorded_choice(connection, model=one.name, model_digest=model.digest, here=here)
        if not isinstance(known, TunedChoice):
            found.append(one.name)
    return tuple(found)


def start_measuring(settings: Settings, name: str) -> subprocess.Popen[bytes]:
    """Start measuring a model in a process that ends with this one."""
    log = open_log(settings.home.logs / "engine-tune.log")
    try:
        return subprocess.Popen(
            tied(python_command("ashore.cli.fetch", "tune", name)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "ASHORE_HOME": str(settings.home.root)},
        )
    finally:
        os.close(log)
