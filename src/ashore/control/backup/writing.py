"""Writes one object: reads, seals, codes, and sends each node its shard, in parallel and with bounded memory.

One thread reads and hashes; a few seal, code and take checksums; each node has a thread that writes. A node that fails,
or makes no progress for `stall_s`, is left out, and the others continue while there are enough of them.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from ashore.control.backup.coding import Coder
from ashore.control.backup.lanes import Lane
from ashore.control.backup.model import Failures, ObjectRef, object_file
from ashore.control.backup.ports import Sink
from ashore.control.backup.shards import HEADER_BYTES, ShardHeader, block_checksum, fragment_bytes
from ashore.core.errors import AshoreError, CorruptBlob, NodeUnavailable, TooFewNodes
from ashore.kit.sealing import TAG_BYTES, DataKey, authenticated, cipher_of, nonce_of

if TYPE_CHECKING:
    import numpy as np
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from numpy.typing import NDArray

THREADS: Final = max(1, min(4, os.cpu_count() or 1))
SLOTS: Final = 16
"""Stripes on the way at once: what a node may lag behind the others without holding them up."""
STALL_S: Final = 30.0
"""A node that takes nothing for so long is left out of this backup."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One object on disk."""

    ref: ObjectRef
    written_bytes: int
    """To all nodes together."""


class ObjectWriter:
    """Writes objects to one set of nodes. Failed nodes stay left out; see `failures`."""

    def __init__(
        self, lanes: Sequence[Lane], coder: Coder, key: DataKey, *, least: int, stall_s: float = STALL_S
    ) -> None:
        """Create the object.

        Args:
            lanes: Nodes that work.
            coder: Of the code.
            key: What objects are sealed with.
            least: Nodes that must hold an object.
            stall_s: See the module.
        """
        self._lanes = list(lanes)
        self._coder = coder
        self._key = key
        self._least = least
        self._stall_s = stall_s
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="backup-code")
        self._slots: list[_Slot] = []
        self.failures = Failures()

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """The nodes that have not failed."""
        return tuple(lane for lane in self._lanes if lane.index not in self.failures.by_index)

    def write(
        self, source: Path, header: ShardHeader, *, sha256: str, what: str, told: Callable[[int], None]
    ) -> Written:
        """Write the file `source` as one object; on return its shards survive a power loss.

        Args:
            source: File of `header.sealed.clear_bytes` bytes, or longer; never written.
            header: Of any of its shards.
            sha256: Expected hash of the bytes, hexadecimal; empty: any; the reference has the actual one.
            what: Names the file in messages.
            told: Called with the plaintext bytes that are done.

        Raises:
            CorruptBlob: the bytes differ; nothing was stored.
            TooFewNodes: too many nodes failed; nothing was stored.
        """
        laying = _Laying(self, header)
        try:
            sha256 = laying.fill(source, sha256=sha256, what=what, told=told)
            nodes = laying.finish()
        except BaseException:
            laying.abort()
            raise
        ref = ObjectRef(
            name=header.name,
            salt=header.sealed.salt.hex(),
            num_bytes=header.sealed.clear_bytes,
            sha256=sha256,
            nodes=nodes,
        )
        return Written(ref=ref, written_bytes=header.shard_bytes * len(nodes))

    def close(self) -> None:
        """Release the threads. Does not wait for hanging nodes."""
        self._pool.shutdown(wait=True)

    def check(self) -> None:
        """Raise `TooFewNodes` when too many have failed."""
        if len(self.lanes) < self._least:
            raise TooFewNodes(
                f"only {len(self.lanes)} nodes work, but {self._least} must hold a backup: "
                + "; ".join(self.failures.words()),
                hint="repair the nodes and back up again; earlier backups are complete",
            )

    def take_slot(self, header: ShardHeader) -> _Slot:
        """Return a slot of another object of this shape, or a new one."""
        chunk, n = header.sealed.chunk_bytes, header.code.n
        while self._slots:
            slot = self._slots.pop()
            if slot.fits(chunk, n):
                return slot
        return _Slot(chunk, fragment_bytes(header.code, chunk), n)


