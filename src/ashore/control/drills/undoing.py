"""The drill's side of the watcher: undo steps are recorded in advance, and run by another process."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from ashore.control.drills import watcher
from ashore.core.errors import EnvironmentFault
from ashore.kit.folders import make_folder

HELD: Final = 'read -r line && exec "$@" < /dev/null'
"""Shell: wait for a line, then become the program; end where the other side is gone."""


class Undoing:
    """One journal and its watcher. Leaving the block always undoes everything."""

    def __init__(self, journal: Path, most_s: float, *, place: int | None = None) -> None:
        """Create it; starts nothing.

        Args:
            journal: The journal's file.
            most_s: Time limit after which the watcher undoes everything, even while the drill runs.
            place: From `Book.running`. The watcher holds it too, so that no other drill starts and writes to the
                journal while a killed one is being undone.
        """
        self._journal, self._place = journal, place
        self._most_s = most_s
        self._watcher: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Undoing:
        make_folder(self._journal.parent, mode=0o700)
        left = watcher.heal(self._journal)
        if left:
            raise EnvironmentFault(
                f"an earlier drill left what cannot be undone: {'; '.join(left)}", hint=f"see {self._journal}"
            )
        self._watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", watcher.__file__, str(self._journal), str(self._most_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            pass_fds=() if self._place is None else (self._place,),
        )
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._watcher is not None and self._watcher.stdin is not None and self._watcher.stdout is not None
        self._watcher.stdin.close()
        self._watcher.wait()
        self._watcher.stdout.close()

    @property
    def pid(self) -> int:
        """Process of the watcher."""
        assert self._watcher is not None
        return self._watcher.pid

    def before(self, kind: str, **fields: Any) -> None:
        """Record how to undo the next step; on disk on return."""
        self._append({"kind": kind, **fields})

    def process(self, kind: str, pid: int, **fields: Any) -> None:
        """Record a step about a process, identified by its start time."""
        self.before(kind, pid=pid, start=watcher.start_of(pid), **fields)

    def start(
        self, kind: str, words: Sequence[str], *, told: Mapping[str, Any] = MappingProxyType({}), **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start a program in its own session, after recording how to end it.

        A shell holds it back until then and ends if it is not released: a drill that is killed in between leaves no
        unknown program.

        Args:
            kind: Of the step that ends it: `end`, `beside`, `twin`.
            words: The program and its arguments. Its standard input is empty.
            told: Further fields of the step.
            options: Of `subprocess.Popen`.
        """
        one = subprocess.Popen(
            ["sh", "-c", HELD, "sh", *words], stdin=subprocess.PIPE, start_new_session=True, **options
        )
        assert one.stdin is not None
        self.process(kind, one.pid, **told)
        with contextlib.suppress(BrokenPipeError), one.stdin as pipe:
            pipe.write(b"\n")
        one.stdin = None
        return one

    def heal(self) -> tuple[str, ...]:
        """Undo everything but the twin now, and return what could not be undone."""
        assert self._watcher is not None and self._watcher.stdin is not None and self._watcher.stdout is not None
        self._watcher.stdin.write(b"heal\n")
        self._watcher.stdin.flush()
        line = self._watcher.stdout.readline()
        failed: list[str] = json.loads(line or b'["the watcher ended"]')
        return tuple(failed)

    def _append(self, step: Mapping[str, Any]) -> None:
        with watcher.open_own(self._journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as file:
            file.write(json.dumps(step).encode() + b"\n")
            os.fsync(file.fileno())
