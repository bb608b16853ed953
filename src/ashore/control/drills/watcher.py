"""Undoes a drill: on request, when the drill is gone, or when its time is over.

A separate process in its own session, so that it survives the end of the drill. It reads a journal of undo steps, and
its standard input, which closes when the drill ends for any reason. Uses only the standard library: `python -I -S
watcher.py JOURNAL SECONDS`.

The journal has a line of JSON for each step, written and synced before the fault is made. Undoing may be done twice.
"""

import contextlib
import errno
import json
import os
import resource
import select
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO


def start_of(pid: int) -> str:
    """Return when a process started, in ticks; empty if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    row = text.rpartition(")")[2].split()
    return "" if row[0] == "Z" else row[19]


def undo(step: dict[str, Any]) -> None:
    """Undo one step. No-op if there is nothing to undo."""
    kind = step["kind"]
    if kind in ("continue", "end", "files-limit") and start_of(step["pid"]) != (step["start"] or "gone"):
        return  # another process has that number now, or none
    match kind:
        case "continue":
            os.kill(step["pid"], signal.SIGCONT)
        case "end":
            os.kill(step["pid"], signal.SIGKILL)
        case "files-limit":
            resource.prlimit(step["pid"], resource.RLIMIT_NOFILE, tuple(step["value"]))
        case "mode":
            os.chmod(step["path"], step["value"])
        case "delete":
            Path(step["path"]).unlink(missing_ok=True)
        case "move":
            if os.path.exists(step["path"]) and not os.path.exists(step["to"]):
                os.rename(step["path"], step["to"])
        case "write":
            if os.path.exists(step["path"]):
                Path(step["path"]).write_text(step["value"])
        case "bytes":
            with open(step["path"], "r+b") as file:
                file.seek(step["at"])
                file.write(bytes.fromhex(step["value"]))
        case "writable":
            subprocess.run(["mount", "-o", "remount,rw", step["path"]], check=False, capture_output=True)
        case "group":
            _end_group(step["path"])
        case "twin":
            _end_twin(step)
        case "beside":
            if start_of(step["pid"]) == step["start"]:
                for pid in below(step["pid"]):
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)


def _end_group(path: str) -> None:
    """Move the processes of a control group back to its parent, and remove it."""
    if not os.path.isdir(path):
        return
    for pid in Path(path, "cgroup.procs").read_text().split():
        with contextlib.suppress(OSError):
            Path(path).parent.joinpath("cgroup.procs").write_text(pid)
    with contextlib.suppress(OSError):
        os.rmdir(path)


def below(pid: int) -> list[int]:
    """Return a process and all its descendants, parents first."""
    children: dict[int, list[int]] = {}
    for one in os.listdir("/proc"):
        if one.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                row = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(row[1]), []).append(int(one))
    found = [pid]
    for one_pid in found:
        found += children.get(one_pid, [])
    return found


def _end_twin(step: dict[str, Any]) -> None:
    """End a twin server, and delete its folder."""
    pid, folder = step["pid"], step["path"]
    if pid and start_of(pid) == step["start"]:
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGTERM)
        end = time.monotonic() + 10
        while start_of(pid) == step["start"] and time.monotonic() < end:
            time.sleep(0.05)
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
    if step.get("mounted"):
        subprocess.run(["umount", "-l", step["mounted"]], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def open_own(journal: Path, flags: int) -> BinaryIO:
    """Open a journal of this user only: its steps run with the rights of the reader. Raises `OSError` if another user
    wrote it, or it is a link.
    """
    descriptor = os.open(journal, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    told = os.fstat(descriptor)
    if not stat.S_ISREG(told.st_mode) or told.st_uid != os.geteuid():
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "it was written by another user", str(journal))
    return os.fdopen(descriptor, "rb" if flags == os.O_RDONLY else "ab", buffering=0)


def heal(journal: Path, *, keep_twin: bool = False) -> list[str]:
    """Undo every step of a journal, last one first, and delete it. Return what could not be undone."""
    steps = []
    try:
        with open_own(journal, os.O_RDONLY) as file:
            for line in file.read().split(b"\n"):
                with contextlib.suppress(ValueError, RecursionError):
                    if isinstance(step := json.loads(line), dict):
                        steps.append(step)
    except FileNotFoundError:
        pass
    except OSError as fault:
        return [str(fault)]
    failed = []
    for step in reversed(steps):
        if keep_twin and step.get("kind") in ("twin", "beside"):
            continue
        try:
            undo(step)
        except (OSError, LookupError, ValueError, TypeError) as fault:
            failed.append(f"{step.get('kind')}: {fault}")
    if not failed and not keep_twin:
        journal.unlink(missing_ok=True)
    return failed


def main() -> int:
    """Wait, then undo."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    journal, end = Path(sys.argv[1]), time.monotonic() + float(sys.argv[2])
    while True:
        left = end - time.monotonic()
        ready, _, _ = select.select([0], [], [], max(0.0, left))
        if ready:
            line = os.read(0, 65536)
            if b"heal" in line:
                failed = heal(journal, keep_twin=True)
                os.write(1, (json.dumps(failed) + "\n").encode())
                continue
            if line:
                continue
        failed = heal(journal)
        if failed:
            time.sleep(1)
            heal(journal)
        return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
