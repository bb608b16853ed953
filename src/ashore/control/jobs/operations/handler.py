"""Runs an operation in its own low-priority process, and stores its progress.

The process is `python -m ashore.cli.operation`: it reads the request from standard input, writes progress to a pipe,
one JSON object a line, and logs to its output. It ends with this process.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec

from ashore.data.jobs import JobQueue
from ashore.data.jobs.model import Done, Failed, Interrupted, Lease, Outcome
from ashore.data.jobs.operations.model import Progress, Request, Unit
from ashore.kit.decode import UNDECODABLE
from ashore.kit.processes import child_environment, python_command
from ashore.kit.processes.child import tied
from ashore.kit.processes.supervisor import ending

MODULE: Final = "ashore.cli.operation"
KEEP_EVERY_S: Final = 1.0
"""Between two writes of the progress into the state."""
LOG_LINES: Final = 40
LINE_CHARS: Final = 400
GRACE_S: Final = 3.0
"""From the wish that it ends to its death; less than the supervisor waits for this process."""
RATE_OVER_S: Final = 20.0
"""The rate is that of the last so many seconds."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the pipe: a step, or the final error."""

    stage: str = ""
    done: int = 0
    total: int = 0
    unit: Unit = ""
    says: str = ""
    code: str = ""
    message: str = ""
    hint: str = ""


_told: Final = msgspec.json.Decoder(Told)
_request: Final = msgspec.json.Decoder(Request)


