"""Worker processes of a run: each handles one order at a time, and is replaced when it dies."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from typing import Final

from ashore.errors import AshoreError, LoaderDied, error_class
from ashore.processes import python_command
from ashore.training.shards.cache import Say
from ashore.training.shards.frames import Answer, Failed, Order, Said, Setup, receive_answer, send

MOST_DEATHS: Final = 3
"""Of workers over one and the same order."""


class LoaderProcess:
    """One worker. For one thread at a time; `close` may be called from another."""

    def __init__(self, setup: Setup, *, say: Say) -> None:
        """Create the object; the process starts with the first order."""
        self._setup, self._say = setup, say
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._starting = threading.Lock()

    def ask(self, order: Order) -> Answer | None:
        """Return the answer to an order; None if `close` was called meanwhile.

        Raises:
            LoaderDied: three processes died over it. AshoreError: what the worker says.
        """
        for death in range(1, MOST_DEATHS + 1):
            answer = self._asked(order)
            if isinstance(answer, Failed):
                raise (error_class(answer.code) or AshoreError)(answer.message, hint=answer.hint)
            if answer is not None or self._closed:
                return answer
            how = self._end()
            if death < MOST_DEATHS:
                self._say(f"a loader process died ({how}) and is replaced")
        raise LoaderDied(
            f"{MOST_DEATHS} loader processes died over the same examples of {self._setup.place}; the last: {how}",
            hint="check the free memory of this machine; a process that was killed by signal 9 ran out of it",
        )

    def _asked(self, order: Order) -> Answer | None:
        process = self._running()
        if process is None or process.stdin is None or process.stdout is None:
            return None
        try:
            send(process.stdin, order)
            while isinstance(answer := receive_answer(process.stdout), Said):
                self._say(answer.line)
        except (BrokenPipeError, ValueError):
            return None
        return answer

    def _running(self) -> subprocess.Popen[bytes] | None:
        """Return the process, starting it if needed; None after `close`."""
        with self._starting:
            if self._closed or self._process is not None:
                return self._process
            words = python_command("ashore.training.shards.worker")
            environ = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
            self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            send(self._process.stdin, self._setup)
        return self._process

    def _end(self) -> str:
        """End the process, and return how it ended."""
        process, self._process = self._process, None
        if process is None:
            return "not started"
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        process.wait()
        return f"signal {-process.returncode}" if process.returncode < 0 else f"exit {process.returncode}"

    def close(self) -> None:
        """End the worker, in the middle of an order too. May be called twice."""
        with self._starting:
            self._closed = True
            if self._process is not None:
                self._process.kill()

    def join(self) -> None:
        """Wait for the end, after `close`."""
        self._end()
