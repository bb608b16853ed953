"""Reads the steps of a run in advance, with workers."""

from __future__ import annotations

import threading
from functools import partial
from typing import Final, Self

import numpy as np

from ashore.errors import AshoreError
from ashore.training.batches import Batch, PackedBatches, packed_batch
from ashore.training.shards.cache import Say
from ashore.training.shards.frames import Fetch, Rows, RowsOrder
from ashore.training.shards.pool import LoaderProcess
from ashore.training.shards.trainingset import TrainingSet

MOST_STEPS: Final = 64
AHEAD_BYTES: Final = 64 << 20
"""Of token ids that wait for their step; at least two steps wait, however large."""
_TOKEN_BYTES: Final = 13
"""Of a token in a batch: id and position of 8 bytes together with what became of them, and whether it is a target."""
LOOKED_AHEAD: Final = 512
"""Steps whose shards are fetched before a worker wants them."""


class AheadBatches:
    """A `BatchSource` whose steps are read, decoded, tokenised and packed by processes in advance.

    Which examples make which step is the plan's, whatever the number of workers. Use it in a `with` block.
    """

    def __init__(
        self,
        plan: PackedBatches,
        data: TrainingSet,
        *,
        workers: int,
        ahead_bytes: int = AHEAD_BYTES,
        say: Say = lambda line: None,
    ) -> None:
        """Create the object; processes start with the block.

        Args:
            plan: Over `data`.
            data: Has a folder of its text, see `open_set`.
            workers: At least 1.
            ahead_bytes: Most bytes that wait.
            say: Called with notes for the user.
        """
        self._plan, self._data, self._ahead_bytes = plan, data, ahead_bytes
        self._changed = threading.Condition()
        self._at, self._next, self._closed = 0, 0, False
        self._ready: dict[int, tuple[Batch, ...] | BaseException] = {}
        self._sizes: dict[int, int] = {}
        """Bytes of the steps that are under way or ready."""
        self._processes = [LoaderProcess(data.setup, say=say) for _ in range(workers)]
        self._threads = [
            threading.Thread(target=self._work, args=(process,), name="loader", daemon=True)
            for process in self._processes
        ]
        if data.is_remote:
            fetcher = LoaderProcess(data.setup, say=say)
            self._processes.append(fetcher)
            self._threads.append(threading.Thread(target=self._fetch, args=(fetcher,), name="fetcher", daemon=True))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for process in self._processes:
            process.close()
        for thread in self._threads:
            thread.join()
        for process in self._processes:
            process.join()

    @property
    def num_steps(self) -> int:
        return self._plan.num_steps

    def batches(self, step: int) -> tuple[Batch, ...]:
        """See `BatchSource`. Steps are wanted in order; another one may be asked for, and is waited for.

        Raises:
            Conflict, SourceUnreachable, DiskFull, LoaderDied: the step could not be read.
        """
        with self._changed:
            if not self._at <= step < self._next:
                self._next = step
            self._at = step
            for passed in [old for old in self._sizes if not step <= old < max(self._next, step + 1)]:
                self._ready.pop(passed, None)
                del self._sizes[passed]
            self._changed.notify_all()
            self._changed.wait_for(lambda: step in self._ready)
            found = self._ready.pop(step)
            self._at = step + 1
            self._sizes.pop(step, None)
            self._changed.notify_all()
        if isinstance(found, BaseException):
            raise found
        return found

    def _may_begin(self) -> bool:
        if self._next >= self.num_steps or len(self._sizes) >= MOST_STEPS:
            return False
        return len(self._sizes) < 2 or sum(self._sizes.values()) < self._ahead_bytes

    def _work(self, process: LoaderProcess) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._may_begin())
                if self._closed:
                    return
                step = self._next
                self._next += 1
                self._sizes[step] = 0
            found: tuple[Batch, ...] | BaseException | None
            try:
                found = self._read(process, step)
            except BaseException as error:  # noqa: BLE001 - raised where the step is waited for
                found = error
            with self._changed:
                if found is None or self._closed:
                    return
                if step in self._sizes:
                    self._ready[step] = found
                self._changed.notify_all()

    def _read(self, process: LoaderProcess, step: int) -> tuple[Batch, ...] | None:
        """Return the rows of a step; None when closing."""
        rows = self._plan.rows(step)
        pieces = self._data.pieces[[example for row in rows for example in row]]
        sizes = pieces["tokens"].astype(np.int64)
        with self._changed:
            if step in self._sizes:
                self._sizes[step] = _TOKEN_BYTES * int(sizes.sum())
        answer = process.ask(RowsOrder(pieces=pieces.tobytes()))
        if not isinstance(answer, Rows):
            return None
        ids, targets = np.frombuffer(answer.ids, np.int32), np.frombuffer(answer.targets, np.bool_)
        batches, example, token = [], 0, 0
        for row in rows:
            lengths = [int(size) for size in sizes[example : example + len(row)]]
            span = slice(token, token + sum(lengths))
            batches.append(packed_batch(row, ids[span], targets[span], lengths))
            example, token = example + len(row), span.stop
        return tuple(batches)

    def _fetch(self, process: LoaderProcess) -> None:
        """Fetch the shards of the next steps before a worker needs them."""
        asked: set[int] = set()
        for step in range(self.num_steps):
            with self._changed:
                self._changed.wait_for(partial(self._is_near, step))
                if self._closed:
                    return
                if step < self._at:
                    continue
            examples = [example for row in self._plan.rows(step) for example in row]
            wanted = set(np.unique(self._data.pieces["shard"][examples]).tolist())
            for shard in sorted(wanted - asked):
                try:
                    if process.ask(Fetch(shard=shard)) is None:
                        return
                except AshoreError:
                    return  # the worker that needs the shard gets the same error, and reports it
            asked = wanted

    def _is_near(self, step: int) -> bool:
        return self._closed or step < self._at + LOOKED_AHEAD
