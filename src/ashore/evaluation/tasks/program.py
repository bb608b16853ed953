"""Runs programs written by a model, each in isolation: see `confined.py` for the restrictions."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from ashore.errors import EnvironmentFault
from ashore.planning import read_inventory

GRACE_S: Final = 5.0
"""Beyond a program's own time: the start of the interpreter on a busy machine."""
_CONFINED: Final = Path(__file__).with_name("confined.py")
UNCONFINED: Final = 97
"""Exit code of `confined.py` where the kernel does not confine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Program text that exits with success only if its answer is right."""

    text: str
    timeout_s: float


class Runner(Protocol):
    """Runs untrusted programs."""

    def run(self, programs: Sequence[Program]) -> list[bool]:
        """Return, for each program, whether it ran to its end.

        Raises:
            EnvironmentFault: this machine cannot confine them; nothing was run.
        """
        ...


class ConfinedRunner:
    """Runs each program in its own interpreter: no network, no other programs, limited time and memory."""

    def __init__(self, *, at_once: int | None = None) -> None:
        self._at_once = at_once or read_inventory().cores

    def run(self, programs: Sequence[Program]) -> list[bool]:
        with ThreadPoolExecutor(self._at_once, thread_name_prefix="program") as pool:
            return list(pool.map(_passes, programs))


def _passes(program: Program) -> bool:
    token = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="ashore-program-") as folder:
        (Path(folder) / "program.py").write_text(program.text, encoding="utf-8", errors="replace")
        process = subprocess.Popen(
            [sys.executable, "-I", str(_CONFINED), folder, str(program.timeout_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            start_new_session=True,
        )
        try:
            told, _ = process.communicate(token.encode(), timeout=program.timeout_s + GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return False
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    if process.returncode == UNCONFINED:
        raise EnvironmentFault(
            f"programs cannot be confined here: {told.decode(errors='replace').strip()}",
            hint="run tasks of kind code on Linux (x86-64 or arm64) with seccomp; other tasks do not need it",
        )
    return process.returncode == 0 and token.encode() in told
