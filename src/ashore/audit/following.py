"""Acts of one kind, found in the record of a home by reading each of its bytes once."""

from __future__ import annotations

import threading
from pathlib import Path

from ashore.audit.canonical import decode, needle
from ashore.audit.chain import HASH_CHARS
from ashore.audit.model import ChainName, Record
from ashore.audit.segments import chains_in, read_lines, segment_path, segments_of
from ashore.core import UNDECODABLE


class Follower:
    """Remembers what it has found and how far it has read, so that a look costs what was written since the last one.

    It takes what is written as it stands: `verify_folder` says whether somebody changed it. For several threads.
    """

    def __init__(self, audit: Path, action: str) -> None:
        """Follow nothing yet.

        Args:
            audit: Folder of the record.
            action: Of the acts, `noun:verb`.
        """
        self._audit = audit
        self._mark = needle("action", action)
        self._action = action
        self._lock = threading.Lock()
        self._read: dict[tuple[ChainName, int], int] = {}
        self._found: dict[tuple[ChainName, int], list[Record]] = {}

    def records(self) -> list[Record]:
        """Return the acts that lie on this machine, chain by chain, in the order in which they were written."""
        with self._lock:
            there = {(chain, number) for chain in chains_in(self._audit) for number in segments_of(self._audit, chain)}
            for gone in self._read.keys() - there:
                del self._read[gone], self._found[gone]
            for one in sorted(there):
                self._go_on(*one)
            return [record for one in sorted(self._found) for record in self._found[one]]

    def whole_since_s(self) -> float:
        """Return since when every act lies on this machine, seconds since 1970: older ones may be in the archive alone.
        0: all of them are here."""
        since_us = 0
        for chain in chains_in(self._audit):
            first = next(iter(segments_of(self._audit, chain)), 1)
            if first > 1:
                with segment_path(self._audit, chain, first).open("rb") as file:
                    line = next(read_lines(file), None)
                try:
                    since_us = max(since_us, decode(line.body).at_us) if line is not None else since_us
                except UNDECODABLE:
                    continue  # `verify` names it
        return since_us / 1e6

    def _go_on(self, chain: ChainName, number: int) -> None:
        path, key = segment_path(self._audit, chain, number), (chain, number)
        read = self._read.get(key, 0)
        size = path.stat().st_size
        if size < read:  # another file has its name
            read = 0
        found = self._found.setdefault(key, [])
        if not read:
            found.clear()
        if size > read:
            with path.open("rb") as file:
                file.seek(read)
                data = file.read()
            end = data.rfind(b"\n") + 1
            found += self._acts(data[:end])
            read += end
        self._read[key] = read

    def _acts(self, data: bytes) -> list[Record]:
        found, at = [], data.find(self._mark)
        while at >= 0:
            start, end = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at)
            try:
                record = decode(data[start + HASH_CHARS + 1 : end])
            except UNDECODABLE:
                record = None  # `verify` names it
            if record is not None and record.action == self._action:
                found.append(record)
            at = data.find(self._mark, end)
        return found
