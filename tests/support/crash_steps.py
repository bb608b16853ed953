"""Steps that a process takes on the file system, and a trap at one of them: for scripts that kill themselves there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path


def at_each_step(events: Collection[str], act: Callable[[int, str], None]) -> None:
    """From now on call `act` with the number and name of each step that changes something, before it is taken.

    Args:
        events: Audit events of Python that are steps; of `open`, those that write.
        act: Gets the number of the step, from 1, and its event.
    """
    seen = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event not in events or (event == "open" and not int(arguments[2]) & (os.O_WRONLY | os.O_RDWR)):  # type: ignore[call-overload]
            return
        seen += 1
        act(seen, event)

    sys.addaudithook(hook)


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def comes_through(work: Callable[[], object], events: Collection[str], step: int) -> bool:
    """Do it in a process that is killed at its `step`-th step; return whether it came through, as one with fewer does.

    Args:
        work: What is done.
        events: As of `at_each_step`.
        step: From 1.
    """
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            at_each_step(events, lambda seen, event: kill_self() if seen == step else None)
            work()
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL), f"step {step} ended with {code}"
    return code == 0


def run_crashes(script: Path, *words: str, elsewhere: Path | None = None) -> int:
    """Run a script of crashes in a folder of its own, and return the number of steps that it tells.

    Args:
        script: Gets the folder as its first word.
        words: More words.
        elsewhere: Where the folder is made if there is no memory file system, on which a forced write costs nothing.
    """
    place = Path("/dev/shm")
    paths = os.pathsep.join((str(script.parent), str(script.parents[2])))
    with tempfile.TemporaryDirectory(dir=place if place.is_dir() else elsewhere) as folder:
        done = subprocess.run(
            [sys.executable, str(script), folder, *words],
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout)
