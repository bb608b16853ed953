"""What it costs that a model is sealed: the time to load it, sealed against clear, and the speed of opening alone.

Run: python -m benchmarks.sealed_load --store STORE [--rounds 7] [--gib 1] [--out REPORT.md]

STORE is the `store` folder of a home that has smollm2 and its int8 variant. It is linked, not changed. A clear and a
sealed load run one after the other, in an order that changes from round to round; the judged figure is the median of
their ratios. A load is all that `ashore up` does for one model: check and open the files, start the engine host, wait
for its greeting. Cold: the pages of the model's blobs are dropped from the cache before; those of libraries stay.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import hashlib
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.row import Row

from ashore.cli.bootstrap import stored_files
from ashore.core.clock import ManualClock
from ashore.core.kinds import EngineKind
from ashore.data.engines import EngineOptions, HostClient, HostLaunch, host_command
from ashore.kit.processes.launchfiles import write_launch
from ashore.kit.sealing import new_data_key
from ashore.kit.sealing.keyring import KeyringKeeper
from ashore.kit.sealing.sealedfile import open_file, seal_file
from ashore.kit.store import ModelStore

BAR, AIM = 1.15, 1.03
LOADED: tuple[tuple[str, EngineKind], ...] = (("smollm2@int8", "openvino"), ("smollm2", "llamacpp"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--gib", type=float, default=1.0, help="size of the synthetic file")
    parser.add_argument("--only", choices=("load", "open"), help="leave out the other part")
    parser.add_argument("--cache", choices=("warm", "cold"), action="append", help="default: both")
    parser.add_argument("--out", type=Path)
    words = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="sealed-load-", dir=words.store.absolute().parent) as scratch:
        folder = Path(scratch)
        if words.only != "load":
            rows += measure_opening(folder, int(words.gib * (1 << 30)), words.rounds)
        if words.only != "open":
            rows += measure_loads(words.store.absolute(), folder, words.rounds, words.cache or ("warm", "cold"))
    report = render(rows, words.rounds)
    print(report)
    if words.out:
        words.out.write_text(report, encoding="utf-8")


def measure_opening(folder: Path, num_bytes: int, rounds: int) -> list[Row]:
    """Open one large sealed file into memory with one thread and with two; read the clear one beside it."""
    clear, sealed, key = folder / "clear", folder / "sealed", new_data_key()
    hasher = hashlib.sha256()
    with clear.open("wb") as file:
        for _ in range(num_bytes >> 22):
            piece = os.urandom(1 << 22)
            file.write(piece)
            hasher.update(piece)
    started_s = time.perf_counter()
    seal_file(clear, sealed, key, sha256=hasher.hexdigest(), what="synthetic")
    sealing_s = time.perf_counter() - started_s

    def read_clear() -> None:
        buffer = bytearray(1 << 21)
        with clear.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                continue

    def copy_clear() -> None:
        target = os.memfd_create("clear")
        with clear.open("rb", buffering=0) as file:
            left = num_bytes
            while left:
                left -= os.sendfile(target, file.fileno(), None, left)
        os.close(target)

    def unseal(threads: int) -> Callable[[], None]:
        def run() -> None:
            target = os.memfd_create("sealed")
            open_file(sealed, target, key, salt=None, what="synthetic", threads=threads)
            os.close(target)

        return run

    rows = []
    for what, act, path in (
        ("read the clear file", read_clear, clear),
        ("copy the clear file into memory", copy_clear, clear),
        ("open the sealed file into memory, 1 thread", unseal(1), sealed),
        ("open the sealed file into memory, 2 threads", unseal(2), sealed),
    ):
        for cache in ("warm", "cold"):
            speeds = []
            for _ in range(rounds):
                if cache == "cold":
                    forget([path])
                started_s = time.perf_counter()
                act()
                speeds.append(num_bytes / (time.perf_counter() - started_s) / 1e9)
            rows.append(
                Row(
                    what=f"{what}, {cache} cache", value=statistics.median(speeds), unit="GB/s", bar=None,
                    detail=f"{min(speeds):.2f} to {max(speeds):.2f}", readings={"gb_per_s": speeds},
                )
            )  # fmt: skip
    rows.append(
        Row(what="seal a file (fsync and hash of the clear bytes included)", value=num_bytes / sealing_s / 1e9,
            unit="GB/s", bar=None, detail="one run")
    )  # fmt: skip
    clear.unlink()
    sealed.unlink()
    return rows


def measure_loads(source: Path, folder: Path, rounds: int, caches: Sequence[str]) -> list[Row]:
    """Load each model sealed and clear, in pairs."""
    keeper = KeyringKeeper(folder / "ring", ManualClock())
    stores = {}
    for form in ("clear", "sealed"):
        home = folder / form
        shutil.copytree(source, home / "store", copy_function=os.link)
        stores[form] = ModelStore(home / "store", home / "run/models", ManualClock(), keeper=lambda: keeper)
        for model in stores[form].list():  # linked blobs have other facts: hashed once, here
            stores[form].verify(model.reference)
    stores["sealed"].seal("smollm2")
    rows = []
    for reference, kind in LOADED:
        for cache in caches:
            times: dict[str, list[float]] = {"clear": [], "sealed": []}
            cpu_times: dict[str, list[float]] = {"clear": [], "sealed": []}
            for number_of_round in range(rounds + 1):
                for form in ("clear", "sealed") if number_of_round % 2 else ("sealed", "clear"):
                    store = stores[form]
                    paths = [store.root / "blobs/sha256" / f.digest[7:] for f in store.resolve(reference).files]
                    if cache == "cold":
                        forget(paths)
                    fresh = ModelStore(store.root, folder / form / "run/models", ManualClock(), keeper=lambda: keeper)
                    took_s, cpu_s = load_once(fresh, reference, kind, folder)
                    if number_of_round:  # the first pair warms up what is not measured
                        times[form].append(took_s)
                        cpu_times[form].append(cpu_s)
            ratios = [s / c for s, c in zip(times["sealed"], times["clear"], strict=True)]
            judged = reference == "smollm2@int8"
            rows.append(
                Row(
                    what=f"load of {reference} by {kind}, {cache} cache: sealed against clear",
                    value=statistics.median(ratios),
                    unit="",
                    bar=BAR if judged else None,
                    aim=AIM if judged else None,
                    lower_is_better=True,
                    detail=f"medians: sealed {statistics.median(times['sealed']):.3f} s, clear "
                    f"{statistics.median(times['clear']):.3f} s; fastest: {min(times['sealed']):.3f} s, "
                    f"{min(times['clear']):.3f} s ({min(times['sealed']) / min(times['clear']):.3f}); ratios "
                    f"{min(ratios):.3f} to {max(ratios):.3f}; processor time of the host "
                    f"{statistics.median(cpu_times['sealed']):.2f} s, {statistics.median(cpu_times['clear']):.2f} s",
                    readings={"sealed_s": times["sealed"], "clear_s": times["clear"], "cpu_s": cpu_times},
                )
            )
    return rows


def load_once(store: ModelStore, reference: str, kind: EngineKind, folder: Path) -> tuple[float, float]:
    """Open a model, start a host for it; return the seconds until it greets, and those of processor time it took."""
    launch, socket = folder / "launch.json", folder / "host.sock"
    started_s = time.perf_counter()
    files = stored_files(store, reference)
    write_launch(HostLaunch(files=files, options=EngineOptions(kind=kind), drain_s=0.0), launch)
    with (folder / "host.log").open("ab") as log:
        host = subprocess.Popen(host_command(socket, launch), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        asyncio.run(greet(socket))
        took_s = time.perf_counter() - started_s
    finally:
        host.terminate()
        _, _, usage = os.wait4(host.pid, 0)
        host.returncode = 0  # waited for already
    return took_s, usage.ru_utime + usage.ru_stime


async def greet(socket: Path) -> None:
    client = HostClient(socket)
    try:
        await client.connect(timeout_s=120)
    finally:
        await client.close()


def forget(paths: list[Path]) -> None:
    """Drop the pages of files from the cache of the system."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def render(rows: list[Row], rounds: int) -> str:
    """Return the report."""
    told = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in told if "model name" in line), "unknown")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    import cryptography

    lines = [
        f"# Sealed models: what loading costs ({datetime.date.today().isoformat()})",
        "",
        f"{cpu}, {os.cpu_count()} cores; Linux {platform.release()}; Python {platform.python_version()}, cryptography "
        f"{cryptography.__version__}; commit {commit}.",
        f"Command: `python -m benchmarks.sealed_load {' '.join(sys.argv[1:])}`. {rounds} rounds each.",
        "",
        "| what | seen | bar | aim | verdict | detail |",
        "|---|---|---|---|---|---|",
        *("| " + " | ".join(row.cells()) + " |" for row in rows),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
