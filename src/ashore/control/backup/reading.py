"""Reads one object from the fastest `k` nodes, and rebuilds lost shards. A window of stripes bounds the memory.

Each stripe is requested from `k` nodes, preferably data shards, which need no computation. A node that fails, returns a
block with a wrong checksum, or is late, is replaced at once for this stripe, and is used last from then on.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ashore.control.backup.coding import Coder
from ashore.control.backup.disk import Disk, Flusher
from ashore.control.backup.lanes import Lane
from ashore.control.backup.model import ObjectRef
from ashore.control.backup.ports import Source
from ashore.control.backup.shards import HASH_BYTES, HEADER_BYTES, ShardHeader, block_checksum, parse_shard_header
from ashore.core.errors import AshoreError, BackupDamaged, NodeUnavailable
from ashore.kit.sealing import TAG_BYTES, DataKey, authenticated, cipher_of, nonce_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW: Final = 16
"""Stripes asked for at once."""
HEDGE_S: Final = 0.5
"""A stripe that is not there by then is asked of the nodes in reserve too. A disk that spins up takes seconds."""
PATIENCE_S: Final = 60.0
"""Longest wait for a stripe when no node is left to ask."""
PIECE_BYTES: Final = 256 << 10
"""Written by one call, as `cp` does. Linux looks for as large a stretch of memory as a call has bytes, and in a virtual
machine such a stretch is more often one that the host has yet to give: restoring took three times as long with 2 MiB.
For shards, each written by one call of half of that, it makes no difference."""
THREADS: Final = max(1, min(4, os.cpu_count() or 1))


@dataclass(slots=True)
class _Asked:
    """One requested stripe: fragments by shard number."""

    stripe: int
    frame: NDArray[np.uint8]
    have: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    open: set[int] = field(default_factory=set)
    """Shards that were asked and have not answered."""
    tried: set[int] = field(default_factory=set)
    taken: bool = False
    """Enough is there: what comes later is thrown away."""


class ObjectReader:
    """One object, open on the nodes with a shard of it."""

    def __init__(
        self, lanes: Sequence[Lane], coder: Coder, expected: ShardHeader, ref: ObjectRef, *, hedge_s: float = HEDGE_S
    ) -> None:
        """Create the object; reads nothing yet.

        Args:
            lanes: Nodes to read from.
            coder: Of the code.
            expected: Header that the shards must have, but for its number.
            ref: The object.
            hedge_s: See `HEDGE_S`.
        """
        self._coder = coder
        self._expected = expected
        self._name = ref.file_name
        self._hedge_s = hedge_s
        self._lanes = {lane.index: lane for lane in lanes}
        self._sources: dict[int, Source] = {}
        self._hashes: dict[int, bytes] = {}
        self.flaws: dict[int, AshoreError] = {}
        """What was first wrong with a shard."""
        self._bad: set[int] = set()
        """Shards of which nothing is asked any more. One flipped block is no reason: the others may be needed."""
        self._change = threading.Condition()
        self._frames: list[NDArray[np.uint8]] = []
        """Memory of stripes that are done with, each of the length of a full one."""

    def stripes(
        self, lost: Sequence[int] = ()
    ) -> Iterator[tuple[int, NDArray[np.uint8], Mapping[int, NDArray[np.uint8]]]]:
        """Yield each stripe in order: its number, its sealed bytes in one buffer, and the fragments of `lost` shards.

        Raises:
            BackupDamaged: fewer than `k` good blocks of a stripe are left.
        """
        window: deque[_Asked] = deque()
        following = 0
        try:
            while following < self._expected.num_stripes or window:
                while len(window) < WINDOW and following < self._expected.num_stripes:
                    window.append(self._ask(following, lost))
                    following += 1
                asked = window.popleft()
                self._await(asked, lost)
                yield (asked.stripe, *self._complete(asked, lost))
        finally:
            self.close()

    def release(self, frame: NDArray[np.uint8]) -> None:
        """Take back the buffer of a stripe that is no longer read."""
        whole = frame if frame.base is None else frame.base
        if len(whole) == self._expected.code.k * self._expected.fragment_bytes(0):
            self._frames.append(whole)

    def close(self) -> None:
        """Close the shards, on the nodes' own threads, because one may hang."""
        for index, source in self._sources.items():
            self._lanes[index].submit(source.close)
        self._sources = {}

    def _ask(self, stripe: int, lost: Sequence[int]) -> _Asked:
        import numpy as np

        code = self._expected.code
        length = code.k * self._expected.fragment_bytes(stripe)
        frame = (
            self._frames.pop() if self._frames else np.empty(code.k * self._expected.fragment_bytes(0), dtype=np.uint8)
        )
        asked = _Asked(stripe, frame[:length])
        for index in self._in_order(lost)[: code.k]:
            self._ask_one(asked, index)
        return asked

    def _in_order(self, lost: Sequence[int]) -> list[int]:
        """Return the shards to read, best first. Those to be rebuilt are last: they may have good blocks."""
        usable = [i for i in self._lanes if i not in self._bad]
        return sorted(usable, key=lambda i: (i in lost, self._lanes[i].lateness, i))

    def _ask_one(self, asked: _Asked, index: int) -> None:
        import numpy as np

        length = self._expected.fragment_bytes(asked.stripe)
        if index < self._expected.code.k:
            fragment = asked.frame[index * length : (index + 1) * length]
        else:
            fragment = np.empty(length, dtype=np.uint8)
        asked.open.add(index)
        asked.tried.add(index)
        self._lanes[index].submit(lambda: self._read(asked, index, fragment))

    def _read(self, asked: _Asked, index: int, fragment: NDArray[np.uint8]) -> None:
        """Read and verify one block. Runs on the node's own thread."""
        error: AshoreError | None = None
        try:
            if asked.taken:
                return
            source = self._opened(index)
            kept = memoryview(bytearray(HASH_BYTES))
            view = fragment.data
            source.read_into(self._expected.offset(asked.stripe), [view, kept])
            if block_checksum(self._hashes[index], asked.stripe, view) != kept:
                raise BackupDamaged(f"block {asked.stripe} of {self._place(index)} was altered")
        except AshoreError as fault:
            error = fault
        finally:
            with self._change:
                asked.open.discard(index)
                if error is not None:
                    self.flaws.setdefault(index, error)
                    self._lanes[index].lateness += 1
                    if index not in self._sources or not isinstance(error, BackupDamaged):
                        self._bad.add(index)  # more than this one block
                elif not asked.taken:
                    asked.have[index] = fragment
                self._change.notify_all()

    def _opened(self, index: int) -> Source:
        if index in self._sources:
            return self._sources[index]
        source = self._lanes[index].node.open(self._name)
        head = bytearray(min(HEADER_BYTES, source.num_bytes))
        source.read_into(0, [memoryview(head)])
        check_header(bytes(head), source.num_bytes, expected=self._expected, index=index, what=self._place(index))
        self._hashes[index] = bytes(head[-HASH_BYTES:])
        self._sources[index] = source
        return source

    def _place(self, index: int) -> str:
        return f"{self._lanes[index].node.place}/{self._name}"

    def _await(self, asked: _Asked, lost: Sequence[int]) -> None:
        """Return when enough fragments are there; request replacements for failed or late ones."""
        k = self._expected.code.k
        began_s = time.monotonic()
        hedged = False
        with self._change:
            while len(asked.have) < k:
                reserve = [index for index in self._in_order(lost) if index not in asked.tried]
                short = k - len(asked.have) - len(asked.open)
                waited_s = time.monotonic() - began_s
                slow = reserve and any(
                    self._lanes[index].lateness > self._lanes[reserve[0]].lateness for index in asked.open
                )
                if reserve and not hedged and (slow or waited_s > self._hedge_s):
                    hedged = True
                    for index in asked.open:
                        self._lanes[index].lateness += 1
                    short = max(short, len(asked.open))
                if short > 0 and reserve:
                    for index in reserve[:short]:
                        self._ask_one(asked, index)
                elif not asked.open or waited_s > PATIENCE_S:
                    raise self._too_few(asked)
                self._change.wait(timeout=self._hedge_s if hedged else max(0.01, self._hedge_s - waited_s))
            asked.taken = True

    def _complete(
        self, asked: _Asked, lost: Sequence[int]
    ) -> tuple[NDArray[np.uint8], Mapping[int, NDArray[np.uint8]]]:
        """Return the sealed bytes of a stripe, and the fragments of the lost shards."""
        import numpy as np

        code, length = self._expected.code, self._expected.fragment_bytes(asked.stripe)
        frame = asked.frame
        if any(index < code.k for index in asked.open):  # a late node may still write into it
            frame = np.empty_like(frame)
            for index, fragment in asked.have.items():
                if index < code.k:
                    frame[index * length : (index + 1) * length] = fragment
        have = {
            index: frame[index * length : (index + 1) * length] if index < code.k else fragment
            for index, fragment in asked.have.items()
        }
        missing = {i: frame[i * length : (i + 1) * length] for i in range(code.k) if i not in have}
        if missing:
            self._coder.rebuild(have, missing)
        made: dict[int, NDArray[np.uint8]] = {}
        if any(index >= code.k for index in lost):
            parity = [np.empty(length, dtype=np.uint8) for _ in range(code.m)]
            self._coder.encode([frame[i * length : (i + 1) * length] for i in range(code.k)], parity)
            made = {index: parity[index - code.k] for index in lost if index >= code.k}
        made |= {index: frame[index * length : (index + 1) * length] for index in lost if index < code.k}
        return frame, made

    def _too_few(self, asked: _Asked) -> AshoreError:
        k = self._expected.code.k
        for index in asked.open:
            late = NodeUnavailable(f"{self._lanes[index].node.place} does not answer")
            self.flaws.setdefault(index, late)
        why = "; ".join(error.message for _, error in sorted(self.flaws.items())) or "no other node has a shard of it"
        return BackupDamaged(
            f"only {len(asked.have)} good shards of {self._name} can be read, but {k} are needed: {why}",
            hint="reconnect a node that has one. To restore, try an older backup: --generation N. If this "
            "home still exists, run `ashore backup scrub`; the next `ashore backup run` then writes it again",
        )


