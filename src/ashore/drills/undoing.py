"""The drill's side of the watcher: steps are written down before they are needed, and undone by another process."""

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

from ashore.core import make_folder
from ashore.drills import watcher
from ashore.errors import EnvironmentFault

HELD: Final = 'read -r line && exec "$@" < /dev/null'
"""Shell: wait for a line, then become the program; end where the other side is gone."""


class Undoing:
    """One journal and its watcher. Leaving the block heals everything, whatever happened."""

    def __init__(self, journal: Path, most_s: float, *, place: int | None = None) -> None:
        """Make it; nothing runs yet.

        Args:
            journal: Where steps are written down.
            most_s: The watcher heals after so long even where the drill goes on.
            place: From `Book.running`. The watcher holds it too, so that no drill begins, and writes into the journal,
                while what a killed one broke is still being undone.
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
        """Write down how to undo what is done next; it is on the disk when this returns."""
        self._append({"kind": kind, **fields})

    def process(self, kind: str, pid: int, **fields: Any) -> None:
        """Write down a step about a process, which is known again by when it began."""
        self.before(kind, pid=pid, start=watcher.start_of(pid), **fields)

    def start(
        self, kind: str, words: Sequence[str], *, told: Mapping[str, Any] = MappingProxyType({}), **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start a program, in a session of its own, whose end is written down before it does anything.

        It is held until then by a shell that ends where nobody lets it go on: a drill that is killed in between leaves
        no program that nobody knows of.

        Args:
            kind: Of the step that ends it: `end`, `beside`, `twin`.
            words: The program and its arguments. Its standard input is empty.
            told: More of the step.
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
