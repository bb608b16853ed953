"""Makes one file step by step, into a new file: nothing that the store shares is ever written.

The only state is the length of a file of one byte a step. It grows after the written bytes are on the disk, so that a
kill or a power loss at any moment repeats some steps and loses none.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from ashore.control.sites.delta.forms import Bytes, decode, decode_codes, packed
from ashore.control.sites.delta.requantise import predict
from ashore.control.sites.delta.steps import Change, Copy, Fill, Requantise, Step
from ashore.control.sites.model import PartFile
from ashore.control.sites.ports import WrongBytes
from ashore.core.foreign import foreign_errors
from ashore.kit.store import disk_errors

_PIECE: Final = 1 << 20


class Making:
    """One file in the making."""

    def __init__(self, file: PartFile, target: int, ledger: int, base: Callable[[int], int]) -> None:
        self._file, self._target, self._ledger, self._base = file, target, ledger, base
        self.done = os.fstat(ledger).st_size
        """Steps that are finished, in this run and in earlier ones."""
        self._written = 0

    def apply(self, step: Step, payload: memoryview) -> None:
        """Carry out the next step.

        Raises:
            WrongBytes: the step does not fit its base or its payload. DiskFull.
        """
        with foreign_errors(f"a step of {self._file.path!a} cannot be carried out", WrongBytes):
            to = step.to
            for piece in self._pieces(step, payload):
                _write(self._target, piece, to)
                to += len(piece)
        self._written += 1

    def commit(self) -> None:
        """Force the finished steps to the disk; what they have read is not needed again."""
        if self._written:
            os.fsync(self._target)
            _write(self._ledger, b"." * self._written, self.done)
            os.fsync(self._ledger)
            self.done, self._written = self.done + self._written, 0

    def _pieces(self, step: Step, payload: memoryview) -> Iterator[bytes | memoryview]:
        match step:
            case Copy():
                for at in range(step.at, step.at + step.size, _PIECE):
                    yield _read(self._base(step.base), at, min(_PIECE, step.at + step.size - at))
            case Fill():
                yield payload
            case Change():
                old = _array(_read(self._base(step.base), step.at, step.size))
                yield decode(payload, old, step.unit).data
            case Requantise():
                codes = 2 * step.size
                guess = predict(
                    _array(_read(self._base(step.base), step.at, codes)),
                    _array(_read(self._base(step.base), step.base_scales, 2 * (codes // step.base_group))),
                    step.base_group,
                    _array(_read(self._target, step.scales, 2 * (codes // step.group))),
                    step.group,
                )
                yield packed(guess + decode_codes(payload, codes)).data


@contextmanager
def making(file: PartFile, into: Path, key: str, bases: Callable[[int], Path]) -> Iterator[Making]:
    """Yield the file where an earlier run of the same plan left it.

    Args:
        file: What it shall be.
        into: Folder of unfinished files.
        key: The plan's: steps of another plan are not these.
        bases: Returns a file of the base.
    """
    with disk_errors(into), ExitStack() as stack:
        opened: dict[int, int] = {}

        def base(number: int) -> int:
            if number not in opened:
                opened[number] = os.open(bases(number), os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, opened[number])
            return opened[number]

        files = [os.open(one, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) for one in _names(file, into, key)]
        for one in files:
            stack.callback(os.close, one)
        yield Making(file, files[0], files[1], base)


def finish(file: PartFile, into: Path, key: str) -> Path:
    """Verify a file whose steps are all done, and give it its name: its SHA-256.

    Raises:
        WrongBytes: it is not what the signed list says. It is deleted.
    """
    part, ledger = _names(file, into, key)
    with part.open("rb") as opened:
        seen = hashlib.file_digest(opened, "sha256").hexdigest()
    if seen != file.sha256:
        part.unlink()
        ledger.unlink()
        raise WrongBytes(f"{file.path!a} has the SHA-256 {seen}, expected {file.sha256}", hint="fetch it again")
    part.rename(into / file.sha256)
    ledger.unlink()
    return into / file.sha256


def _names(file: PartFile, into: Path, key: str) -> tuple[Path, Path]:
    return into / f"{file.sha256}.{key}.part", into / f"{file.sha256}.{key}.done"


def _read(descriptor: int, at: int, size: int) -> bytes:
    data = os.pread(descriptor, size, at)
    if len(data) != size:
        raise ValueError(f"{len(data)} bytes at {at}, expected {size}")
    return data


def _write(descriptor: int, data: bytes | memoryview, at: int) -> None:
    left = memoryview(data).cast("B")
    while left:
        written = os.pwrite(descriptor, left, at)
        left, at = left[written:], at + written


def _array(data: bytes) -> Bytes:
    return np.frombuffer(data, np.uint8)
