"""A set of shards as examples to learn from: indexed once, read on demand, in a stateless order."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ashore import __version__
from ashore.core import UNDECODABLE, Digest, make_folder
from ashore.errors import BrokenData, DiskFull
from ashore.store import DataUsed, set_digest
from ashore.text import TextModel
from ashore.training.batches import Batch, Corpus, Row, packed_batch
from ashore.training.datalines import FORMS
from ashore.training.shards.cache import CACHE_BYTES, PATIENCE_S, Say, ShardCache
from ashore.training.shards.frames import Scanned, ScanOrder, Setup
from ashore.training.shards.places import Shard, open_place
from ashore.training.shards.pool import LoaderProcess
from ashore.training.shards.scanning import MOST_TOLD, PIECES, PieceReader, Pieces, Scan, scan

WINDOW_BYTES: Final = 512 << 20
"""Shards of about so many bytes are shuffled together; a set that is smaller is shuffled as a whole."""
KEPT_INDEXES: Final = 32
SMALL_BYTES: Final = 8 << 20
"""A smaller set is read by the training process: a worker would cost more than it saves."""
MOST_WORKERS: Final = 8
_FORM: Final = 1
_TEXT: Final = ("chat_template.jinja", "generation.json", "tokenizer.json")

Told = Callable[[str, int, int], None]
"""Hears what is being done, how much of it is, and of how much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How data is read. Nothing of it changes what is learned, but `skip_broken` and `max_length`."""

    folder: Path
    """Where indexes and fetched shards are kept."""
    max_length: int
    """Most tokens of an example."""
    workers: int = 0
    """Processes that read, decode and tokenise; 0: none, the caller does."""
    skip_broken: bool = False
    """Leave out shards and samples that are broken, and name them, instead of refusing the set."""
    cache_bytes: int = CACHE_BYTES
    patience_s: float = PATIENCE_S


class _Facts(msgspec.Struct, kw_only=True):
    """`set.json` of a kept index."""

    shards: tuple[Shard, ...]
    digests: list[str]
    num_samples: int
    num_cut: int
    left_out: list[str]
    num_left_out: int
    skipped: list[str]
    num_skipped: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingSet:
    """Examples of a set of shards. Reads in the caller's thread; `AheadBatches` reads in workers, ahead."""

    setup: Setup
    used: DataUsed
    """Of one shard its SHA-256; of several that of their `SHA256SUMS`."""
    num_lines: int
    """Samples of all shards."""
    num_cut: int
    """Examples that lost their end, because they were longer than allowed; texts are divided, not cut."""
    left_out: tuple[str, ...]
    """The first samples of which nothing to learn was left after cutting."""
    num_left_out: int
    skipped: tuple[str, ...]
    """The first shards and samples that are broken, with what is wrong."""
    num_skipped: int
    pieces: Pieces = field(repr=False)
    lengths: NDArray[np.int64] = field(repr=False)
    reader: PieceReader = field(repr=False)

    @property
    def is_remote(self) -> bool:
        """Whether its shards must be fetched."""
        return self.setup.place.startswith("s3://")

    @property
    def num_examples(self) -> int:
        return len(self.pieces)

    @property
    def num_tokens(self) -> int:
        return int(self.lengths.sum())

    @property
    def num_targets(self) -> int:
        return int(self.pieces["targets"].sum(dtype=np.int64))

    @property
    def all_taught(self) -> bool:
        """See `Examples`."""
        return bool(self.pieces["targets"].all())

    def order(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """See `Examples`: shards are shuffled, then all examples of each window of shards."""
        rng = np.random.Generator(np.random.PCG64([seed, epoch]))
        sizes = np.array([shard.num_bytes for shard in self.setup.shards])
        if sizes.sum() <= WINDOW_BYTES or len(sizes) == 1:
            return rng.permutation(self.num_examples)
        starts = np.searchsorted(self.pieces["shard"], np.arange(len(sizes) + 1))
        parts = []
        for window in _windows(rng.permutation(len(sizes)), sizes):
            inside = np.concatenate([np.arange(starts[shard], starts[shard + 1]) for shard in window])
            parts.append(rng.permutation(inside))
        return np.concatenate(parts)

    def batch(self, row: Row) -> Batch:
        """See `Examples`. Raises as `PieceReader.read` does."""
        pieces = self.pieces[list(row)]
        ids, targets = self.reader.read(pieces)
        return packed_batch(row, ids, targets, [int(size) for size in pieces["tokens"]])

    def corpus(self) -> Corpus:
        """Return all examples in memory, in the order of the files."""
        ids, targets = self.reader.read(np.asarray(self.pieces))
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths)])
        return Corpus(ids=ids, targets=targets, starts=starts)

    def whose(self, field: str) -> list[str]:
        """Return the person of each example: what its document has under this name; empty: none."""
        return self.reader.field(self.pieces, field)

    def close(self) -> None:
        """Let go of the files. May be called twice."""
        self.reader.close()


