"""Erasure coding of one stripe. One parity is an XOR; more come from ISA-L. No field arithmetic of our own.

The matrix is that of ISA-L's `gf_gen_cauchy1_matrix`: the identity for the data, and for parity `i` (from `k`) and data
`j` the inverse of `i XOR j` in GF(2^8) with the polynomial 0x11d. With one parity it is the exclusive or of the data,
which numpy does at the speed of memory; with one data shard the others are copies.
Source: Blömer et al. 1995 (Cauchy Reed-Solomon); Intel ISA-L, `erasure_code.h`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from ashore.control.backup.code import Code

if TYPE_CHECKING:
    from ashore.control.backup.code import Bytes


class Coder(Protocol):
    """Computes parities and lost fragments. Thread-safe."""

    def encode(self, data: Sequence[Bytes], parity: Sequence[Bytes]) -> None:
        """Fill `parity` (m fragments) from `data` (k fragments)."""
        ...

    def rebuild(self, have: Mapping[int, Bytes], lost: Mapping[int, Bytes]) -> None:
        """Fill the fragments `lost` from any `k` of the others, each under its number.

        Raises:
            ValueError: fewer than `k` are given.
        """
        ...


class XorCoder:
    """k+1."""

    def __init__(self, k: int) -> None:
        self._k = k

    def encode(self, data: Sequence[Bytes], parity: Sequence[Bytes]) -> None:
        _xor(data, parity[0])

    def rebuild(self, have: Mapping[int, Bytes], lost: Mapping[int, Bytes]) -> None:
        if len(have) < self._k:
            raise ValueError(f"only {len(have)} fragments; {self._k} are needed")
        for fragment in lost.values():
            _xor([have[index] for index in sorted(have)[: self._k]], fragment)


class CopyCoder:
    """1+m: every shard is a copy."""

    def encode(self, data: Sequence[Bytes], parity: Sequence[Bytes]) -> None:
        for fragment in parity:
            fragment[:] = data[0]

    def rebuild(self, have: Mapping[int, Bytes], lost: Mapping[int, Bytes]) -> None:
        if not have:
            raise ValueError("no fragment; 1 is needed")
        for fragment in lost.values():
            fragment[:] = have[min(have)]


def coder_of(code: Code) -> Coder:
    """Return the coder of a code.

    Raises:
        MissingExtra: it has two data shards or more and two parities or more, and ISA-L is not installed.
    """
    if code.k == 1:
        return CopyCoder()
    if code.m == 1:
        return XorCoder(code.k)
    from ashore.control.backup.isal import IsalCoder

    return IsalCoder(code)


def _xor(fragments: Sequence[Bytes], into: Bytes) -> None:
    import numpy as np

    words = into.view(np.uint64)
    np.copyto(words, fragments[0].view(np.uint64))
    for fragment in fragments[1:]:
        np.bitwise_xor(words, fragment.view(np.uint64), out=words)
