"""Shared-memory board on which the API workers of one machine publish their load to each other.

Each worker writes its own row and reads the others', so nothing is locked. A row has a heartbeat cell, and cells for
each release: running and waiting sequences, tokens, the first in line, and the pace of the queue. A cell is
eight aligned bytes, which the processor writes whole.

A reading may be some microseconds old, so two workers may hand out the last slot at the same moment: the limits of
`[admission]` are exceeded by at most one request per worker.
"""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path
from typing import Final

from ashore.core.errors import InvalidSpec
from ashore.data.path.admission import Load
from ashore.data.path.fairness import First
from ashore.kit.wholefile import write_whole

SLOTS: Final = 256
"""Releases that a board has room for; one more takes the place of the oldest."""
STALE_S: Final = 2.0
"""A worker with an older heartbeat is dead and has no load: its sequences ended with it."""
BEAT_S: Final = 0.5

_WORD: Final = 8
_MAGIC: Final = 0x4153484F52453033
_HEAD: Final = 8
"""Words before the first row: magic, workers, and room."""
_CELLS: Final = 9
"""Words per release: running, waiting, tokens, sequences called from the line in a thousand seconds, and the five of
the first in line (`First`; arrival 0: none)."""
_ROW: Final = 8 + SLOTS * _CELLS
"""Words per worker; the first is the beat."""


def make_board(path: Path, *, num_workers: int) -> None:
    """Create an empty board at `path`, readable by its owner alone. An existing one is replaced."""
    head = _MAGIC.to_bytes(_WORD, "little") + num_workers.to_bytes(_WORD, "little")
    write_whole(path, head.ljust((_HEAD + num_workers * _ROW) * _WORD, b"\0"), durable=False)


class Board:
    """One worker's view of the board."""

    def __init__(self, path: Path, index: int) -> None:
        """Open the board as worker `index`. Clears what an earlier process left in its row.

        Raises:
            InvalidSpec: the board is missing, or has no such worker.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as fault:
            raise InvalidSpec(f"board {path}: {fault.strerror}", hint="`ashore up` makes it") from fault
        try:
            self._memory = mmap.mmap(descriptor, 0)
        finally:
            os.close(descriptor)
        self._words = memoryview(self._memory).cast("q")
        workers = self._words[1]
        if self._words[0] != _MAGIC or not 0 <= index < workers:
            self.close()
            raise InvalidSpec(f"board {path} is none, or has no worker {index}", hint="start `ashore up` again")
        self._own = _HEAD + index * _ROW
        self._others = tuple(_HEAD + other * _ROW for other in range(workers) if other != index)
        for word in range(self._own, self._own + _ROW):
            self._words[word] = 0
        self.beat()

    def beat(self) -> None:
        """Publish a heartbeat. Called every `BEAT_S`."""
        self._words[self._own] = time.monotonic_ns()

    def neighbours(self, slot: int) -> BoardNeighbours:
        """Return the view of the other workers' gates for the release in `slot`."""
        return BoardNeighbours(self, slot % SLOTS)

    def close(self) -> None:
        """Release the memory. May be called twice."""
        self._words.release()
        self._memory.close()

    def alive(self) -> list[int]:
        """Return the offsets of the rows of the other live workers."""
        oldest = time.monotonic_ns() - int(STALE_S * 1e9)
        return [row for row in self._others if self._words[row] > oldest]

    @property
    def words(self) -> memoryview[int]:
        return self._words

    @property
    def own(self) -> int:
        return self._own


class BoardNeighbours:
    """The gates of one release in the other workers."""

    def __init__(self, board: Board, slot: int) -> None:
        self._board = board
        self._at = 8 + slot * _CELLS

    def load(self) -> Load:
        words, at = self._board.words, self._at
        running = waiting = tokens = 0
        for row in self._board.alive():
            cell = row + at
            running += words[cell]
            waiting += words[cell + 1]
            tokens += words[cell + 2]
        return Load(running, waiting, tokens)

    def firsts(self) -> list[First]:
        words, at = self._board.words, self._at + 4
        rows = (words[row + at : row + at + 5] for row in self._board.alive())
        return [First(*row) for row in rows if row[4]]

    def called_per_s(self) -> float:
        words, at = self._board.words, self._at
        return sum(words[row + at + 3] for row in self._board.alive()) / 1000

    def publish(self, load: Load, first: First | None, called_per_s: float = 0.0) -> None:
        words, cell = self._board.words, self._board.own + self._at
        words[cell] = load.running
        words[cell + 1] = load.waiting
        words[cell + 2] = load.tokens
        words[cell + 3] = int(called_per_s * 1000)
        if first is None:
            words[cell + 8] = 0
            return
        for place, word in enumerate(first, cell + 4):
            words[place] = word