def _windows(order: NDArray[np.int64], sizes: NDArray[np.int64]) -> Iterator[list[int]]:
    window: list[int] = []
    used = 0
    for shard in map(int, order):
        if window and used + int(sizes[shard]) > WINDOW_BYTES:
            yield window
            window, used = [], 0
        window.append(shard)
        used += int(sizes[shard])
    yield window


def open_set(
    name: str,
    text: TextModel,
    options: ReadOptions,
    *,
    text_folder: Path | None = None,
    role: str = "train",
    say: Say = lambda line: None,
    told: Told = lambda stage, done, total: None,
) -> TrainingSet:
    """Index a set, or load the stored index, and return its examples.

    Args:
        name: A file, a folder, or `s3://BUCKET/PATH`; see `naming`.
        text: Text side of the model that learns it.
        options: How it is read.
        text_folder: Where `text` was loaded from; needed with workers.
        role: What the data is for, in the recipe.
        say: Called with notes for the user.
        told: Called with shards indexed.

    Raises:
        InvalidRequest: there is no such data. BrokenData: it is not what it must be, or nothing is left of all.
        SourceUnreachable: a server was away for too long. DiskFull, Conflict, MissingExtra, LoaderDied.
    """
    place = open_place(name)
    setup = Setup(
        place=name,
        shards=place.shards(),
        cache=str(options.folder / "shards"),
        cache_bytes=options.cache_bytes,
        patience_s=options.patience_s,
        text=str(text_folder or ""),
        max_length=options.max_length,
    )
    cache = ShardCache(Path(setup.cache), place, max_bytes=options.cache_bytes, patience_s=options.patience_s, say=say)
    kept = _IndexFile(options.folder / "indexes", setup)
    loaded = kept.load()
    if loaded is None or (loaded[0].num_skipped and not options.skip_broken):
        if text_folder and options.workers:
            scans = _scanned(setup, min(options.workers, len(setup.shards)), say, told)
        else:
            scans = [scan(cache, shard, at, text, options.max_length) for at, shard in enumerate(setup.shards)]
        loaded = kept.keep(*_joined(name, setup, scans, options))
    facts, pieces = loaded
    sums = [(shard.name, digest) for shard, digest in zip(setup.shards, facts.digests, strict=True) if digest]
    return TrainingSet(
        setup=setup,
        used=DataUsed(
            role=role,
            digest=Digest(f"sha256:{set_digest(sums)}"),
            num_bytes=sum(shard.num_bytes for shard in setup.shards),
            name=setup.shards[0].name if len(setup.shards) == 1 else name.rstrip("/").rpartition("/")[2],
        ),
        num_lines=facts.num_samples,
        num_cut=facts.num_cut,
        left_out=tuple(facts.left_out),
        num_left_out=facts.num_left_out,
        skipped=tuple(facts.skipped),
        num_skipped=facts.num_skipped,
        pieces=pieces,
        lengths=pieces["tokens"].astype(np.int64),
        reader=PieceReader(cache, setup.shards, text, options.max_length),
    )


def auto_workers(name: str) -> int:
    """Return how many processes should load a set: none for a small local one, else one per four processors.

    Raises:
        InvalidRequest: there is no such data.
    """
    num_bytes = sum(shard.num_bytes for shard in open_place(name).shards())
    if num_bytes < SMALL_BYTES and not name.startswith("s3://"):
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MOST_WORKERS, cores // 4))


def load_data(path: Path, text: TextModel, *, max_length: int) -> Corpus:
    """Return the examples of a file or a folder in memory. Raises as `open_set` does.

    Args:
        path: Any data that `open_set` reads.
        text: Text side of the model that learns it.
        max_length: Most tokens of an example.
    """
    with tempfile.TemporaryDirectory(prefix="ashore-data-") as folder:
        found = open_set(str(path), text, ReadOptions(folder=Path(folder), max_length=max_length))
        with contextlib.closing(found):
            return found.corpus()


def _scanned(setup: Setup, workers: int, say: Say, told: Told) -> list[Scan]:
    """Scan all shards with workers; results are in the order of the shards."""
    processes = [LoaderProcess(setup, say=say) for _ in range(workers)]
    free = list(processes)
    done = 0

    def one(shard: int) -> Scan:
        nonlocal done
        process = free.pop()
        try:
            answer = process.ask(ScanOrder(shard=shard))
        finally:
            free.append(process)
        assert isinstance(answer, Scanned)
        done += 1
        told("index", done, len(setup.shards))
        return answer.scan

    pool = ThreadPoolExecutor(workers, thread_name_prefix="index")
    try:
        return list(pool.map(one, range(len(setup.shards))))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.close()
        pool.shutdown(wait=True)
        for process in processes:
            process.join()


