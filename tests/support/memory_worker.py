"""A real API worker process whose replicas are in memory, for tests of the HTTP side alone.

    python memory_worker.py RUN_DIR

The last part of a socket path steers the replica behind it: `slow-20` makes 20 tokens a second, `dies-5` is gone after
five tokens (and back when it is connected again), `loading` is never ready, `late-300` is 300 ms
after it was asked.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from memory_replica import MemoryReplica

from ashore.core.errors import NotReady
from ashore.data.path import Replica
from ashore.data.worker import serve


class Loading(MemoryReplica):
    async def connect(self, timeout_s: float) -> None:
        raise NotReady


class Late(MemoryReplica):
    def __init__(self, after_s: float) -> None:
        super().__init__()
        self._after_s = after_s

    async def connect(self, timeout_s: float) -> None:
        await asyncio.sleep(self._after_s)
        await super().connect(timeout_s)


def make_replica(socket: str) -> Replica:
    kind, _, number = Path(socket).name.partition("-")
    if kind == "loading":
        return Loading()
    if kind == "late":
        return Late(int(number) / 1000)
    if kind == "slow":
        return MemoryReplica(token_s=1 / float(number))
    if kind == "dies":
        return MemoryReplica(token_s=0.005, die_after=int(number))
    return MemoryReplica()


def main(words: list[str]) -> int:
    """Run it until it is told to stop."""
    logging.basicConfig(level="INFO", stream=sys.stderr)
    return asyncio.run(serve(Path(words[0]) / "topology.json", make_replica=make_replica))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
