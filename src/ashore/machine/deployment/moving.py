"""Moves weights to the bucket and back, one move at a time, each in its own process; no move is lost."""

from __future__ import annotations

import os
import subprocess
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from ashore.core.errors import AshoreError, Conflict
from ashore.data.engines import ModelPlan
from ashore.kit.processes import python_command
from ashore.kit.processes.child import tied
from ashore.kit.processes.logs import open_log, tail
from ashore.kit.settings import Home

WHY_CHARS: Final = 300
Way = Literal["back", "away"]


class Store(Protocol):
    """Knows which weights are in a bucket."""

    def is_away(self, ref: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class _Move:
    reference: str
    way: Way


class StoreMover:
    """Moves weights of one store. Called from the supervisor's thread."""

    def __init__(
        self, home: Home, store: Store, place: str, *, say: Callable[[str], None], sealing_key: str = ""
    ) -> None:
        """Create it. `place` is the bucket; empty: weights can be fetched but not sent."""
        self._home = home
        self._store = store
        self._place = place
        self._say = say
        self._sealing_key = sealing_key
        self._queue: deque[_Move] = deque()
        self._running: tuple[_Move, subprocess.Popen[bytes]] | None = None
        self._ended: dict[str, str] = {}
        self._known: dict[str, bool] = {}

    def check(self, plan: ModelPlan) -> None:
        if not self._place:
            raise Conflict("there is no bucket for weights", hint='set [tiers] cold = "s3://BUCKET/PATH"')
        if not plan.in_store:
            raise Conflict(f"{plan.reference} is not in the store, so there are no weights to move")

    def is_away(self, plan: ModelPlan) -> bool:
        if not plan.in_store:
            return False
        if plan.reference not in self._known:
            try:
                self._known[plan.reference] = self._store.is_away(plan.reference)
            except AshoreError:
                return False  # opening it reports the error
        return self._known[plan.reference]

    def fetch(self, plan: ModelPlan) -> None:
        self._add(_Move(plan.reference, "back"), first=True)

    def send(self, plan: ModelPlan) -> None:
        self._add(_Move(plan.reference, "away"))

    def is_moving(self, plan: ModelPlan) -> bool:
        self._turn()
        running = [self._running[0]] if self._running else []
        return any(move.reference == plan.reference for move in (*running, *self._queue))

    @property
    def is_busy(self) -> bool:
        return self._running is not None

    def outcome(self, plan: ModelPlan) -> str | None:
        self._turn()
        return self._ended.pop(plan.reference, None)

    def stop(self) -> None:
        """End the move in progress. May be called twice."""
        self._queue.clear()
        if self._running is not None:
            self._running[1].terminate()
            self._running[1].wait()
            self._running = None

    def _add(self, move: _Move, *, first: bool = False) -> None:
        known = [self._running[0]] if self._running else []
        if move in (*known, *self._queue):
            return
        self._ended.pop(move.reference, None)
        (self._queue.appendleft if first else self._queue.append)(move)
        self._turn()

    def _turn(self) -> None:
        if self._running is not None:
            move, process = self._running
            code = process.poll()
            if code is None:
                return
            self._running = None
            self._known.pop(move.reference, None)
            where = "from" if move.way == "back" else "to"
            why = "" if code == 0 else self._why()
            self._say(f"moving the weights of {move.reference} {where} the bucket failed: {why}" if why else
                      f"the weights of {move.reference} came back" if move.way == "back" else
                      f"the weights of {move.reference} are in {self._place}")  # fmt: skip
            self._ended[move.reference] = why
        if self._queue:
            move = self._queue.popleft()
            try:
                self._running = move, self._start(move)
            except OSError as fault:
                self._ended[move.reference] = f"no process could be started: {fault.strerror}"

    def _start(self, move: _Move) -> subprocess.Popen[bytes]:
        log = open_log(self._log)
        words = python_command("ashore.cli.fetch", move.way, move.reference)
        words += ["--to", self._place] if move.way == "away" else []
        try:
            return subprocess.Popen(
                tied(words),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "ASHORE_HOME": str(self._home.root), "ASHORE_SEALING_KEY": self._sealing_key},
            )
        finally:
            os.close(log)

    @property
    def _log(self) -> Path:
        return self._home.logs / "tiers.log"

    def _why(self) -> str:
        with suppress(OSError):
            lines = [line for line in tail(self._log).splitlines() if line.strip()]
            told = [line for line in lines if line.startswith("error: ")]
            return (told or lines or ["see its log"])[-1].removeprefix("error: ")[:WHY_CHARS]
        return f"see {self._log}"
