"""Does a drill that is stopped or killed leave anything broken, and how soon is all well?

One server with made-up models stays up. Again and again a drill breaks something of it, in rotation, and is ended at a
random moment before, while or after the fault is fired: every other time by `stop`, else by `kill -9`. Then everything
that a drill could have touched is looked at until it is as it was before: processes that stand still, limits of open
files, the network between, files, locks, tracers and busy programs.

The drills that need a server of their own run by the command on a twin, `--twins` times, and are ended in the same two
ways. Of them nothing may be left: no fault after two seconds, and in the end no process, mount, control group or file.

`python -m benchmarks.drills_left_behind --runs 160 --twins 40`
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from ashore.control.doctor.probes import processes
from ashore.control.drills.book import Book
from ashore.control.drills.catalog import all_drills
from ashore.control.drills.faults import Scene, lacking
from ashore.control.drills.faults.disks import FILL
from ashore.control.drills.load import Asked
from ashore.control.drills.model import Drill, Twin
from ashore.control.drills.network import Network
from ashore.control.drills.run import Stage, run_on
from ashore.control.drills.twin import TwinServer
from ashore.control.drills.undoing import Undoing
from ashore.kit.processes.lock import read_holder
from ashore.kit.settings import Home

MARK: Final = "ASHORE_REHEARSAL"
"""Variable that every process of a drill has, its watcher and what it starts to break things."""
HEAL_S: Final = 2.0
LONGEST_S: Final = 20.0
ROTATION: Final[tuple[Drill, ...]] = tuple(
    replace(all_drills()[name], twin_only=True, hold_s=8.0, spare=0, lines=("cache",) if lines else (), loss="any")
    for name, lines in {
        "host-hung": False, "worker-hung": False, "network-slow": True, "network-lossy": True, "cache-cut-off": True,
        "processor-stolen": False, "few-files": False, "state-locked": False, "disk-full": False, "disk-slow": False,
    }.items()
)  # fmt: skip
WHERE: Final = Twin(neighbours=("cache",), disk_bytes=192 << 20)
SERVERS: Final = (
    b"-m\0ashore.", b"ashore.cli.main", b"envoy", b"valkey", b"redis", b"postgres", b"weed", b"/launch.py",
    b"/guard.py", b"watcher.py", b"initdb",
)  # fmt: skip
"""Of a twin and its neighbours: these break nothing, and end with the twin."""
TWIN_START_S: Final = 120.0
TWIN_END_S: Final = 30.0
OWN: Final = ("watcher.py", "benchmarks.drills_left_behind")
"""Processes of a drill that break nothing: they have still to end, and that is counted apart."""


def run_one(name: str, told: Mapping[str, Any]) -> None:
    """Be a drill on the server that is there."""
    (drill,) = [one for one in ROTATION if one.name == name]
    folder = Path(told["folder"])
    with tempfile.TemporaryDirectory(prefix="ashore-drill-") as own, Undoing(Path(told["journal"]), 60) as undoing:

        def unused(*words: str) -> Any:
            raise AssertionError(f"{words}: not in the rotation")

        scene = Scene(
            home=Home(root=Path(told["home"])),
            asked=Asked(**told["asked"]),
            undoing=undoing,
            drill=drill,
            restart=unused,
            ashore=unused,
            folder=Path(own),
            neighbours=Network(folder / "beside", undoing, ("cache",)),
        )
        stop = Path(told["stop"])
        stage = Stage(
            home=scene.home,
            journal=Path(told["journal"]),
            baseline_s=0.6,
            say=lambda line: print(line, file=sys.stderr, flush=True),
            stopped=stop.exists,
        )
        print(run_on(drill, stage, scene, time.time()).verdict, flush=True)


@dataclass(frozen=True, slots=True)
class Looked:
    """What a drill could have changed."""

    standing: tuple[int, ...]
    limits: tuple[tuple[int, int], ...]
    weather: str
    fill: bool
    locked: bool
    strangers: tuple[str, ...]
    journal: bool

    def unlike(self, before: Looked) -> list[str]:
        """Return what is not as it was. A process that is gone is none of it: the supervisor has started another."""
        limits = dict(before.limits)
        found = [f"process {pid} stands still" for pid in self.standing]
        found += [f"process {pid}: {n} files" for pid, n in self.limits if limits.get(pid, n) != n]
        found += ["bad weather"] * (self.weather != before.weather) + ["a full disk"] * self.fill
        found += ["a locked state"] * self.locked + [f"left: {one}" for one in self.strangers]
        return found + ["a journal"] * self.journal


def look(home: Home, network: Network, journal: Path, mark: str) -> Looked:
    """Look at everything that a drill could have changed."""
    everyone = processes.every_process(Path("/"))
    holder = read_holder(home.lock)
    below = processes.processes_below(everyone, holder.pid) if holder is not None else []
    limits = []
    for one in below:
        with contextlib.suppress(OSError):
            limits.append((one.pid, resource.prlimit(one.pid, resource.RLIMIT_NOFILE)[0]))
    locked = False
    try:
        with contextlib.closing(sqlite3.connect(home.state_db, timeout=0.3, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        locked = True
    strangers = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                    strangers.append(" ".join(words)[:80])
    return Looked(
        standing=tuple(one.pid for one in below if one.state in ("T", "t")),
        limits=tuple(limits),
        weather=network.weather.read_text(),
        fill=(home.root / FILL).exists(),
        locked=locked,
        strangers=tuple(strangers),
        journal=journal.exists(),
    )


@contextlib.contextmanager
def standing_server() -> Iterator[tuple[TwinServer, Asked, Path]]:
    """Give a server with a cache behind a line, on a small disk of its own."""
    drill = replace(all_drills()["cache-cut-off"], twin=WHERE)
    with (
        tempfile.TemporaryDirectory(prefix="ashore-left-behind-", ignore_cleanup_errors=True) as folder,
        Undoing(Path(folder) / "own.jsonl", 7200) as undoing,
    ):
        server = TwinServer(drill, Path(folder), undoing)
        yield server, server.start(), Path(folder)


def one_run(number: int, server: TwinServer, asked: Asked, folder: Path) -> dict[str, Any]:
    """Start a drill, end it at a random moment, and return how long everything took to be as before."""
    assert server.network is not None
    drill, how = ROTATION[number % len(ROTATION)], ("stop", "kill -9")[number // len(ROTATION) % 2]
    journal, stop, mark = folder / "drill.jsonl", folder / "stop", f"{os.getpid()}-{number}"
    stop.unlink(missing_ok=True)
    before = look(server.home, server.network, journal, mark)
    told = {
        "folder": str(folder), "home": str(server.home.root), "journal": str(journal), "stop": str(stop),
        "asked": {"url": asked.url, "key": asked.key, "model": asked.model},
    }  # fmt: skip
    words = [sys.executable, "-m", "benchmarks.drills_left_behind", "--one", drill.name, json.dumps(told)]
    with open(folder / "drill.err", "wb") as errors:
        one = subprocess.Popen(words, env={**os.environ, MARK: mark}, stdout=subprocess.DEVNULL, stderr=errors)
    end_s = time.monotonic() + LONGEST_S
    while b"steady" not in (folder / "drill.err").read_bytes() and time.monotonic() < end_s and one.poll() is None:
        time.sleep(0.01)
    time.sleep(random.uniform(0.3, 2.0))
    fired = b"fault:" in (folder / "drill.err").read_bytes() and one.poll() is None
    began_s = time.monotonic()
    if how == "stop":
        stop.touch()
    else:
        one.send_signal(signal.SIGKILL)
    first_s, last = 0.0, ["nothing was looked at"]
    while time.monotonic() - began_s < LONGEST_S:
        now = look(server.home, server.network, journal, mark)
        last = now.unlike(before)
        broken = [each for each in last if each != "a journal" and not any(own in each for own in OWN)]
        if broken:
            first_s = 0.0
        elif not first_s:
            first_s = time.monotonic() - began_s
        if not last:
            break
        time.sleep(0.02)
    one.kill()
    one.wait()
    return {"drill": drill.name, "how": how, "fired": fired, "healed_s": round(first_s or LONGEST_S, 3), "left": last}


def twin_drills() -> tuple[Drill, ...]:
    """Return the drills that are not in the rotation, and that this machine has everything for."""
    inside = {one.name for one in ROTATION}
    return tuple(one for one in all_drills().values() if one.name not in inside and not lacking(one.needs))


def looked_at_twin(folder: Path, drill: int) -> tuple[list[str], list[str]]:
    """Return what is still broken of a twin below `folder`, and what else is left of it; `drill`: process of it."""
    broken, left = [], []
    needle = str(folder).encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in (os.getpid(), drill):
            continue
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes()
            if needle not in words and needle not in (entry / "environ").read_bytes():
                continue
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            what = words.replace(b"\0", b" ").decode(errors="replace")[:120]
            if state in ("T", "t"):
                broken.append(f"process {entry.name} stands still: {what}")
            elif state != "Z" and words and not any(name in words for name in SERVERS):
                broken.append(f"left: {what}")
            if state != "Z":
                left.append(what)
    left += [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(folder) in line]
    groups = [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")]
    left += [str(one) for group in groups for one in group.glob(f"ashore-drill-{drill}")]
    left += [str(one) for one in (folder / "tmp").iterdir()]
    left += [str(one) for one in (folder / "home" / "drills").glob("undo.jsonl")]
    return broken, left


def one_twin(number: int, folder: Path) -> dict[str, Any]:
    """Start a drill on a twin of its own, end it at a random moment, and return what was left for how long."""
    drills = twin_drills()
    drill, how = drills[number % len(drills)], ("kill -9", "stop")[(number + number // len(drills)) % 2]
    (folder / "tmp").mkdir(parents=True)
    env = {**os.environ, "ASHORE_HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
    words = [sys.executable, "-m", "ashore.cli.main", "drill", "run", drill.name, "--twin", "--json"]
    said = folder / "said"
    with open(said, "wb") as errors:
        one = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=errors)
    wanted, end_s = (b"fault:", b"steady")[number % 4 == 3], time.monotonic() + TWIN_START_S
    while wanted not in said.read_bytes() and time.monotonic() < end_s and one.poll() is None:
        time.sleep(0.01)
    time.sleep(random.uniform(0.0, 1.5))
    fired = b"fault:" in said.read_bytes() and one.poll() is None
    began_s = time.monotonic()
    if how == "stop":
        Book(folder / "home").ask_to_stop()
    else:
        one.send_signal(signal.SIGKILL)
    healed_s, broken, left = 0.0, ["nothing was looked at"], ["nothing was looked at"]
    while time.monotonic() - began_s < TWIN_END_S:
        broken, left = looked_at_twin(folder, one.pid)
        healed_s = 0.0 if broken else healed_s or time.monotonic() - began_s
        if not left and one.poll() is not None:
            break
        time.sleep(0.05)
    one.kill()
    one.wait()
    return {
        "drill": drill.name, "how": how, "fired": fired, "healed_s": round(healed_s or TWIN_END_S, 3),
        "gone_s": round(time.monotonic() - began_s, 1), "left": broken + left,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=160, help="drills on one server, in rotation")
    parser.add_argument("--twins", type=int, default=40, help="drills that need a server of their own")
    parser.add_argument("--first", type=int, default=0, help="number of the first of these, where an earlier run ended")
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no further run after so long")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.one:
        run_one(words.one[0], json.loads(words.one[1]))
        return 0
    rows: list[dict[str, Any]] = []
    end_s = time.monotonic() + 60 * words.minutes

    def keep(row: dict[str, Any]) -> None:
        rows.append(row)
        if row["left"] or row["healed_s"] > HEAL_S:
            print(json.dumps(row), flush=True)
        print(f"{len(rows)}: {row['drill']}, {row['how']}, {row['healed_s']} s", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="ashore-twins-", ignore_cleanup_errors=True) as below:
        for number in range(words.first, words.twins):
            if time.monotonic() < end_s:
                keep(one_twin(number, Path(below) / str(number)))
    if words.runs:
        with standing_server() as (server, asked, folder):
            for number in range(words.runs):
                if time.monotonic() < end_s:
                    keep(one_run(number, server, asked, folder))
    times = sorted(row["healed_s"] for row in rows if row["fired"])
    summary = {
        "runs": len(rows),
        "by_how": Counter(row["how"] for row in rows),
        "fired": len(times),
        "left_behind": sum(bool(row["left"]) for row in rows),
        "healed_p50_s": times[len(times) // 2] if times else 0.0,
        "healed_p95_s": times[int(0.95 * len(times))] if times else 0.0,
        "healed_most_s": times[-1] if times else 0.0,
        "later_than_2_s": sum(one > HEAL_S for one in times),
        "twin_gone_most_s": max((row["gone_s"] for row in rows if "gone_s" in row), default=0.0),
        "by_drill": {
            name: max((row["healed_s"] for row in rows if row["drill"] == name and row["fired"]), default=0.0)
            for name in dict.fromkeys(row["drill"] for row in rows)
        },
    }
    print(json.dumps(summary, indent=1))
    return int(bool(summary["left_behind"] or summary["later_than_2_s"]))


if __name__ == "__main__":
    raise SystemExit(main())
