"""Logs of runs, one line of JSON for each step: written during the run, kept afterwards, archived by age, searchable.

    RUN.jsonl                          on this machine; of a run that was continued, one file
    s3://BUCKET/PATH/RUN/FROM-TO.jsonl.gz   parts that were archived, named by their first and last second

No line contains any of the data.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

import msgspec

from ashore.core.errors import BrokenData, Conflict, DiskFull, InvalidRequest, NotFound
from ashore.kit.bucket import Bucket
from ashore.kit.copied import copied
from ashore.kit.decode import UNDECODABLE
from ashore.kit.folders import make_folder
from ashore.lab.training.loop import StepReport

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LONGEST_LINE: Final = 64 * 1024
"""Bytes of a line of a log; a note is cut long before."""
_PART: Final = re.compile(r"(.+)/(\d{10})-(\d{10})\.jsonl\.gz")


class LogLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event of a run."""

    at: float
    """Seconds since 1970, UTC."""
    run: str
    what: str
    """`begin`, `step`, `note`, `end`, or `stop`."""
    text: str = ""
    step: int = 0
    num_steps: int = 0
    loss: float = 0.0
    learning_rate: float = 0.0
    gradient_norm: float = 0.0
    tokens: int = 0
    tok_per_s: float = 0.0
    """Of this step."""
    seconds: float = 0.0
    """Of this step."""
    data_wait_s: float = 0.0
    stall_s: float = 0.0
    memory_bytes: int = 0
    """Resident, after the step."""


class RunFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of a run."""

    run: str
    begun_at: float
    last_at: float
    state: str
    """`running or killed`, `stopped`, `ended`."""
    steps: int
    num_steps: int
    tokens: int
    loss_first: float
    """Mean of the first tenth of the steps that are in the log."""
    loss_last: float
    learning_rate: float
    """Of the last step."""
    tok_per_s: float
    """Over all steps."""
    data_wait_share: float
    """Of the time of all steps."""
    stall_share: float
    peak_memory_bytes: int
    begun: int
    """How often it was begun or continued."""


class RunLog:
    """Writes the log of one run. Use it in a `with` block; one process at a time."""

    def __init__(self, folder: Path, run: str, *, now: Callable[[], float] = time.time) -> None:
        """Create the object; the folder is made with the first line."""
        self._path, self._run, self._now = folder / f"{run}.jsonl", run, now
        self._tokens = 0
        self.lost = 0
        """Lines that a full disk did not take: a log is never why a run ends."""

    def __enter__(self) -> Self:
        try:
            make_folder(self._path.parent, mode=0o700)
            self._file = self._path.open("ab", buffering=0)
            self._path.chmod(0o600)
        except OSError as error:
            raise DiskFull(f"{self._path} cannot be written: {error.strerror}", hint="free some space") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self.say("stop", f"{kind.__name__ if kind else ''}: {error}")
        self._file.close()

    def say(self, what: str, text: str = "") -> None:
        """Write a line that is not a step."""
        self._write(LogLine(at=self._now(), run=self._run, what=what, text=text))

    def step(self, report: StepReport) -> None:
        """Write the line of a step."""
        tokens = report.tokens - self._tokens if self._tokens else 0
        self._tokens = report.tokens
        self._write(
            copied(
                LogLine,
                report,
                at=self._now(),
                run=self._run,
                what="step",
                text="",
                tok_per_s=(tokens / report.seconds if tokens and report.seconds else report.tok_per_s),
                memory_bytes=resident_bytes(),
            )
        )

    def _write(self, line: LogLine) -> None:
        """Append a line in one write, so that a killed process leaves no half line."""
        try:
            self._file.write(msgspec.json.encode(line) + b"\n")
        except OSError:
            self.lost += 1


def resident_bytes() -> int:
    """Return the memory that this process has now; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


class LogBucket(Bucket):
    """`s3://BUCKET/PATH`: archived parts of logs."""

    def __init__(self, place: str) -> None:
        """Store the place; connects to nothing yet. Raises `InvalidRequest` if it is not in a bucket."""
        if not place.startswith("s3://"):
            raise InvalidRequest(f"{place!r} is not a place in a bucket", hint="expected s3://BUCKET/PATH")
        super().__init__(place)


