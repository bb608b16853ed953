"""Hashes: how each record links to the one before it, and the Merkle root of a segment.

A line is `HASH SPACE JSON NEWLINE`; HASH is SHA-256 of the hash before it and the JSON. The root of a segment is the
Merkle tree of RFC 6962 over the hashes of its lines, so that a line can be proved to belong to it without the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from ashore.data.audit.model import FORMAT, ChainName

HASH_CHARS: Final = 64


def genesis(chain: ChainName) -> bytes:
    """Return the first link of a chain, derived from its name, so that two chains cannot be swapped."""
    return hashlib.sha256(f"ashore audit {FORMAT} {chain}".encode()).digest()


def linked(before: bytes, line: bytes) -> bytes:
    """Return the hash of a record after the record with the hash `before`."""
    return hashlib.sha256(before + line).digest()


class MerkleTree:
    """Incremental Merkle root; uses as much memory as it has levels."""

    def __init__(self) -> None:
        self._peaks: list[tuple[int, bytes]] = []
        self.num_leaves = 0

    def add(self, leaf: bytes) -> None:
        """Take the next leaf."""
        size, node, peaks = 1, hashlib.sha256(b"\x00" + leaf).digest(), self._peaks
        while peaks and peaks[-1][0] == size:
            node = hashlib.sha256(b"\x01" + peaks.pop()[1] + node).digest()
            size *= 2
        peaks.append((size, node))
        self.num_leaves += 1

    def copy(self) -> MerkleTree:
        """Return an independent copy of the tree."""
        other = MerkleTree()
        other._peaks, other.num_leaves = self._peaks.copy(), self.num_leaves
        return other

    def root(self) -> bytes:
        """Return the root so far; the hash of nothing without leaves."""
        if not self._peaks:
            return hashlib.sha256(b"").digest()
        node = self._peaks[-1][1]
        for _, peak in reversed(self._peaks[:-1]):
            node = hashlib.sha256(b"\x01" + peak + node).digest()
        return node


def merkle_root(leaves: Iterable[bytes]) -> bytes:
    """Return the root over `leaves`."""
    tree = MerkleTree()
    for leaf in leaves:
        tree.add(leaf)
    return tree.root()
