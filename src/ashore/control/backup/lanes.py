"""One thread for each node: its work runs in sequence, and a hanging node blocks only itself.

The threads are daemons: a hanging file system does not keep a command from ending.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from ashore.control.backup.ports import Node

T = TypeVar("T")


class Lane:
    """One node, and its thread."""

    def __init__(self, index: int, node: Node) -> None:
        self.index = index
        """Of the node, which is that of its shards."""
        self.node = node
        self.lateness = 0
        """How often it was too late or failed; nodes with a small number are asked first."""
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"backup-node-{index}", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Queue `work` on the node's thread."""
        future: Future[T] = Future()
        self._queue.put((future, work))
        return future

    def close(self) -> None:
        """End the thread after its queued work. Does not wait. May be called twice."""
        self._queue.put(None)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            future, work = item
            try:
                future.set_result(work())
            except BaseException as fault:  # noqa: BLE001 - it is passed to the caller
                future.set_exception(fault)


def open_lanes(nodes: Iterable[tuple[int, Node]]) -> tuple[Lane, ...]:
    """Return a lane for each node, by its index."""
    return tuple(Lane(index, node) for index, node in nodes)
