"""Reads what a feed lacks from the audit log: whole lines of every chain, and the signed checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec

from ashore.control.audit import Reached
from ashore.data.audit import CHECKPOINTS, ChainName, SignedLine, chains_in, read_lines, segment_path, segments_of
from ashore.kit.decode import UNDECODABLE

SIGNED: Final = "checkpoints"
"""Name under which the signed checkpoints travel, as if they were a chain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One record of a chain, or one checkpoint, as it stands in the log."""

    home: str
    chain: str
    seq: int
    after: int
    """Number of the line before it that the same feed sent; 0: unknown."""
    hash: str
    body: bytes
    """JSON of a record in its canonical bytes; signature and JSON of a checkpoint."""
    at_us: int
    sealed: bool = False
    """Whether it holds a sealed prompt and answer."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What is sent next."""

    lines: tuple[Line, ...]
    reached: Mapping[str, Reached]
    """Where the feed stands once that is delivered."""
    skipped: int = 0
    """Records that were left out because they are gone or damaged."""
    is_full: bool = False
    """Whether more waits."""


class _Head(msgspec.Struct):
    seq: int = 0
    at_us: int = 0
    action: str = ""
    content: msgspec.Raw = msgspec.Raw(b"")


_head: Final = msgspec.json.Decoder(_Head).decode


class LogReader:
    """Reads one audit folder for one feed."""

    def __init__(self, root: Path, home: str, *, only: Sequence[str] = ()) -> None:
        self._root, self._home = root, home
        self._only = tuple(only)
        self._wants = lru_cache(4096)(lambda action: any(fnmatchcase(action, one) for one in self._only))

    def read(self, reached: Mapping[str, Reached], *, most: int, most_bytes: int) -> Batch:
        """Return the next lines of all chains, oldest of each chain first, and the checkpoints behind them.

        Args:
            reached: Where the feed stands.
            most: Longest batch. Chains share it, so that none waits for another.
            most_bytes: Bytes after which the batch ends.
        """
        chains = chains_in(self._root)
        lines: list[Line] = []
        now, skipped = dict(reached), 0
        share, share_bytes = max(1, most // (len(chains) + 1)), most_bytes // (len(chains) + 1)
        # Checkpoints are read first and sent last, so that those covered by one are there when it comes.
        signed, now[SIGNED], full = self._checkpoints(now.get(SIGNED, Reached()), share)
        for chain in chains:
            more, now[chain], gone, is_full = self._chain(chain, now.get(chain, Reached()), share, share_bytes)
            lines += more
            skipped, full = skipped + gone, full or is_full
        return Batch((*lines, *signed), now, skipped, full)

    def _chain(
        self, chain: ChainName, at: Reached, most: int, most_bytes: int
    ) -> tuple[list[Line], Reached, int, bool]:
        numbers = segments_of(self._root, chain)
        if not numbers:
            return [], at, 0, False
        number, offset, seq, sent, skipped = at.segment, at.offset, at.seq, at.sent, 0
        if number not in numbers:  # archived meanwhile, or nothing was read yet
            number, offset = next((one for one in numbers if one > number), numbers[0]), 0
        found: list[Line] = []
        taken, num_bytes = 0, 0
        while True:
            path = segment_path(self._root, chain, number)
            if path.stat().st_size < offset:  # another file has its name
                offset = 0
            with path.open("rb") as file:
                file.seek(offset)
                for line in read_lines(file):
                    if not line.whole or taken >= most or num_bytes >= most_bytes:
                        break
                    offset = file.tell()
                    head = _read(line.body)
                    if head is None or not line.hash:
                        skipped += 1  # `audit verify` names it, and the receiver lacks its number
                        continue
                    if head.seq <= seq:
                        continue
                    skipped += head.seq - seq - 1 if seq else 0
                    taken, num_bytes = taken + 1, num_bytes + len(line.body)
                    if not self._only or self._wants(head.action):
                        before = seq if not self._only else sent
                        found.append(
                            Line(
                                home=self._home, chain=chain, seq=head.seq, after=before, hash=line.hash.hex(),
                                body=line.body, at_us=head.at_us, sealed=bool(bytes(head.content)),
                            )
                        )  # fmt: skip
                        sent = head.seq
                    seq = head.seq
                else:
                    if later := [one for one in numbers if one > number]:
                        number, offset = later[0], 0
                        continue
            full = taken >= most or num_bytes >= most_bytes
            return found, Reached(seq=seq, sent=sent, segment=number, offset=offset), skipped, full

    def _checkpoints(self, at: Reached, most: int) -> tuple[list[Line], Reached, bool]:
        path = self._root / CHECKPOINTS
        if not path.is_file():
            return [], at, False
        offset, seq = (at.offset, at.seq) if path.stat().st_size >= at.offset else (0, 0)
        found: list[Line] = []
        with path.open("rb") as file:
            file.seek(offset)
            while len(found) < most and (raw := file.readline()).endswith(b"\n"):
                offset, seq = offset + len(raw), seq + 1
                line = SignedLine(seq, raw[:-1], True)
                found.append(
                    Line(
                        home=self._home, chain=SIGNED, seq=seq, after=seq - 1, hash=line.hash, body=line.raw,
                        at_us=(_read(line.body) or _Head()).at_us,
                    )
                )  # fmt: skip
        return found, Reached(seq=seq, sent=seq, offset=offset), len(found) >= most


def position_at(root: Path, since_us: int) -> dict[str, Reached]:
    """Return where a feed stands that sends again what was written since a moment; 0: everything on this machine."""
    found: dict[str, Reached] = {SIGNED: Reached()}  # checkpoints are few, and each needs those before it
    for chain in chains_in(root):
        numbers = segments_of(root, chain)
        begins = [one for one in numbers if _first_us(root, chain, one) <= since_us] or numbers[:1]
        if not begins or not since_us:
            found[chain] = Reached()
            continue
        number, offset, seq = begins[-1], 0, 0
        with segment_path(root, chain, number).open("rb") as file:
            for line in read_lines(file):
                head = _read(line.body)
                if not line.whole or (head is not None and head.at_us >= since_us):
                    break
                offset, seq = file.tell(), head.seq if head is not None else seq
        found[chain] = Reached(seq=seq, segment=number, offset=offset)
    return found


def _first_us(root: Path, chain: ChainName, number: int) -> int:
    with segment_path(root, chain, number).open("rb") as file:
        line = next(read_lines(file), None)
    return (_read(line.body) or _Head()).at_us if line is not None else 0


def _read(body: bytes) -> _Head | None:
    try:
        return _head(body)
    except UNDECODABLE:
        return None
