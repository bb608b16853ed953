"""Runs the operator's judges: schemas and expressions on a thread, commands in a process of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import signal
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar

from ashore.data.releases import CHECK, PREFERENCE, JudgeSpec
from ashore.data.releases.judges import compile_pattern, compile_schema

MOST_SAID_BYTES: Final = 4096
"""Limit of a command's output; more is taken for a malfunction."""
MOST_READ_CHARS: Final = 65_536
"""Longer texts are not judged."""
END_S: Final = 1.0
"""Longest wait for a command that was killed."""
UNANSWERED: Final = "unanswered by "
"""Metric name of the share of pairs without a verdict."""

log = logging.getLogger("ashore.serving")

Passes = Callable[[str], bool]
T = TypeVar("T")


class Reads(Protocol):
    """Runs work that reads the texts of a request without blocking other requests."""

    async def __call__(self, num_chars: int, work: Callable[[], T], /) -> T:
        """Return the result of `work`, which reads so many characters."""
        ...


class Judges:
    """Judges pairs of answers, one after the other."""

    def __init__(self, specs: Sequence[JudgeSpec] = ()) -> None:
        """Compile the judges.

        Raises:
            InvalidSpec: one cannot be used; `check_judges` has said so before.
        """
        self._checks = [(spec, passes_of(spec)) for spec in specs if not spec.command]
        self._commands = [spec for spec in specs if spec.command]
        self._told: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._checks or self._commands)

    async def values(
        self, alias: str, live: str, candidate: str, *, prompt: str | None, read: Reads
    ) -> dict[str, float]:
        """Return the score of each judge of an alias, by measure: larger is worse.

        Args:
            alias: The alias of the request.
            live: Answer of the live release.
            candidate: Answer of the candidate.
            prompt: Their common prompt; None if they answered different requests, which skips commands.
            read: Runs the work that reads the answers.
        """
        if max(len(live), len(candidate), len(prompt or "")) > MOST_READ_CHARS:
            return {}
        values: dict[str, float] = {}
        checks = [(spec, passes) for spec, passes in self._checks if spec.alias in ("", alias)]
        if checks:
            values |= await read(len(live) + len(candidate), partial(_checked, checks, live, candidate))
        if prompt is None:
            return values
        for spec in self._commands:
            if spec.alias not in ("", alias):
                continue
            score = await self._ask(spec, {"prompt": prompt, "live": live, "candidate": candidate})
            values[f"{UNANSWERED}{spec.name}"] = float(score is None)
            if score is not None:
                values[f"{PREFERENCE}{spec.name}"] = 1.0 - score
        return values

    async def _ask(self, spec: JudgeSpec, question: dict[str, str]) -> float | None:
        """Return the score of a command; None if it times out or fails."""
        try:
            why, score = await _run(spec, json.dumps(question, ensure_ascii=False).encode("utf-8", "replace"))
        except OSError as fault:
            why, score = f"it cannot be started: {fault.strerror}", None
        if score is None and spec.name not in self._told:
            self._told.add(spec.name)
            log.warning("the judge %s gives no score: %s", spec.name, why)
        return score


def passes_of(spec: JudgeSpec) -> Passes:
    """Return a function that says whether an answer passes a schema or an expression.

    Raises:
        InvalidSpec: it cannot be compiled.
    """
    if spec.schema:
        return compile_schema(spec).allows
    pattern = compile_pattern(spec)
    wanted = bool(spec.must_match)
    return lambda text: (pattern.search(text) is not None) == wanted


def _checked(checks: Sequence[tuple[JudgeSpec, Passes]], live: str, candidate: str) -> dict[str, float]:
    return {f"{CHECK}{spec.name}": float(passes(live)) - float(passes(candidate)) for spec, passes in checks}


async def _run(spec: JudgeSpec, question: bytes) -> tuple[str, float | None]:
    """Run a command in a process group of its own; return why there is no score, and the score."""
    process = await asyncio.create_subprocess_exec(
        *spec.command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
        cwd="/",
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(spec.timeout_s):
            said = await _exchanged(process, question)
            if len(said) > MOST_SAID_BYTES:
                return f"it said more than {MOST_SAID_BYTES} bytes", None
            await process.wait()
    except TimeoutError:
        return f"nothing within {spec.timeout_s:g} s", None
    finally:
        await _end(process)
    if process.returncode:
        return f"exit code {process.returncode}", None
    return score_of(said)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill a command and its process group, and wait for it, reading its output to the end."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    assert process.stdout is not None
    with contextlib.suppress(TimeoutError):  # a process that left the group may hold the pipe
        async with asyncio.timeout(END_S):
            while await process.stdout.read(1 << 16):
                pass
            await process.wait()


async def _exchanged(process: asyncio.subprocess.Process, question: bytes) -> bytes:
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may score without reading its input
        process.stdin.write(question)
        await process.stdin.drain()
        process.stdin.close()
    said = b""
    while len(said) <= MOST_SAID_BYTES and (more := await process.stdout.read(MOST_SAID_BYTES)):
        said += more
    return said


def score_of(said: bytes) -> tuple[str, float | None]:
    """Return why the output of a command is not a score, and the score."""
    text = said[: MOST_SAID_BYTES + 1].decode("utf-8", "replace").strip()
    try:
        score = float(text)
    except ValueError:
        return f"it said {text[:60]!r}; a number from 0 to 1 is expected", None
    if math.isnan(score) or not 0 <= score <= 1:
        return f"it said {text[:60]}; a number from 0 to 1 is expected", None
    return "", score
