"""Runs grammars in processes of their own (`grammarchild.py`): one that loads the library, and one forked for each
grammar.

A grammar that crashes the library, or exceeds its time or memory, ends with `InvalidGrammar`. Nothing else is affected.
"""

from __future__ import annotations

import importlib.util
import json
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from ashore.core.errors import InvalidGrammar, NotReady
from ashore.data.engines import grammarchild
from ashore.data.engines.closing import JSON_STYLE
from ashore.data.engines.grammarchild import (
    ACCEPTED,
    BELONGS,
    COMPILE_S,
    COMPLETE,
    ENDED,
    FAULT,
    FOLLOW,
    FOLLOW_S,
    FOLLOW_TOKEN_S,
    MEMORY_BYTES,
)
from ashore.kit.processes import child_environment

MOST_WAIT_S: Final = 60.0
"""A compilation that takes this long by the clock waits for a processor that it does not get."""


class GrammarLine:
    """One running grammar. Calls are made by one thread."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self.asked_s = 0.0
        """When the last question was asked."""

    def fileno(self) -> int:
        return self._line.fileno()

    def follow(self, ids: Iterable[int] = ()) -> None:
        """Request the tokens that may follow these; returns at once, `answer` has the result."""
        self.asked_s = time.monotonic()
        self._ask(FOLLOW + b"".join(struct.pack("<I", one) for one in ids))

    @property
    def is_answered(self) -> bool:
        return bool(select.select([self._line], [], [], 0)[0])

    def answer(self) -> bytes | None:
        """Wait for the result of `follow` and return it as bits, None if nothing may follow.

        Raises:
            InvalidGrammar: the grammar cannot be followed further. NotReady: the process for grammars ended.
        """
        told = self._told("following the grammar")
        return None if told[:1] == COMPLETE else told[1:]

    def belongs(self, ids: Iterable[int]) -> bool:
        """Return whether these tokens are a complete answer. Raises as `answer` does."""
        self._ask(BELONGS + b"".join(struct.pack("<I", one) for one in ids))
        told = self._told("following the grammar")
        return told == ACCEPTED + b"\1"

    def compiled(self) -> list[str]:
        """Wait until it is compiled and return the warnings. Raises as `answer` does."""
        warnings: list[str] = json.loads(self._told("compiling the grammar")[1:])
        return warnings

    def close(self) -> None:
        """End the process. May be called twice."""
        self._line.close()

    def _ask(self, message: bytes) -> None:
        try:
            grammarchild.send(self._line, message)
        except (BrokenPipeError, ConnectionResetError):
            return  # its exit status can be read

    def _told(self, doing: str) -> bytes:
        try:
            told = grammarchild.receive(self._line)
        except TimeoutError as fault:
            raise NotReady(f"{doing} got too little of the processor", hint="try again later") from fault
        except ConnectionResetError:
            told = None  # it ended before it read the request
        if told is None:
            raise NotReady("the process for grammars ended", hint="try again; its log says why it ended")
        if told[:1] == ENDED:
            raise _ended(int(told[1:]), doing)
        if told[:1] == FAULT:
            raise InvalidGrammar(told[1:].decode(errors="replace"))
        return told


class GrammarProcess:
    """Starts the process with the first grammar, and again if it has ended. Any thread may call."""

    def __init__(self, tokenizer: Callable[[], dict[str, Any]] | None = None) -> None:
        """Create it; starts no process yet.

        Args:
            tokenizer: Returns the arguments of the library's tokenizer; None: grammars are checked, not followed.
        """
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def begin(self, kind: str, text: str) -> GrammarLine:
        """Start compiling a grammar; returns at once.

        Raises:
            NotReady: no process can be made.
        """
        try:
            return self._begin(kind, text)
        except OSError as fault:
            raise NotReady(f"no process for grammars can be made: {fault}", hint="try again later") from fault

    def close(self) -> None:
        """End it and its forks. May be called twice."""
        with self._lock:
            self._stop()

    def _begin(self, kind: str, text: str) -> GrammarLine:
        ours, theirs = socket.socketpair()
        try:
            ours.settimeout(MOST_WAIT_S)
            with theirs, self._lock:
                self._hand_over(theirs)
            line = GrammarLine(ours)
            line._ask(json.dumps({"kind": kind, "text": text, "style": JSON_STYLE}).encode())
        except BaseException:
            ours.close()
            raise
        return line

    def _hand_over(self, line: socket.socket) -> None:
        for _ in range(2):
            if self._control is None:
                self._start()
            assert self._control is not None
            try:
                socket.send_fds(self._control, [b"+"], [line.fileno()])
                return
            except OSError:
                self._stop()
        raise NotReady("the process for grammars cannot be started", hint="see the log of this process")

    def _start(self) -> None:
        found = importlib.util.find_spec("llguidance")
        if found is None or found.origin is None:
            raise NotReady("llguidance is not installed", hint="install ashore again")
        setup = {"path": [str(Path(found.origin).parents[1])], "tokenizer": self._tokenizer and self._tokenizer()}
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-I", "-S", grammarchild.__file__]
        with theirs:
            self._process = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, env=child_environment()
            )
        self._control = ours
        grammarchild.send(ours, json.dumps(setup).encode())

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def wait_for_answers(lines: Iterable[GrammarLine], until_s: float) -> None:
    """Wait until all of these have an answer, or until `until_s` by the monotonic clock."""
    ahead = {line.fileno() for line in lines}
    poll = select.poll()
    for one in ahead:
        poll.register(one, select.POLLIN)
    while ahead and (left_s := until_s - time.monotonic()) > 0:
        for one, _ in poll.poll(left_s * 1000):
            poll.unregister(one)
            ahead.discard(one)


def _ended(number: int, doing: str) -> InvalidGrammar:
    match number:
        case signal.SIGPROF:
            allowed = COMPILE_S if doing.startswith("compiling") else FOLLOW_S
            more = "" if doing.startswith("compiling") else f" and {FOLLOW_TOKEN_S * 1000:g} ms for each token"
            what = f"took more than {allowed:g} s of processor time{more}"
        case signal.SIGABRT | signal.SIGKILL:
            what = f"took more than {MEMORY_BYTES >> 20} MiB of memory"
        case _:
            what = "is too deep or too large for the library, which crashed"
    return InvalidGrammar(f"{doing} {what}", hint="make it smaller: fewer alternatives, counts and levels")
