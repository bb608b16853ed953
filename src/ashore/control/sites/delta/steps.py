"""The list of steps of a delta: how the files of a model are made out of those of another one, in order.

What the steps read besides the base, their payloads, lies in segments one after the other. Nothing here is trusted: a
list that asks for what is not there is refused before a byte is written, and the digest of the whole file decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec

from ashore.control.sites.delta.forms import Unit
from ashore.control.sites.model import MAX_FILE_BYTES, SEGMENT_BYTES, Hex, PartFile, Segment
from ashore.control.sites.ports import WrongBytes
from ashore.core.foreign import foreign_errors

FULL: Final = "full"
"""Key of the plan that needs no base."""
STEP_BYTES: Final = 1 << 20
"""Most bytes that one step changes."""
_At = Annotated[int, msgspec.Meta(ge=0, le=MAX_FILE_BYTES)]
_Size = Annotated[int, msgspec.Meta(ge=1, le=MAX_FILE_BYTES)]
_Short = Annotated[int, msgspec.Meta(ge=1, le=STEP_BYTES)]
_Payload = Annotated[int, msgspec.Meta(ge=1, le=SEGMENT_BYTES)]


class Copy(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    """Bytes of the base."""

    to: _At
    size: _Size
    base: _At
    """Which file of `Index.bases`."""
    at: _At


class Fill(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    """The payload itself."""

    to: _At
    size: _Payload


class Change(msgspec.Struct, frozen=True, array_like=True, tag="d"):
    """Bytes of the base with a payload of `forms.py` applied."""

    to: _At
    size: _Short
    base: _At
    at: _At
    unit: Unit
    payload: _Payload


class Requantise(msgspec.Struct, frozen=True, array_like=True, tag="q"):
    """Codes of four bits, predicted from those of eight bits and both scales; the payload corrects the prediction."""

    to: _At
    size: _Short
    base: _At
    at: _At
    base_scales: _At
    base_group: _Size
    scales: _At
    """Where the scales of these codes are in the same new file; an earlier step has written them."""
    group: _Size
    payload: _Payload


Step = Copy | Fill | Change | Requantise


class FileSteps(msgspec.Struct, frozen=True):
    """One file."""

    sha256: Hex
    steps: tuple[Step, ...]


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """A delta. Files of the model that are equal to one of the base do not appear."""

    format: Literal[1] = 1
    bases: Annotated[tuple[Hex, ...], msgspec.Meta(max_length=100_000)]
    files: Annotated[tuple[FileSteps, ...], msgspec.Meta(max_length=100_000)]
    segments: tuple[Segment, ...]
    """Payloads of all steps, in order; none spans two segments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A step, and where its payload is."""

    step: Step
    segment: int = -1
    """Which segment; -1: it has no payload."""
    start: int = 0
    length: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Files to make, step by step, and the segments that it takes."""

    key: str
    """Tells this way of making them from another one."""
    bases: tuple[str, ...]
    segments: tuple[Segment, ...]
    files: tuple[tuple[PartFile, tuple[Placed, ...]], ...]

    def needed(self) -> tuple[int, ...]:
        """Return the segments that some step reads, in the order of their first use."""
        return tuple(
            dict.fromkeys(placed.segment for _, steps in self.files for placed in steps if placed.segment >= 0)
        )


def whole(files: Sequence[PartFile]) -> Plan:
    """Return the plan that makes files out of their segments alone.

    Raises:
        WrongBytes: the segments of a file have another size than the file.
    """
    segments: list[Segment] = []
    made = []
    for file in files:
        steps, to = [], 0
        for one in file.segments:
            step = Placed(step=Fill(to, one.clear), segment=len(segments), length=one.clear)
            to += one.clear
            segments.append(one)
            steps.append(step)
        if to != file.size:
            raise WrongBytes(f"the segments of {file.path!a} have {to} bytes, expected {file.size}")
        made.append((file, tuple(steps)))
    return Plan(key=FULL, bases=(), segments=tuple(segments), files=tuple(made))


def read_index(data: bytes, key: str, files: Sequence[PartFile]) -> Plan:
    """Return the plan of a delta, for those files of a model that are wanted; the others are left out.

    Raises:
        WrongBytes: it is malformed, writes outside a file or not all of it, or lacks a wanted file.
    """
    with foreign_errors("the list of steps of a delta is malformed", WrongBytes, hint="publish the model again"):
        index = msgspec.json.decode(data, type=Index)
        placed = dict(_placed(index))
        wanted = tuple((file, placed[file.sha256]) for file in files)
        for file, steps in wanted:
            ends = [one.step.to + one.step.size for one in steps]
            if max(ends, default=0) > file.size or sum(one.step.size for one in steps) != file.size:
                raise ValueError(f"the steps of {file.path!r} do not write {file.size} bytes")
    return Plan(key=key, bases=index.bases, segments=index.segments, files=wanted)


def _placed(index: Index) -> Iterator[tuple[str, tuple[Placed, ...]]]:
    number, start = 0, 0
    for file in index.files:
        steps = []
        for step in file.steps:
            length = 0 if isinstance(step, Copy) else step.size if isinstance(step, Fill) else step.payload
            if not isinstance(step, Fill) and step.base >= len(index.bases):
                raise ValueError(f"a step reads base {step.base} of {len(index.bases)}")
            if not length:
                steps.append(Placed(step=step))
                continue
            if start == index.segments[number].clear:
                number, start = number + 1, 0
            if start + length > index.segments[number].clear:
                raise ValueError(f"a payload of {length} bytes does not fit into its segment")
            steps.append(Placed(step=step, segment=number, start=start, length=length))
            start += length
        yield file.sha256, tuple(steps)