class _Slot:
    """The buffers of one stripe."""

    def __init__(self, chunk_bytes: int, fragment: int, n: int) -> None:
        import numpy as np

        self.clear = memoryview(bytearray(chunk_bytes))
        self.frame: NDArray[np.uint8] = np.zeros(n * fragment, dtype=np.uint8)
        self.waiting: set[int] = set()
        self.given_up = False
        """A node that was left out may still read this memory."""
        self._n = n

    def fits(self, chunk_bytes: int, n: int) -> bool:
        return len(self.clear) == chunk_bytes and self._n == n


class _Shard:
    """The shard of one node being written. Its methods run on the node's thread."""

    def __init__(self, lane: Lane, header: bytes, name: str) -> None:
        self.lane = lane
        self.header = header
        self.header_hash = header[-32:]
        self.progressed_s = time.monotonic()
        self._name = name
        self._sink: Sink | None = None

    def write(self, fragment: memoryview, checksum: bytes) -> None:
        if self._sink is None:
            self._sink = self.lane.node.put(self._name)
            self._sink.write([self.header, fragment, checksum])
        else:
            self._sink.write([fragment, checksum])
        self.progressed_s = time.monotonic()

    def finish(self) -> None:
        assert self._sink is not None
        self._sink.finish()

    def abort(self) -> None:
        if self._sink is not None:
            self._sink.abort()


