"""Backups: what is borne (random losses, flipped bits), how fast they are written and read beside `cp` and fsync, and
how long a whole home takes from nothing to its first answer.

Run: python -m benchmarks.backup --folder DIR [--only cases|flips|speed|home] [--cases 200] [--flips 1000] [--mib 1024]
     [--rounds 5] [--out REPORT.md]

DIR lies on the disk that is measured. Speed: one file of random bytes is backed up with 2+1 to three folders of that
disk, and restored; beside each, `cp --reflink=never` and fsync of as many bytes as are written (or read) there, first
in every other round. The judged figure is the median of the ratios of bytes per second.
Home: state, keys, record and two models (the demo decoder, an embedder) are restored by one command onto an empty home,
which then serves; judged is the time to the end of the first answer, less that of `cp` and fsync of as many bytes.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import os
import platform
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from backup_rig import Rig, fill_home, harm_after, harm_before, same_files
from benchmarks.row import Row
from demo_home import demo_home_path
from whole_home import make_whole_home, restore_and_ask

from ashore.control.backup import open_node
from ashore.core.errors import AshoreError

_COPIES = itertools.count()
CODES = ("2+1", "1+2", "3+1", "4+2", "10+4")
T = TypeVar("T")
PARTS = ("cases", "flips", "speed", "home")
HARMS = ("deleted", "corrupted", "away", "full", "cut", "slow")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--only", choices=PARTS, action="append", help="default: all; may be given several times")
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    words = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="backup-", dir=words.folder) as scratch:
        for part in words.only or PARTS:
            match part:
                case "cases":
                    rows.append(losses(Path(scratch), words.cases))
                case "flips":
                    rows.append(flips(Path(scratch), words.flips))
                case "speed":
                    rows += speed(Path(scratch), words.mib << 20, words.rounds)
                case "home":
                    rows.append(whole(Path(scratch), words.rounds))
    report = render(rows)
    print(report)
    if words.out:
        words.out.write_text(report, encoding="utf-8")


def losses(folder: Path, cases: int) -> Row:
    """Let any m of the nodes fail during the second backup and after it, and restore."""
    whole = counted = 0
    for seed in range(cases):
        rng, home = random.Random(seed), folder / "case"
        rig = Rig(home / "old", CODES[seed % len(CODES)], stall_s=0.3).begin()
        files = fill_home(rig.root, seed=seed, num_bytes=rng.randrange(400_000))
        rig.service.run(rig.contents)
        harms = {index: rng.choice(HARMS) for index in rng.sample(range(rig.code.n), rig.code.m)}
        for index, harm in harms.items():
            harm_before(rig.twin(index), harm, rng)
            rig.twin(index).slow_s = 0.01 if harm == "slow" else 0.0
        newer = {**files, "notes/large.bin": rng.randbytes(rng.randrange(400_000))}
        (rig.root / "notes/large.bin").write_bytes(newer["notes/large.bin"])
        try:
            rig.service.run(rig.contents)
            expected, counted = newer, counted + 1
        except AshoreError:
            expected = files
        for index, harm in harms.items():
            harm_after(rig.twin(index), harm, rng)
        rig.restore(home / "new")
        try:
            same_files(home / "new", expected)
            whole += 1
        finally:
            shutil.rmtree(home)
    detail = f"codes {', '.join(CODES)}; {counted} second backups counted, for the others the one before came back"
    return Row(what=f"{cases} random losses of any m nodes, restored bit for bit", value=whole, unit="", bar=cases,
               detail=detail)  # fmt: skip


def flips(folder: Path, count: int) -> Row:
    """Flip one bit of one shard or commit, scrub, and look whether it was named and mended."""
    rng, found = random.Random(1), 0
    rig = Rig(folder / "flips").begin()
    fill_home(rig.root, num_bytes=200_000)
    rig.service.run(rig.contents)
    for _ in range(count):
        twin = rig.twin(rng.randrange(3))
        name = rng.choice(sorted(name for name in twin.files if name.startswith(("objects/", "commits/"))))
        whole, data = twin.files[name], bytearray(twin.files[name])
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        twin.files[name] = bytes(data)
        report = rig.service.scrub()
        named = [(one.place, one.file) for one in report.findings] == [(twin.place, name)]
        mended = twin.files[name] == whole or name.startswith("commits/")
        found += named and mended and not rig.service.scrub().findings
    return Row(
        what=f"{count:,} flipped bits, named and mended by scrub", value=100 * found / count, unit="%", bar=100.0
    )


def speed(folder: Path, num_bytes: int, rounds: int) -> list[Row]:
    """Back up and restore one large file, each beside a copy of as many bytes."""
    ratios: dict[str, list[float]] = {"write": [], "read": []}
    rates: dict[str, list[str]] = {"write": [], "read": []}
    overhead = 0.0
    for number in range(rounds):
        round_ = folder / f"round-{number}"
        nodes = [open_node(str(round_ / f"node-{index}")) for index in range(3)]
        rig = Rig(round_ / "home", "2+1", nodes, stall_s=60).begin()
        fill_home(rig.root, seed=number, num_bytes=num_bytes)
        source = rig.root / "notes/large.bin"
        coded = num_bytes * 3 // 2
        first = number % 2 == 0  # whoever comes second finds a disk that the other has tired
        copy_s = 0.0 if first else copy(source, round_, coded)
        report, took_s = timed(lambda rig=rig: rig.service.run(rig.contents))  # type: ignore[misc]
        copy_s = copy_s or copy(source, round_, coded)
        overhead = report.written_bytes / num_bytes
        ratios["write"].append(copy_s / took_s)
        rates["write"].append(f"{coded / took_s / 1e6:,.0f}/{coded / copy_s / 1e6:,.0f}")
        copy_s = 0.0 if first else copy(source, round_, num_bytes)
        _, took_s = timed(lambda rig=rig, round_=round_: rig.restore(round_ / "new"))  # type: ignore[misc]
        copy_s = copy_s or copy(source, round_, num_bytes)
        ratios["read"].append(copy_s / took_s)
        rates["read"].append(f"{num_bytes / took_s / 1e6:,.0f}/{num_bytes / copy_s / 1e6:,.0f}")
        shutil.rmtree(round_)
    rows = [
        Row(
            what=f"{'backing up' if kind == 'write' else 'restoring'} against cp and fsync of as many bytes",
            value=statistics.median(values),
            unit="x",
            bar=0.6,
            aim=0.9,
            detail=f"2+1, {num_bytes >> 20} MiB, {rounds} rounds, {min(values):.2f} to {max(values):.2f}; "
            f"MB/s of ours/cp: {', '.join(rates[kind])}",
        )
        for kind, values in ratios.items()
    ]
    return [*rows, Row(what="bytes on the nodes of those backed up, 2+1", value=overhead, unit="x", bar=1.52,
                       lower_is_better=True)]  # fmt: skip


def whole(folder: Path, rounds: int) -> Row:
    """Restore a whole home onto an empty one, and serve from it to the end of the first answer."""
    made = make_whole_home(folder / "whole", demo_home_path(), free_port)
    source = folder / "as-much"
    with source.open("wb") as file:
        file.write(random.Random(1).randbytes(made.num_bytes))
    beyond: list[float] = []
    told: list[str] = []
    for number in range(rounds):
        copy_s = copy(source, folder, made.num_bytes)
        seen = restore_and_ask(made, folder / f"new-{number}", free_port)
        if seen.answer[0] != made.answer[0]:
            raise RuntimeError(f"the restored home answers {seen.answer[0]!r}, and the old one {made.answer[0]!r}")
        beyond.append(seen.restore_s + seen.serve_s - copy_s)
        told.append(f"{seen.restore_s:.1f}+{seen.serve_s:.1f}/{copy_s:.1f}")
        shutil.rmtree(folder / f"new-{number}")
    return Row(
        what="from an empty home to the first answer of a restored one, less the time of a copy",
        value=statistics.median(beyond),
        unit="s",
        bar=60.0,
        lower_is_better=True,
        detail=f"two models, {made.num_bytes >> 20} MiB; s of restore + serving to an answer / cp: {', '.join(told)}",
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def copy(source: Path, folder: Path, num_bytes: int) -> float:
    """Return the seconds that `cp` takes to copy so many bytes, over and over the same file, flushed to the disk.

    The copies stay until the round ends, as what is backed up does: pages of a file that was just removed are several
    times as fast to write as others, where the memory of a virtual machine is taken from its host page by page.
    """
    seconds, left = 0.0, num_bytes
    while left > 0:
        part = source
        if left < source.stat().st_size:
            part = folder / "part"
            with source.open("rb") as full, part.open("wb") as cut:
                cut.write(full.read(left))
        target = folder / f"copy-{next(_COPIES)}"

        def once(part: Path = part, target: Path = target) -> None:
            subprocess.run(["cp", "--reflink=never", str(part), str(target)], check=True)
            descriptor = os.open(target, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)

        seconds += timed(once)[1]
        left -= part.stat().st_size
    return seconds


def timed(act: Callable[[], T]) -> tuple[T, float]:
    """Return what `act` returns, and the seconds it took; what others wrote is flushed before."""
    os.sync()
    started = time.perf_counter()
    done = act()
    return done, time.perf_counter() - started


def render(rows: list[Row]) -> str:
    """Return the report as Markdown."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    head = ["what", "seen", "bar", "aim", "verdict", "detail"]
    lines = [
        f"# Backups, {datetime.date.today().isoformat()}",
        "",
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, commit {commit.strip()}. "
        "Command: `python -m benchmarks.backup --folder DIR`. Not measured: buckets, several disks, several machines.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row.cells()) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
