"""What a target of the fuzzing is: a reader, inputs to begin from, and what must hold whatever it reads."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from odd_inputs import odd_bytes, odd_document

CRASHES: Final = Path(__file__).parent / "crashes"
"""A folder for each target: inputs that once broke a promise. The suite runs all of them."""
MOST_CPU_S: Final = 5.0
"""Processor time of one input. Nearly all take milliseconds; what is not linear takes minutes at these lengths."""

Check = Callable[[bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A reader of what others made."""

    name: str
    seeds: Callable[[], tuple[bytes, ...]]
    """Inputs that are right, and reach much of the reader."""
    open: Callable[[Path, ExitStack], Check]
    """Given an empty folder, and where to say what is to be closed, returns what reads an input and raises where a
    promise is broken."""
    words: tuple[bytes, ...] = ()
    """What chance would seldom write: keywords, odd values."""
    most_bytes: int = 4096
    num_cases: int = 200
    """Made by chance in the suite."""


def checked(check: Check, data: bytes, *, most_cpu_s: float = MOST_CPU_S) -> None:
    """Run `check`, and fail where it takes too much of the processor."""
    began = time.thread_time()
    check(data)
    spent = time.thread_time() - began
    assert spent <= most_cpu_s, f"{len(data)} bytes took {spent:.1f} s of the processor; at most {most_cpu_s:g} s"


def changed(seed: bytes, words: tuple[bytes, ...], rng: random.Random) -> bytes:
    """Return an input changed by chance: as JSON where it is JSON, as bytes, or with words put into it."""
    kind = rng.randrange(3)
    if kind == 0 and (document := json_in(seed)) is not None:
        head, value = document
        return head + odd_document(value, rng).encode("utf-8", "surrogatepass")
    if kind == 1 and words:
        out = bytearray(seed)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(out) + 1)
            out[at : at + rng.choice((0, 0, 1, 8))] = rng.choice(words)
        return bytes(out)
    return odd_bytes(seed, rng) if seed else rng.randbytes(8)


def json_in(data: bytes) -> tuple[bytes, dict[str, object] | list[object]] | None:
    """Return the JSON that an input ends with, and the one byte, if any, that stands before it."""
    for head in (b"", data[:1]):
        try:
            value = json.loads(data[len(head) :])
        except (ValueError, RecursionError):
            continue
        if value and isinstance(value, dict | list):
            return head, value
    return None


def split_by(data: bytes, most: int) -> list[bytes]:
    """Return `data` in pieces whose lengths follow from its content."""
    rng, pieces, at = random.Random(len(data) + sum(data[:64])), [], 0
    while at < len(data):
        size = rng.choice((1, 2, 3, 17, 200, most))
        pieces.append(data[at : at + size])
        at += size
    return pieces