class _Laying:
    """One object being written."""

    def __init__(self, writer: ObjectWriter, header: ShardHeader) -> None:
        self._writer = writer
        self._header = header
        self._cipher: AESGCM = cipher_of(writer._key.secret, header.sealed)
        self._sealed_header = header.sealed.to_bytes()
        self._shards = {
            lane.index: _Shard(lane, _header_of(header, lane.index), object_file(header.name, header.sealed.salt.hex()))
            for lane in writer.lanes
        }
        self._free: SimpleQueue[_Slot] = SimpleQueue()
        self._lock = threading.Lock()
        self._flying: deque[tuple[int, _Slot, Future[list[bytes]]]] = deque()
        self._slots: list[_Slot] = []

    def fill(self, source: Path, *, sha256: str, what: str, told: Callable[[int], None]) -> str:
        sealed = self._header.sealed
        hasher = hashlib.sha256()
        with source.open("rb", buffering=0) as file:
            for stripe in range(sealed.num_chunks):
                size = sealed.clear_size(stripe)
                slot = self._take()
                _read_exactly(file.fileno(), slot.clear[:size], stripe * sealed.chunk_bytes, what)
                future = self._writer._pool.submit(self._code, slot, stripe, size)
                hasher.update(slot.clear[:size])
                self._flying.append((stripe, slot, future))
                if len(self._flying) > THREADS:
                    self._hand_out()
                told(stripe * sealed.chunk_bytes + size)
        while self._flying:
            self._hand_out()
        if sha256 and hasher.hexdigest() != sha256:
            raise CorruptBlob(
                f"{what} has the hash {hasher.hexdigest()}, expected {sha256}: it was altered, so it was not backed up",
                hint="find others with `ashore model verify`; restore good copies: `ashore backup restore MODEL`",
            )
        return hasher.hexdigest()

    def finish(self) -> tuple[int, ...]:
        """Finish the shards; return the nodes that have theirs."""
        live = {self._submit(shard, shard.finish): shard for shard in self._live()}
        end_s = time.monotonic() + self._writer._stall_s
        for future, shard in live.items():
            wait([future], timeout=max(0.0, end_s - time.monotonic()))
            if not future.done():
                self._give_up(shard)
        self._writer.check()
        for slot in self._slots:
            if not slot.given_up:
                slot.waiting.clear()
                self._writer._slots.append(slot)
        return tuple(shard.lane.index for shard in self._live())

    def abort(self) -> None:
        for _, _, future in self._flying:
            wait([future])
        for shard in self._shards.values():
            shard.lane.submit(shard.abort)

    def _code(self, slot: _Slot, stripe: int, size: int) -> list[bytes]:
        """Seal and code a stripe in its slot; return the checksums of the fragments."""
        header, code = self._header, self._header.code
        length = header.fragment_bytes(stripe)
        view = slot.frame.data
        bound = authenticated(self._sealed_header, stripe, header.num_stripes)
        self._cipher.encrypt_into(nonce_of(stripe), slot.clear[:size], bound, view[: size + TAG_BYTES])
        slot.frame[size + TAG_BYTES : code.k * length] = 0
        rows = [slot.frame[at * length : (at + 1) * length] for at in range(code.n)]
        self._writer._coder.encode(rows[: code.k], rows[code.k :])
        return [
            block_checksum(self._shards[at].header_hash, stripe, view[at * length : (at + 1) * length])
            if at in self._shards
            else b""
            for at in range(code.n)
        ]

    def _hand_out(self) -> None:
        """Send the oldest stripe to the nodes."""
        stripe, slot, future = self._flying.popleft()
        checksums = future.result()
        length = self._header.fragment_bytes(stripe)
        view = slot.frame.data
        live = self._live()
        with self._lock:
            slot.waiting = {shard.lane.index for shard in live}
        for shard in live:
            at = shard.lane.index
            fragment, checksum = view[at * length : (at + 1) * length], checksums[at]
            done = self._submit(shard, partial(shard.write, fragment, checksum))
            done.add_done_callback(partial(self._release, slot, at))

    def _submit(self, shard: _Shard, work: Callable[[], None]) -> Future[None]:
        """Queue work on a node's thread; after a failure the node gets no more."""
        index, failures = shard.lane.index, self._writer.failures

        def guarded() -> None:
            if index in failures.by_index:
                return
            try:
                work()
            except AshoreError as error:
                failures.add(index, error)
                shard.abort()

        return shard.lane.submit(guarded)

    def _release(self, slot: _Slot, index: int, _: Future[None]) -> None:
        with self._lock:
            slot.waiting.discard(index)
            free = not slot.waiting and not slot.given_up
        if free:
            self._free.put(slot)

    def _take(self) -> _Slot:
        """Return a slot that no node needs any more; drop nodes that hold all of them for too long."""
        if len(self._slots) < SLOTS:
            slot = self._writer.take_slot(self._header)
            self._slots.append(slot)
            return slot
        while True:
            self._writer.check()
            try:
                return self._free.get(timeout=min(1.0, self._writer._stall_s))
            except Empty:
                now_s = time.monotonic()
                with self._lock:
                    holders = {index for slot in self._slots for index in slot.waiting}
                for index in holders:
                    if now_s - self._shards[index].progressed_s > self._writer._stall_s:
                        self._give_up(self._shards[index])

    def _give_up(self, shard: _Shard) -> None:
        """Drop a hanging node, with the memory that it may still read."""
        index = shard.lane.index
        self._writer.failures.add(
            index,
            NodeUnavailable(
                f"the node {shard.lane.node.place} accepted no data for {self._writer._stall_s:.0f} s and was left out",
                hint="check its disk or network; what it misses is rebuilt when it is back",
            ),
        )
        with self._lock:
            held = [slot for slot in self._slots if index in slot.waiting]
            for slot in held:
                slot.waiting.discard(index)
                slot.given_up = True
        for slot in held:
            self._slots.remove(slot)
            fresh = self._writer.take_slot(self._header)
            self._slots.append(fresh)
            self._free.put(fresh)

    def _live(self) -> list[_Shard]:
        failed: Mapping[int, AshoreError] = self._writer.failures.by_index
        return [shard for index, shard in self._shards.items() if index not in failed]


def _header_of(header: ShardHeader, index: int) -> bytes:
    import dataclasses

    data = dataclasses.replace(header, index=index).to_bytes()
    assert len(data) == HEADER_BYTES
    return data


def _read_exactly(descriptor: int, into: memoryview, offset: int, what: str) -> None:
    at = 0
    while at < len(into):
        read = os.preadv(descriptor, [into[at:]], offset + at)
        if read == 0:
            raise CorruptBlob(f"{what} became shorter while it was backed up, at {offset + at} bytes", hint="try again")
        at += read
