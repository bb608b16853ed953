"""Run a command of `ashore`, and tell what it printed, how long it took and how much memory it held at most."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_EVERY_S = 0.1


class CommandFailed(RuntimeError):
    """A command of the benchmark ended with an error; the message has its last lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """A command that ended well."""

    output: str
    seconds: float
    peak_bytes: int
    """Most resident bytes of the command and its children together, looked at every 0.1 s."""

    def json(self) -> Any:
        """Return what the command printed with `--json`."""
        return json.loads(self.output)


def ashore(home: Path, *words: str, log: Path) -> Metered:
    """Run `ashore WORDS` in `home`; its talk is added to `log`.

    Raises:
        CommandFailed: it ended with another code than 0.
    """
    command = [sys.executable, "-m", "ashore.cli.main", *words]
    return metered(command, env={**os.environ, "ASHORE_HOME": str(home)}, log=log)


def metered(command: list[str], *, env: dict[str, str], log: Path) -> Metered:
    """Run a command to its end. Raises as `ashore` does."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as talk:
        talk.write(f"$ {' '.join(command)}\n")
        talk.flush()
        begun = time.monotonic()
        child = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=talk, text=True
        )
        peak = 0
        ended = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not ended.wait(_EVERY_S):
                peak = max(peak, resident_bytes(child.pid))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            output, _ = child.communicate()
        finally:
            ended.set()
            watcher.join()
            if child.poll() is None:
                child.terminate()
                child.wait()
        seconds = time.monotonic() - begun
        talk.write(output)
    if child.returncode:
        tail = " | ".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-6:])
        raise CommandFailed(f"`{' '.join(command[2:])}` ended with {child.returncode}: {tail}")
    return Metered(output=output, seconds=seconds, peak_bytes=peak)


def resident_bytes(pid: int) -> int:
    """Return the resident bytes of a process and of all below it; what is gone counts nothing."""
    total = 0
    for each in (pid, *_below(pid)):
        try:
            total += int(Path(f"/proc/{each}/statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
    return total * os.sysconf("SC_PAGE_SIZE")


def _below(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            children = [int(word) for word in (task / "children").read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *_below(child)]
    return found
