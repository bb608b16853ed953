"""Writes what sites fetch: the segments of a model's files, and deltas against earlier models.

Files are read through the page cache, a segment at a time.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from ashore.control.sites.delta.forms import Bytes, encode, encode_codes, nibbles
from ashore.control.sites.delta.regions import Grid, Region, regions_of, segment_cuts
from ashore.control.sites.delta.requantise import predict
from ashore.control.sites.delta.steps import STEP_BYTES, Change, Copy, FileSteps, Fill, Index, Requantise, Step
from ashore.control.sites.model import SEGMENT_BYTES, Delta, PartFile, Segment
from ashore.control.sites.ports import WrongBytes
from ashore.kit.extras import require

LEVEL: Final = 1
"""Noise of few kinds: measured, level 3 finds matches that cost more than they save, at a third of the speed."""
MAX_WINDOW_BYTES: Final = 8 << 20
"""What a reader may have to keep while it unpacks."""
Keep = Callable[[Segment, bytes], object]
"""Writes the frame of a segment where sites find it. Called again with the same one."""
_MOVED: Final = 4096
"""Least bytes of a tensor that is looked for at another place."""


def pack(clear: bytes | bytearray | memoryview) -> tuple[Segment, bytes]:
    """Return the segment of these bytes, and its frame."""
    zstd = _zstandard()
    options = zstd.ZstdCompressionParameters.from_level(LEVEL, window_log=21, write_content_size=True)
    frame = zstd.ZstdCompressor(compression_params=options).compress(clear)
    return Segment(sha256=hashlib.sha256(frame).hexdigest(), stored=len(frame), clear=len(clear)), frame


def unpack(segment: Segment, frame: bytes) -> bytes:
    """Return the clear bytes of a segment. Nothing is unpacked before its digest and its announced sizes are checked.

    Raises:
        WrongBytes: the frame is not the one that the signed list names, or unpacks to another size.
    """
    zstd = _zstandard()
    seen = hashlib.sha256(frame).hexdigest()
    if seen != segment.sha256:
        raise WrongBytes(f"segment {segment.sha256[:16]} has the SHA-256 {seen[:16]}", hint="fetch it again")
    try:
        head = zstd.get_frame_parameters(frame)
        if head.content_size != segment.clear or head.window_size > MAX_WINDOW_BYTES:
            raise WrongBytes(
                f"segment {segment.sha256[:16]} announces {head.content_size} bytes and a window of "
                f"{head.window_size}, expected {segment.clear} and at most {MAX_WINDOW_BYTES}"
            )
        clear: bytes = zstd.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompress(
            frame, max_output_size=segment.clear, allow_extra_data=False
        )
    except zstd.ZstdError as fault:
        raise WrongBytes(f"segment {segment.sha256[:16]} cannot be unpacked: {fault}") from fault
    if len(clear) != segment.clear:
        raise WrongBytes(f"segment {segment.sha256[:16]} has {len(clear)} bytes, expected {segment.clear}")
    return clear


def _zstandard() -> Any:
    require(("zstandard",), "site", "a centre or a site")
    import zstandard

    return zstandard


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A model in clear bytes on this disk."""

    digest: str
    files: Mapping[str, Path]
    sha256: Mapping[str, str]
    """By the same paths."""


def cut_file(path: str, model: ModelFiles, keep: Keep) -> PartFile:
    """Write the segments of a file, and return its list."""
    data = _bytes(model.files[path])
    segments = []
    for at, size in segment_cuts(regions_of(path, model.files)):
        segment, frame = pack(data[at : at + size].data)
        keep(segment, frame)
        segments.append(segment)
    return PartFile(path=path, size=data.size, sha256=model.sha256[path], segments=tuple(segments))


def make_delta(base: ModelFiles, new: ModelFiles, keep: Keep) -> Delta:
    """Write the delta that makes `new` out of `base`, and return it with its size."""
    bases: dict[str, int] = {}
    stream = _Stream(keep)
    known, made = set(base.sha256.values()), []
    for path in new.files:
        if new.sha256[path] in known:
            continue
        known.add(new.sha256[path])
        like = path if path in base.files else _only(base.files, Path(path).suffix)
        data = _bytes(new.files[path])
        if like is None:
            steps = list[Step](stream.fill(0, data.size, data))
        else:
            number = bases.setdefault(base.sha256[like], len(bases))
            old = _bytes(base.files[like]), regions_of(like, base.files)
            steps = list(_Pair(number, *old, data, regions_of(path, new.files), stream).steps())
        made.append(FileSteps(sha256=new.sha256[path], steps=tuple(steps)))
    stream.flush()
    index = Index(bases=tuple(bases), files=tuple(made), segments=tuple(stream.segments))
    segment, frame = pack(msgspec.json.encode(index))
    keep(segment, frame)
    size = segment.stored + sum({one.sha256: one.stored for one in stream.segments}.values())
    return Delta(base=base.digest, size=size, index=segment)


@dataclass(slots=True)
class _Stream:
    """Payloads, one after the other, in segments."""

    keep: Keep
    segments: list[Segment] = field(default_factory=list)
    _open: bytearray = field(default_factory=bytearray)

    def add(self, payload: bytes | memoryview) -> int:
        if len(self._open) + len(payload) > SEGMENT_BYTES:
            self.flush()
        self._open += payload
        return len(payload)

    def fill(self, at: int, size: int, data: Bytes) -> Iterator[Fill]:
        for start in range(at, at + size, STEP_BYTES):
            length = min(STEP_BYTES, at + size - start)
            yield Fill(start, self.add(data[start : start + length].data))

    def flush(self) -> None:
        if self._open:
            segment, frame = pack(self._open)
            self.keep(segment, frame)
            self.segments.append(segment)
            self._open = bytearray()