class Meter:
    """Computes progress from the lines of an operation: rate, time left, and the last log lines. Pure except for its
    clock.
    """

    def __init__(self, subject: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._now = Progress(subject=subject)
        self._steps: deque[tuple[float, int]] = deque()
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._rest = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.error: Told | None = None

    @property
    def progress(self) -> Progress:
        """The current progress."""
        return msgspec.structs.replace(self._now, log=list(self._log))

    def told(self, line: bytes) -> None:
        """Take one line of the pipe. Malformed lines are ignored."""
        try:
            told = _told.decode(line)
        except UNDECODABLE:
            return
        if told.code:
            self.error = told
            return
        if (told.stage, told.unit) != (self._now.stage, self._now.unit):
            self._steps.clear()
        now_s = self._clock()
        self._steps.append((now_s, told.done))
        while len(self._steps) > 2 and self._steps[0][0] < now_s - RATE_OVER_S:
            self._steps.popleft()
        began_s, first = self._steps[0]
        rate = (told.done - first) / (now_s - began_s) if now_s > began_s and told.done > first else 0.0
        self._now = Progress(
            subject=self._now.subject,
            stage=_shown(told.stage)[:LINE_CHARS],
            done=told.done,
            total=told.total,
            unit=told.unit,
            rate_per_s=rate,
            left_s=(told.total - told.done) / rate if rate and told.total > told.done else None,
            says=_shown(told.says)[:LINE_CHARS],
        )

    def wrote(self, data: bytes) -> None:
        """Take a piece of its output."""
        *lines, self._rest = (self._rest + self._decoder.decode(data)).replace("\r", "\n").split("\n")
        self._log.extend(_shown(line)[:LINE_CHARS] for line in lines if line.strip())
        self._rest = self._rest[-LINE_CHARS:]

    def ended(self) -> None:
        """Take the rest of the output at the end."""
        self.wrote(b"\n")


class OperationHandler:
    """A `Handler` of operations."""

    def __init__(
        self,
        queue: JobQueue,
        *,
        environment: Mapping[str, str],
        still_allowed: Callable[[Lease], Awaitable[Outcome | None]],
        argv: Sequence[str] = (),
    ) -> None:
        """Create it.

        Args:
            queue: Stores the progress.
            environment: Additional environment of the process: the home's settings, credentials.
            still_allowed: Returns the outcome of a job whose submitter has lost the right; None: it may start.
            argv: The program; default: the one for operations.
        """
        self._still_allowed = still_allowed
        self._queue = queue
        self._environment = environment
        self._argv = tuple(argv) or python_command(MODULE)

    async def run(self, lease: Lease) -> Outcome:
        """Run the operation once, if its submitter still may. If it was started before, it was interrupted at an
        unknown point, so a person decides.
        """
        request, job = _request.decode(lease.payload), lease.job
        if lease.number > 1 and job.progress:
            how = "run it again: ashore job again " + job.job_id
            return Interrupted(code="interrupted", message=f"the server stopped while the operation ran; {how}")
        if (instead := await self._still_allowed(lease)) is not None:
            return instead
        meter = Meter(request.subject)
        await asyncio.to_thread(self._queue.report, lease, _text(meter))  # from here on it has begun
        keeping = asyncio.create_task(self._keep(lease, meter), name=f"progress of {job.job_id}")
        try:
            code = await self._do(lease, request, meter)
        except OSError as fault:
            return Failed(code="not_started", message=f"no process can be started: {fault.strerror}")
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        meter.ended()
        await asyncio.to_thread(self._queue.report, lease, _text(meter))
        if code == 0:
            return Done(result=b"{}")
        if meter.error is not None:
            hint = f"; {meter.error.hint}" if meter.error.hint else ""
            return Failed(code=meter.error.code, message=meter.error.message + hint)
        if code < 0:
            return Failed(code="killed", message=f"its process {ending(code)}{_killer(code)}")
        last = f"; its last line: {meter.progress.log[-1]}" if meter.progress.log else ""
        return Failed(code="operation_failed", message=f"it ended with code {code}{last}")

    async def _do(self, lease: Lease, request: Request, meter: Meter) -> int:
        """Run the process to its end and return its exit code; negative: a signal."""
        read_end, write_end = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *tied(self._argv),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=child_environment(extra={**self._environment, "ASHORE_CHILD_PROGRESS": str(write_end)}),
                pass_fds=(write_end,),
                process_group=0,
            )
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        told = asyncio.create_task(_read_lines(read_end, meter.told))
        order = {"name": request.name, "asked": request.asked, "principal": lease.job.principal,
                 "account": lease.job.account, "tenant": lease.job.tenant}  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        try:
            # it ended at once, with the reason in its output
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                process.stdin.write(msgspec.json.encode(order))
                await process.stdin.drain()
                process.stdin.close()
            while data := await process.stdout.read(1 << 16):
                meter.wrote(data)
            code = await process.wait()
            await told
            return code
        finally:
            told.cancel()
            if process.returncode is None:
                await _end(process)
            with contextlib.suppress(ProcessLookupError, PermissionError):  # its leftover output
                os.killpg(process.pid, signal.SIGKILL)

    async def _keep(self, lease: Lease, meter: Meter) -> None:
        """Write progress to the state while it changes."""
        kept = ""
        while True:
            text = _text(meter)
            if text != kept and await asyncio.to_thread(self._queue.report, lease, text):
                kept = text
            await asyncio.sleep(KEEP_EVERY_S)


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a process: SIGTERM first, so that a training can save its position."""
    ended = asyncio.ensure_future(process.wait())
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GRACE_S):
            await asyncio.shield(ended)
            return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await ended


async def _read_lines(descriptor: int, take: Callable[[bytes], None]) -> None:
    """Yield each line of a pipe until it is closed."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader(limit=1 << 20)
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
    )
    try:
        rest = b""
        while data := await reader.read(1 << 16):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                take(line)
            rest = rest[-(1 << 16) :]
    finally:
        transport.close()


def _shown(text: str) -> str:
    """Return a text without invisible and direction-changing characters."""
    return "".join(one if one.isprintable() else " " for one in text)


def _text(meter: Meter) -> str:
    return msgspec.json.encode(meter.progress).decode()


def _killer(code: int) -> str:
    return ", perhaps by the system for want of memory" if code == -signal.SIGKILL else ""
