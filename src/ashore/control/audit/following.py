"""Finds acts of one kind in a home's audit log, reading each byte once."""

from __future__ import annotations

import threading
from pathlib import Path

from ashore.data.audit import ChainName, Record, chains_in, read_lines, segment_path, segments_of
from ashore.data.audit.canonical import decode, needle
from ashore.data.audit.chain import HASH_CHARS
from ashore.kit.decode import UNDECODABLE


class Follower:
    """Remembers its results and its position, so that a look only reads what was written since the last one.

    It does not verify the records; `verify_folder` does. Thread-safe.
    """

    def __init__(self, audit: Path, action: str) -> None:
        """Create it; reads nothing yet.

        Args:
            audit: Folder of the audit log.
            action: Of the acts, `noun:verb`.
        """
        self._audit = audit
        self._mark = needle("action", action)
        self._action = action
        self._lock = threading.Lock()
        self._read: dict[tuple[ChainName, int], int] = {}
        self._found: dict[tuple[ChainName, int], list[Record]] = {}

    def records(self) -> list[Record]:
        """Return the acts on this machine, chain by chain, in the order written."""
        with self._lock:
            there = {(chain, number) for chain in chains_in(self._audit) for number in segments_of(self._audit, chain)}
            for gone in self._read.keys() - there:
                del self._read[gone], self._found[gone]
            for one in sorted(there):
                self._go_on(*one)
            return [record for one in sorted(self._found) for record in self._found[one]]

    def whole_since_s(self) -> float:
        """Return the time from which all acts are on this machine, in seconds since 1970: older ones may only be in the
        archive. 0: all are here.
        """
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
