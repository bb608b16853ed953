"""Bytes that a new version of a model costs a site, beside xdelta3 and zstd --patch-from, and what breaks cost.

    python -m benchmarks.sites.moved HOME OLD:NEW... [--cuts 1000] [--kills 500] [--scratch DIR]

OLD and NEW are models in the store of HOME, such as `smollm2@int8:smollm2-tuned@int8`; `tune.py` makes fine-tuned ones.
Each NEW is published into a folder as a centre does it, and fetched as a site does it that has OLD. Every file that
comes out is hashed again, by this script. The last pair is then fetched over a link that is cut at random bytes, and by
processes that are killed at random moments. Prints one line of JSON for each part.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import mmap
import os
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ashore.control.sites import fetch
from ashore.control.sites.fetch import Have, Puller
from ashore.control.sites.links import FolderLink
from ashore.control.sites.model import ModelParts
from ashore.control.sites.publish import publish_model
from ashore.core.clock import SystemClock
from ashore.core.errors import SourceUnreachable
from ashore.core.ids import Digest
from ashore.kit.store import ModelStore

PIECE: Final = 64 << 10
RUN_S: Final = 590


def only(store: ModelStore, parts: ModelParts | None) -> Have:
    """Return what a site has that has one model and nothing else."""
    if parts is None:
        return Have(frozenset(), {})
    files = {one.sha256: store.blob_path(Digest(f"sha256:{one.sha256}")) for one in parts.files}
    return Have(frozenset([parts.digest]), files)


class Link:
    """A tree in memory of which every piece is counted where a killed process leaves the count."""

    def __init__(self, files: dict[str, bytes], shared: mmap.mmap, *, cut: float = 0.0, seed: int = 1) -> None:
        self.files, self.shared, self.cut, self.random = files, shared, cut, random.Random(seed)
        self.places = {path: 24 + number for number, path in enumerate(sorted(files))}
        self.lock = threading.Lock()

    def add(self, place: int, number: int) -> None:
        with self.lock:
            now = int.from_bytes(self.shared[place : place + 8], "little") + number
            self.shared[place : place + 8] = now.to_bytes(8, "little")

    def total(self, place: int) -> int:
        return int.from_bytes(self.shared[place : place + 8], "little")

    def read(self, path: str, *, start: int = 0, limit: int) -> Iterator[bytes]:
        if self.shared[self.places[path]]:
            self.add(8, 1)  # it was there whole, and is read again
        body = self.files[path][start:]
        with self.lock:
            end = self.random.randrange(len(body) + 1) if self.random.random() < self.cut else None
        for at in range(0, len(body) if end is None else end, PIECE):
            piece = body[at : at + PIECE] if end is None else body[at : min(at + PIECE, end)]
            self.add(0, len(piece))
            yield piece
        if end is not None:
            self.add(16, 1)
            raise SourceUnreachable("cut")
        self.shared[self.places[path]] = 1

    def put(self, path: str, body: bytes) -> None:
        raise AssertionError("nothing is handed in here")


def hashes_are_equal(parts: ModelParts, into: Path) -> bool:
    """Hash every file again."""
    for file in parts.files:
        with (into / file.sha256).open("rb") as opened:
            if hashlib.file_digest(opened, "sha256").hexdigest() != file.sha256:
                return False
    return True


def peers(store: ModelStore, old: ModelParts, new: ModelParts, scratch: Path) -> dict[str, Any]:
    """Return what other tools write for the largest file."""
    first, second = (max(one.files, key=lambda file: file.size) for one in (old, new))
    a, b = (store.blob_path(Digest(f"sha256:{one.sha256}")) for one in (first, second))
    out, found = scratch / "patch", {}
    commands = {
        "xdelta3 -1": ["xdelta3", "-e", "-f", "-1", "-B", "268435456", "-s", str(a), str(b), str(out)],
        "zstd -3 --patch-from": ["zstd", "-q", "-3", "-f", "--long=28", f"--patch-from={a}", str(b), "-o", str(out)],
        "zstd -3": ["zstd", "-q", "-3", "-f", str(b), "-o", str(out)],
    }
    for name, words in commands.items():
        if shutil.which(words[0]) is None:
            continue
        began = time.monotonic()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        found[name] = {
            "percent": round(100 * out.stat().st_size / second.size, 2),
            "s": round(time.monotonic() - began),
        }
    return found


def moved(store: ModelStore, old: str, new: str, scratch: Path) -> tuple[ModelParts, ModelParts, FolderLink]:
    """Publish and fetch one pair."""
    tree = FolderLink(scratch / "tree")
    base = publish_model(store, tree, old)
    began, used = time.monotonic(), time.process_time()
    parts = publish_model(store, tree, new, earlier=[base])
    made_s, made_cpu_s = time.monotonic() - began, time.process_time() - used
    into = scratch / "into"
    row: dict[str, Any] = {"old": old, "new": new, "file_bytes": parts.size, "full_stored": parts.stored}
    for way, have in (("delta", only(store, base)), ("full", only(store, None))):
        puller = Puller(tree)
        began, used = time.monotonic(), time.process_time()
        puller.fetch(parts, have=have, into=into)
        span_s, cpu_s = time.monotonic() - began, time.process_time() - used
        row[way] = {
            "bytes": puller.fetched,
            "percent_of_new": round(100 * puller.fetched / parts.size, 2),
            "percent_of_old": round(100 * puller.fetched / base.size, 2),
            "sha256_equal": hashes_are_equal(parts, into),
            "mb_s": round(parts.size / span_s / 1e6),
            "mb_cpu_s": round(parts.size / cpu_s / 1e6),
        }
        shutil.rmtree(into)
    row["publish_mb_s"] = round(parts.size / made_s / 1e6)
    row["publish_mb_cpu_s"] = round(parts.size / made_cpu_s / 1e6)
    row["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    row["peers"] = peers(store, base, parts, scratch)
    print(json.dumps(row), flush=True)
    return base, parts, tree


def broken(
    base: ModelParts, parts: ModelParts, store: ModelStore, tree: FolderLink, scratch: Path, cuts: int, kills: int
) -> None:
    """Fetch over a link that is cut, then in processes that are killed."""
    files = {path: (tree.folder / path).read_bytes() for path, _ in tree.names("segments")}
    into, end_s = scratch / "broken", time.monotonic() + RUN_S
    cost = {"delta": next(one.size for one in parts.deltas if one.base == base.digest), "full": parts.stored}
    fetch.FRUITLESS = 1 << 30  # type: ignore[misc]
    for way, have in (("delta", only(store, base)), ("full", only(store, None))) if cuts else ():
        shared = mmap.mmap(-1, 24 + len(files) + 8)
        link, rounds = Link(files, shared, cut=0.95), 0
        while link.total(16) < cuts and time.monotonic() < end_s:
            shared[24:] = bytes(len(shared) - 24)
            Puller(link, sleep=lambda _: None).fetch(parts, have=have, into=into)
            assert hashes_are_equal(parts, into)
            rounds += 1
            shutil.rmtree(into)
        row = {
            "cuts": link.total(16), "way": way, "rounds": rounds, "finished_segments_read_again": link.total(8),
            "bytes_ratio": round(link.total(0) / (rounds * cost[way]), 6),
        }  # fmt: skip
        print(json.dumps(row), flush=True)
    shared = mmap.mmap(-1, 24 + len(files) + 8)
    chance, killed, rounds, span_s = random.Random(3), 0, 0, 2.0
    have = only(store, base)
    link = Link(files, shared)
    while killed < kills and time.monotonic() < end_s:
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.001, span_s))
                Puller(link).fetch(parts, have=have, into=into)
                code = 0
            finally:
                os._exit(code)
        chance.random()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 0:
            assert hashes_are_equal(parts, into)
            rounds, span_s = rounds + 1, max(0.3, 0.8 * (time.monotonic() - began) + 0.2 * span_s)
            shutil.rmtree(into)
            shared[24:] = bytes(len(shared) - 24)
        else:
            assert code == -signal.SIGALRM, code
            killed += 1
            # what is there by its final name is whole
            bad = (
                [
                    one.name
                    for one in into.glob("*")
                    if len(one.name) == 64 and hashlib.sha256(one.read_bytes()).hexdigest() != one.name
                ]
                if into.exists() and killed % 10 == 0
                else []
            )
            assert not bad, bad
    Puller(link).fetch(parts, have=have, into=into)
    again = link.total(0) - (rounds + 1) * cost["delta"]
    row = {
        "kills": killed, "whole_fetches": rounds + 1, "sha256_equal": hashes_are_equal(parts, into),
        "finished_segments_read_again": link.total(8), "bytes_again_per_kill": round(again / max(1, killed)),
        "bytes_ratio": round(link.total(0) / ((rounds + 1) * cost["delta"]), 4),
    }  # fmt: skip
    print(json.dumps(row), flush=True)
    shutil.rmtree(into)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("home", type=Path)
    parser.add_argument("pairs", nargs="+")
    parser.add_argument("--cuts", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--scratch", type=Path, help="default: the temporary folder; cuts and kills: /dev/shm")
    words = parser.parse_args()
    store = ModelStore(words.home / "store", words.home / "run/models", SystemClock())
    for pair in words.pairs:
        with tempfile.TemporaryDirectory(dir=words.scratch) as folder:
            base, parts, tree = moved(store, *pair.split(":"), Path(folder))
            if pair == words.pairs[-1] and (words.cuts or words.kills):
                with tempfile.TemporaryDirectory(dir=words.scratch or "/dev/shm") as memory:
                    broken(base, parts, store, tree, Path(memory), words.cuts, words.kills)


if __name__ == "__main__":
    main()