def check_header(data: bytes, num_bytes: int, *, expected: ShardHeader, index: int, what: str) -> None:
    """Check that a shard is the expected one.

    Raises:
        BackupDamaged: it was altered, cut short, or replaced by another or older one.
    """
    import dataclasses

    seen = parse_shard_header(data, what=what)
    wanted = dataclasses.replace(expected, index=index)
    if seen != wanted:
        if seen.sealed.salt != wanted.sealed.salt or seen.vault_id != wanted.vault_id:
            why = "belongs to another backup: the node was reset to an older copy, or files were swapped"
        else:
            why = f"is number {seen.index} of {seen.name}; expected number {index} of {wanted.name}"
        raise BackupDamaged(f"the shard {what} {why}", hint="rebuild it with `ashore backup scrub`")
    if num_bytes != wanted.shard_bytes:
        raise BackupDamaged(f"{what} has {num_bytes} bytes; expected {wanted.shard_bytes}")


def open_object(
    reader: ObjectReader, expected: ShardHeader, key: DataKey, target: int, *, what: str, told: Callable[[int], None]
) -> None:
    """Write an object's plaintext to the descriptor `target`. If this raises, the written data is invalid.

    Raises:
        BackupDamaged: too few good shards are left, or a chunk was forged without the key.
    """
    from cryptography.exceptions import InvalidTag

    cipher = cipher_of(key.secret, expected.sealed)
    plain = expected.sealed.to_bytes()
    spare: list[bytearray] = []
    flusher = Flusher(target, Disk())

    def opened(stripe: int, frame: NDArray[np.uint8]) -> bytearray:
        """Decrypt a stripe in one of the threads."""
        size = expected.sealed.clear_size(stripe)
        clear = spare.pop() if spare else bytearray(expected.sealed.chunk_bytes)
        bound = authenticated(plain, stripe, expected.num_stripes)
        try:
            cipher.decrypt_into(nonce_of(stripe), frame.data[: size + TAG_BYTES], bound, memoryview(clear)[:size])
        except InvalidTag as error:
            raise BackupDamaged(
                f"chunk {stripe} of {what} was forged: its checksums match, but it does not open with the key",
                hint="a node was tampered with; give only trusted nodes to --nodes",
            ) from error
        reader.release(frame)
        return clear

    def write(stripe: int, clear: bytearray) -> None:
        """Write decrypted data, from one thread: several would contend for the file's lock."""
        size = expected.sealed.clear_size(stripe)
        _write_all(target, memoryview(clear)[:size], stripe * expected.sealed.chunk_bytes)
        spare.append(clear)
        flusher.wrote(size)
        told(size)

    with ThreadPoolExecutor(THREADS, thread_name_prefix="backup-open") as pool:
        running: deque[tuple[int, Future[bytearray]]] = deque()
        for stripe, frame, _ in reader.stripes():
            running.append((stripe, pool.submit(opened, stripe, frame)))
            if len(running) > 2 * THREADS:
                number, future = running.popleft()
                write(number, future.result())
        for number, future in running:
            write(number, future.result())


def _write_all(descriptor: int, data: memoryview, offset: int) -> None:
    """Write in pieces: see `PIECE_BYTES`."""
    while data:
        written = os.pwrite(descriptor, data[:PIECE_BYTES], offset)
        data, offset = data[written:], offset + written