class _Pair:
    """One file beside that of the base."""

    def __init__(
        self,
        number: int,
        old: Bytes,
        old_regions: tuple[Region, ...],
        new: Bytes,
        new_regions: tuple[Region, ...],
        stream: _Stream,
    ) -> None:
        self._number, self._old, self._new, self._stream = number, old, new, stream
        self._regions = new_regions
        self._partner = dict(_partners(old_regions, new_regions))
        self._grids: dict[tuple[int, int], list[Region]] = defaultdict(list)
        for one in old_regions:
            if one.grid is not None and one.grid.bits == 8:
                self._grids[one.grid.rows, one.grid.columns].append(one)
        self._moved = {_digest(old, one): one.at for one in old_regions if one.size >= _MOVED}

    def steps(self) -> Iterator[Step]:
        later: list[tuple[Region, Region]] = []
        last: Copy | None = None
        for region in self._regions:
            eights = self._grids[region.grid.rows, region.grid.columns] if region.grid else []
            if region.grid is not None and region.grid.bits == 4 and eights and region not in self._partner:
                later.append((region, eights.pop(0)))  # after the scales that it is predicted with
                continue
            for step in self._of(region):
                if isinstance(step, Copy) and last is not None and _follows(last, step):
                    last = Copy(last.to, last.size + step.size, last.base, last.at)
                    continue
                if last is not None:
                    yield last
                last = step if isinstance(step, Copy) else None
                if last is None:
                    yield step
        if last is not None:
            yield last
        for region, eight in later:
            yield from self._predicted(region, eight)

    def _of(self, region: Region) -> Iterator[Step]:
        new = self._new[region.at : region.at + region.size]
        partner = self._partner.get(region)
        if partner is not None and np.array_equal(self._old[partner.at : partner.at + partner.size], new):
            yield Copy(region.at, region.size, self._number, partner.at)
        elif region.size >= _MOVED and (at := self._moved.get(_digest(self._new, region))) is not None:
            yield Copy(region.at, region.size, self._number, at)
        elif partner is None:
            yield from self._stream.fill(region.at, region.size, self._new)
        else:
            for start in range(0, region.size, STEP_BYTES):
                yield self._changed(region, partner.at, start, min(STEP_BYTES, region.size - start))

    def _changed(self, region: Region, at: int, start: int, size: int) -> Step:
        old, new = self._old[at + start : at + start + size], self._new[region.at + start : region.at + start + size]
        if np.array_equal(old, new):
            return Copy(region.at + start, size, self._number, at + start)
        payload = self._stream.add(encode(old, new, region.unit))
        return Change(region.at + start, size, self._number, at + start, region.unit, payload)

    def _predicted(self, region: Region, eight: Region) -> Iterator[Step]:
        own, other = region.grid, eight.grid
        assert own is not None and other is not None
        together = math.lcm(own.group, other.group, 2)
        stride = max(1, 2 * STEP_BYTES // together) * together
        if together > 2 * STEP_BYTES:
            yield from self._stream.fill(region.at, region.size, self._new)
            return
        for start in range(0, own.rows * own.columns, stride):
            codes = min(stride, own.rows * own.columns - start)
            base_scales, scales = _scales(other, start), _scales(own, start)
            guess = predict(
                self._old[eight.at + start : eight.at + start + codes],
                self._old[base_scales : base_scales + 2 * (codes // other.group)],
                other.group,
                self._new[scales : scales + 2 * (codes // own.group)],
                own.group,
            )
            to = region.at + start // 2
            change = np.asarray((nibbles(self._new[to : to + codes // 2]) - guess) & 15, np.uint8)
            payload = self._stream.add(encode_codes(change))
            yield Requantise(
                to, codes // 2, self._number, eight.at + start, base_scales, other.group, scales, own.group, payload
            )


def _partners(old: tuple[Region, ...], new: tuple[Region, ...]) -> Iterator[tuple[Region, Region]]:
    """Pair regions of the same kind and size: those of a name, then the others in their order."""
    named = {(one.name, one.size, one.unit): one for one in old if one.name}
    taken = set()
    rest = []
    for one in new:
        like = named.get((one.name, one.size, one.unit)) if one.name else None
        if like is None or like in taken:
            rest.append(one)
        else:
            taken.add(like)
            yield one, like
    free: dict[tuple[int, object], list[Region]] = defaultdict(list)
    for one in old:
        if one not in taken:
            free[one.size, one.unit].append(one)
    for one in rest:
        if free[one.size, one.unit]:
            yield one, free[one.size, one.unit].pop(0)


def _follows(one: Copy, other: Copy) -> bool:
    return one.base == other.base and (one.to + one.size, one.at + one.size) == (other.to, other.at)


def _scales(grid: Grid, code: int) -> int:
    return grid.scales_at + 2 * (code // grid.group)


def _digest(data: Bytes, region: Region) -> bytes:
    return hashlib.sha256(data[region.at : region.at + region.size].data).digest()


def _bytes(path: Path) -> Bytes:
    if not path.stat().st_size:
        return np.empty(0, np.uint8)
    return np.memmap(path, np.uint8, "r")


def _only(files: Mapping[str, Path], suffix: str) -> str | None:
    found = [path for path in files if suffix and path.endswith(suffix)]
    return found[0] if len(found) == 1 else None