class RunLogs:
    """The logs of all runs: on this machine and, if configured, in a bucket."""

    def __init__(self, folder: Path, bucket: LogBucket | None = None) -> None:
        self._folder, self._bucket = folder, bucket

    def runs(self) -> list[str]:
        """Return the names of the runs that have a log."""
        here = {path.stem for path in self._folder.glob("*.jsonl")} if self._folder.is_dir() else set()
        return sorted(here | {run for run, *_ in self._parts()})

    def lines(
        self, run: str = "", *, pattern: str = "", since_s: float = 0.0, until_s: float = float("inf")
    ) -> Iterator[tuple[LogLine, bytes]]:
        """Yield lines ordered by time within each run, with their bytes.

        Parts of the bucket that end before `since_s` or begin after `until_s` are not fetched.

        Args:
            run: Name; empty: all runs.
            pattern: Word that the line has, in any case; empty: any line.
            since_s: Seconds since 1970.
            until_s: Seconds since 1970.

        Raises:
            NotFound: there is no such run. SourceUnreachable: the bucket is away. BrokenData: a part of it is broken.
        """
        names = self.runs()
        if run and run not in names:
            raise NotFound(
                f"there is no log of a run {run[:100]!r}", hint=f"runs with a log: {', '.join(names) or 'none'}"
            )
        wanted = pattern.lower().encode()
        for name in [run] if run else names:
            for raw in self._raw(name, since_s, until_s):
                if wanted not in raw.lower():
                    continue
                try:
                    line = msgspec.json.decode(raw, type=LogLine)
                except UNDECODABLE:
                    continue  # of a process that a full disk cut off
                if since_s <= line.at <= until_s:
                    yield line, raw

    def figures(self, run: str) -> RunFigures:
        """Return a run in figures. Raises `NotFound`."""
        lines = [line for line, _ in self.lines(run)]
        steps = list({line.step: line for line in lines if line.what == "step"}.values())
        tenth = max(1, len(steps) // 10)
        seconds = sum(line.seconds for line in steps) or 1e-9
        last = steps[-1] if steps else LogLine(at=0.0, run=run, what="step")
        ends = {"end": "ended", "stop": "stopped"}
        return RunFigures(
            run=run,
            begun_at=lines[0].at if lines else 0.0,
            last_at=lines[-1].at if lines else 0.0,
            state=ends.get(lines[-1].what if lines else "", "running or killed"),
            steps=last.step,
            num_steps=last.num_steps,
            tokens=last.tokens,
            loss_first=sum(line.loss for line in steps[:tenth]) / tenth,
            loss_last=sum(line.loss for line in steps[-tenth:]) / tenth,
            learning_rate=last.learning_rate,
            tok_per_s=last.tokens / seconds,
            data_wait_share=sum(line.data_wait_s for line in steps) / seconds,
            stall_share=sum(line.stall_s for line in steps) / seconds,
            peak_memory_bytes=max((line.memory_bytes for line in steps), default=0),
            begun=sum(line.what == "begin" for line in lines),
        )

    def archive(self, *, older_than_s: float, now_s: float) -> list[str]:
        """Move logs whose last line is older into the bucket, and return their runs. May be called again, also after a
        kill.

        A file is deleted only when the bucket has it; one that was written to meanwhile stays.

        Raises:
            Conflict: there is no bucket. SourceUnreachable, RemoteRefused: it cannot be reached.
        """
        if self._bucket is None:
            raise Conflict("no bucket is named for the archive of logs", hint="add --archive s3://BUCKET/PATH")
        moved = []
        for path in sorted(self._folder.glob("*.jsonl")) if self._folder.is_dir() else ():
            before = path.stat()
            if before.st_mtime > now_s - older_than_s:
                continue
            data = path.read_bytes()
            first, last = (_time_of(data.splitlines(), turn) for turn in (1, -1))
            name = f"{path.stem}/{int(first):010d}-{int(last) + 1:010d}.jsonl.gz"
            self._bucket.make(name, gzip.compress(data, mtime=0))
            if (state := path.stat()).st_size == before.st_size and state.st_mtime_ns == before.st_mtime_ns:
                path.unlink()
                moved.append(path.stem)
        return moved

    def _raw(self, run: str, since_s: float, until_s: float) -> Iterator[bytes]:
        for name, first, last, key in sorted(self._parts()):
            if name == run and last >= since_s and first <= until_s and self._bucket is not None:
                try:
                    with gzip.open(io.BytesIO(self._bucket.read(key))) as part:
                        yield from _whole_lines(part)
                except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                    raise BrokenData(
                        f"the archived log {key} cannot be unpacked: {error}", hint="restore it from another copy"
                    ) from error
        path = self._folder / f"{run}.jsonl"
        if _NAME.fullmatch(run) and path.is_file():
            with path.open("rb") as file:
                yield from _whole_lines(file)

    def _parts(self) -> Iterator[tuple[str, float, float, str]]:
        for name, _ in Bucket.sizes(self._bucket, "") if self._bucket is not None else ():
            if found := _PART.fullmatch(name):
                yield found[1], float(found[2]), float(found[3]), name


def _whole_lines(file: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    """Yield complete lines, without their end; an overlong line comes in pieces."""
    while raw := file.readline(_LONGEST_LINE):
        if raw.endswith(b"\n"):
            yield raw[:-1]


def _time_of(lines: list[bytes], turn: int) -> float:
    """Return the time of the first or last readable line; 0 if there is none."""
    for raw in lines[::turn]:
        try:
            return msgspec.json.decode(raw, type=LogLine).at
        except UNDECODABLE:
            continue
    return 0.0
