"""`python -m ashore.training.shards.worker`: reads, decodes and tokenises for a run, until that closes its pipe."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ashore.errors import AshoreError
from ashore.text import TextModel
from ashore.training.shards.cache import ShardCache
from ashore.training.shards.frames import (
    Answer,
    Failed,
    Fetch,
    Fetched,
    Order,
    Rows,
    RowsOrder,
    Said,
    Scanned,
    ScanOrder,
    Setup,
    receive_order,
    send,
)
from ashore.training.shards.places import open_place
from ashore.training.shards.scanning import PIECES, PieceReader, scan


class Worker:
    """Answers the orders of one run."""

    def __init__(self, setup: Setup, out: BinaryIO) -> None:
        self._setup, self._out = setup, out
        self._cache = ShardCache(
            Path(setup.cache),
            open_place(setup.place),
            max_bytes=setup.cache_bytes,
            patience_s=setup.patience_s,
            say=lambda line: send(out, Said(line=line)),
        )
        self._text = TextModel.load(Path(setup.text))
        self._reader = PieceReader(self._cache, setup.shards, self._text, setup.max_length)

    def answer(self, order: Order) -> None:
        """Carry out an order and send the result."""
        try:
            send(self._out, self._answer(order))
        except AshoreError as error:
            send(self._out, Failed(code=error.code, message=error.message, hint=error.hint))

    def _answer(self, order: Order) -> Answer:
        setup = self._setup
        match order:
            case ScanOrder(shard=number):
                return Scanned(scan=scan(self._cache, setup.shards[number], number, self._text, setup.max_length))
            case RowsOrder(pieces=pieces):
                ids, targets = self._reader.read(np.frombuffer(pieces, PIECES))
                return Rows(ids=ids.tobytes(), targets=targets.tobytes())
            case Fetch(shard=number):
                self._cache.path(setup.shards[number])
        return Fetched()


def main() -> None:
    """Work until the run ends. Ctrl-C is handled by the run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of libraries must not mix with answers
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()

    def listen() -> None:
        while (order := receive_order(sys.stdin.buffer)) is not None:
            orders.put(order)
        os._exit(0)  # the run is gone: the result is no longer needed

    threading.Thread(target=listen, daemon=True).start()
    setup = orders.get()
    assert isinstance(setup, Setup)
    worker = Worker(setup, out)
    while True:
        worker.answer(orders.get())


if __name__ == "__main__":
    main()
