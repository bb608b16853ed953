"""Live through the life of a unit under a systemd of our own, and print what was seen as JSON.

    unshare --mount --pid --fork --cgroup --mount-proc python under_systemd.py UNIT.service PORT KEY_FILE

The manager is a user manager started by root in namespaces of its own: it makes cgroups, sandboxes and start
notifications as that of a machine does, and touches nothing outside. Standard library alone.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

RUNTIME = Path(
    "/run/manager"
)  # not below /run/user, which ProtectHome hides, with the socket that is told of the start
MANAGER = "/usr/lib/systemd/systemd"


def main(unit: Path, port: int, key_file: Path) -> dict[str, Any]:
    """Start, ask, reload, hurt and stop the unit."""
    _own_system(unit)
    name = unit.name
    manager = subprocess.Popen([MANAGER, "--user", "--unit=nothing.target"], stdout=2)
    try:
        _until(lambda: _ctl("is-system-running").stdout.strip() not in ("", "offline"), 20)
        seen: dict[str, Any] = {}
        started = _ctl("start", name)
        if started.returncode:
            return {"start": started.stderr, **_show(name)}
        seen["started"] = _show(name)
        seen["answer"] = _ask(port, key_file)
        seen["reload"] = _ctl("reload", name).returncode
        seen["outside"] = {place: _can_write(_pid(name), place) for place in ("/usr", "/var", "/etc", "/tmp")}

        _kill_worker(_pid(name))
        seen["answer after a worker died"] = _ask(port, key_file)
        seen["after a worker died"] = _show(name)

        before = _pid(name)
        os.kill(before, signal.SIGKILL)
        _until(lambda: _show(name)["ActiveState"] == "active" and _pid(name) not in (0, before), 60)
        seen["answer after the supervisor died"] = _ask(port, key_file)
        seen["after the supervisor died"] = _show(name)

        _ctl("stop", name)
        seen["stopped"] = _show(name)
        return seen
    finally:
        _ctl("exit")
        manager.wait(30)


def _own_system(unit: Path) -> None:
    """Give this mount namespace a /run and a tree of cgroups of its own."""
    for words in (
        ["mount", "--make-rprivate", "/"],
        ["umount", "--lazy", "/sys/fs/cgroup"],
        ["mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"],
        ["mount", "-t", "tmpfs", "tmpfs", "/run"],
    ):
        subprocess.run(words, check=True)
    Path("/run/systemd/system").mkdir(parents=True)  # by which systemd knows that it runs this system
    _make_inaccessible(Path("/run/systemd/inaccessible"))
    units = RUNTIME / "systemd/user"
    units.mkdir(parents=True)
    (units / unit.name).write_text(unit.read_text())
    (units / "nothing.target").write_text("[Unit]\nDescription=nothing\nDefaultDependencies=no\n")
    os.environ["XDG_RUNTIME_DIR"] = str(RUNTIME)
    os.environ.setdefault("HOME", "/root")


def _make_inaccessible(folder: Path) -> None:
    """Make what systemd puts over what a service may not see; at the start of a machine it makes them itself."""
    kinds = {"reg": stat.S_IFREG, "fifo": stat.S_IFIFO, "sock": stat.S_IFSOCK, "chr": stat.S_IFCHR, "blk": stat.S_IFBLK}
    folder.mkdir()
    (folder / "dir").mkdir(mode=0)
    for name, kind in kinds.items():
        os.mknod(folder / name, kind, os.makedev(0, 0))


def _ctl(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemctl", "--user", "--no-pager", *words], capture_output=True, text=True, timeout=180)


def _show(name: str) -> dict[str, str]:
    facts = "ActiveState,SubState,Result,NRestarts,StatusText,ExecMainStatus"
    return dict(line.split("=", 1) for line in _ctl("show", name, "-p", facts).stdout.splitlines())


def _pid(name: str) -> int:
    return int(_ctl("show", name, "-p", "MainPID", "--value").stdout or 0)


def _ask(port: int, key_file: Path) -> str:
    """Ask for an answer, for as long as a new worker may take to come."""
    body = {"model": "m", "messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {key_file.read_text().strip()}", "Content-Type": "application/json"},
    )
    ends_at = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return str(json.load(answer)["choices"][0]["message"]["content"])
        except OSError as fault:
            if time.monotonic() > ends_at:
                return f"none: {fault}"
            time.sleep(0.1)


def _can_write(pid: int, place: str) -> bool:
    """Tell whether the service could write there, were its user allowed to."""
    words = ["nsenter", "--target", str(pid), "--mount", "--", "touch", f"{place}/written-by-a-test"]
    return subprocess.run(words, capture_output=True, timeout=20).returncode == 0


def _kill_worker(supervisor: int) -> None:
    for folder in Path("/proc").glob("[0-9]*"):
        command = (folder / "cmdline").read_bytes()
        if b"ashore.data.worker" in command and f"\nPPid:\t{supervisor}\n" in (folder / "status").read_text():
            os.kill(int(folder.name), signal.SIGKILL)
            return
    raise SystemExit("there is no worker to kill")


def _until(holds: Any, seconds: float) -> None:
    ends_at = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > ends_at:
            raise SystemExit("waited for too long")
        time.sleep(0.1)


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))))