def _joined(name: str, setup: Setup, scans: Sequence[Scan], options: ReadOptions) -> tuple[_Facts, Pieces]:
    """Return the index of all shards.

    Raises:
        BrokenData: something is broken and was not to be skipped, or nothing is left.
    """
    single = len(setup.shards) == 1
    before = ["" if single else f"{shard.name}, " for shard in setup.shards]
    broken = [f"{one}{what}" for one, found in zip(before, scans, strict=True) for what in found.broken]
    faults = [found.fault for found in scans if found.fault]
    num_broken = sum(found.num_broken for found in scans) + len(faults)
    told = [*faults, *broken][:MOST_TOLD]
    if num_broken and not options.skip_broken:
        more = f"\n(and {num_broken - len(told)} more)" if num_broken > len(told) else ""
        what = "shards" if faults and not broken else "lines" if setup.shards[0].form == "jsonl" else "samples"
        raise BrokenData(
            f"{name} has {num_broken} broken {what}:\n" + "\n".join(told) + more,
            hint=f"each line is {FORMS}; --skip-broken leaves broken ones out and names them",
        )
    num_samples = sum(found.num_samples for found in scans)
    if not num_samples:
        raise BrokenData(f"{name} has no examples", hint=f"each line is {FORMS}")
    pieces = np.frombuffer(b"".join(found.pieces for found in scans), PIECES)
    if not len(pieces):
        raise BrokenData(
            f"{name}: none of its {num_samples} examples has anything to learn within {options.max_length} tokens",
            hint="give a larger --max-length, or shorter prompts",
        )
    left_out = [f"{one}{where}" for one, found in zip(before, scans, strict=True) for where in found.left_out]
    facts = _Facts(
        shards=setup.shards,
        digests=[found.digest for found in scans],
        num_samples=num_samples,
        num_cut=sum(found.num_cut for found in scans),
        left_out=left_out[:MOST_TOLD],
        num_left_out=sum(found.num_left_out for found in scans),
        skipped=told,
        num_skipped=num_broken,
    )
    return facts, pieces


class _IndexFile:
    """An index on disk, mapped into memory when it is used: 28 bytes an example."""

    def __init__(self, root: Path, setup: Setup) -> None:
        files = [Path(setup.text) / name for name in _TEXT] if setup.text else []
        words = [file.read_bytes() for file in files if file.is_file()]
        told = (_FORM, __version__, setup.place, setup.shards, setup.max_length, *words)
        self._root, self._shards = root, setup.shards
        self._folder = root / hashlib.sha256(msgspec.msgpack.encode(told)).hexdigest()[:32]

    def load(self) -> tuple[_Facts, Pieces] | None:
        """Return the index; None if it is missing or incomplete."""
        try:
            facts = msgspec.json.decode((self._folder / "set.json").read_bytes(), type=_Facts)
            pieces = np.load(self._folder / "pieces.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, *UNDECODABLE):
            return None
        if pieces.dtype != PIECES or facts.shards != self._shards:
            return None
        with contextlib.suppress(OSError):
            os.utime(self._folder)
        return facts, pieces

    def keep(self, facts: _Facts, pieces: Pieces) -> tuple[_Facts, Pieces]:
        """Write the index and return it as `load` does; the oldest of more than 32 are deleted.

        Raises:
            DiskFull: no room.
        """
        made = self._folder.with_suffix(f".{os.getpid()}.new")
        try:
            make_folder(made, mode=0o700)
            np.save(made / "pieces.npy", pieces, allow_pickle=False)
            (made / "set.json").write_bytes(msgspec.json.encode(facts))
            shutil.rmtree(self._folder, ignore_errors=True)
            with contextlib.suppress(FileExistsError, NotADirectoryError):  # another process made the same
                os.rename(made, self._folder)
        except OSError as error:
            raise DiskFull(
                f"an index of {pieces.nbytes:,} bytes cannot be written to {self._root}: {error.strerror}",
                hint="free some space and run the command again",
            ) from error
        finally:
            shutil.rmtree(made, ignore_errors=True)
        for old in sorted(self._root.iterdir(), key=lambda path: path.stat().st_mtime)[:-KEPT_INDEXES]:
            shutil.rmtree(old, ignore_errors=True)
        return self.load() or (facts, pieces)
