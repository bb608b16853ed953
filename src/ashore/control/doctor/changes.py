"""Safe changes, made and undone. What was there is read and written down first, and the change is read back after."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sqlite3
import stat
import time
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, Protocol, assert_never

import msgspec

from ashore.control.doctor.journal import Entry, Journal
from ashore.control.doctor.model import Change, Finding
from ashore.control.doctor.probes.machine import text_of
from ashore.core.errors import AshoreError, Conflict, EnvironmentFault, InvalidRequest
from ashore.kit.processes.priority import set_idle
from ashore.kit.wholefile import opened

GONE: Final = "gone"
BOOT_BOUND: Final = frozenset(("files-limit", "idle-class", "continue", "kernel"))
"""Kinds that a restart of the machine undoes by itself."""


class Hands(Protocol):
    """Reads and sets what changes are about. The world, or a twin in tests."""

    def read(self, change: Change) -> str:
        """Return how it stands; `gone` where there is no such process or file.

        Raises:
            OSError: it cannot be read.
        """
        ...

    def put(self, change: Change) -> None:
        """Set it to `change.value`. May be called twice.

        Raises:
            OSError, EnvironmentFault: it cannot be set.
        """
        ...


class OwnHands:
    """This machine, with the rights of who runs this."""

    def read(self, change: Change) -> str:
        match change.kind:
            case "mode":
                try:
                    with _held(change.target) as held:
                        return f"{os.stat(held).st_mode & 0o7777:04o}"
                except FileNotFoundError:
                    return GONE
            case "files-limit":
                try:
                    return str(resource.prlimit(int(change.target), resource.RLIMIT_NOFILE)[0])
                except ProcessLookupError:
                    return GONE
            case "idle-class":
                try:
                    return "idle" if os.sched_getscheduler(int(change.target)) == os.SCHED_IDLE else "ordinary"
                except ProcessLookupError:
                    return GONE
            case "continue":
                return _state_of(change.target)
            case "kernel":
                text = text_of(Path(change.target))
                return text.partition("[")[2].partition("]")[0] or text or GONE
            case "wal":
                return "" if Path(change.target).is_file() else GONE
            case _:
                assert_never(change.kind)

    def put(self, change: Change) -> None:
        match change.kind:
            case "mode":
                with _held(change.target) as held:
                    os.chmod(held, int(change.value, 8))
            case "files-limit":
                pid, soft = int(change.target), int(change.value)
                hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
            case "idle-class":
                if not set_idle(int(change.target), change.value == "idle"):
                    raise EnvironmentFault(
                        f"the scheduling class of process {change.target} cannot be changed", hint="run it as root"
                    )
            case "continue":
                os.kill(int(change.target), signal.SIGSTOP if change.value == "stopped" else signal.SIGCONT)
            case "kernel":
                Path(change.target).write_text(change.value, encoding="ascii")
            case "wal":
                with closing(sqlite3.connect(change.target, timeout=1.0, isolation_level=None)) as connection:
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            case _:
                assert_never(change.kind)


@contextmanager
def _held(path: str) -> Iterator[str]:
    """Give a name of exactly the file that lies there, whatever is put in its place meanwhile; a link is refused: it
    may name a file of somebody else."""
    with opened(path, os.O_PATH | os.O_NOFOLLOW) as descriptor:
        if stat.S_ISLNK(os.fstat(descriptor).st_mode):
            raise OSError(errno.ELOOP, f"{path} is a link")
        yield f"/proc/self/fd/{descriptor}"


def _state_of(pid: str) -> str:
    row = text_of(Path("/proc") / pid / "stat").rpartition(")")[2].split()
    return GONE if not row else "stopped" if row[0] in ("T", "t") else "running"


def boot_id() -> str:
    """Return which start of the machine this is."""
    return text_of(Path("/proc/sys/kernel/random/boot_id"))


class Remedies:
    """Makes the changes that findings carry, and puts them back."""

    def __init__(
        self,
        journal: Journal,
        hands: Hands,
        *,
        say: Callable[[Entry], None] = lambda entry: None,
        now_s: Callable[[], float] = time.time,
        boot: Callable[[], str] = boot_id,
    ) -> None:
        """Make it. `say` hears of each change before it is made, and once it was made or undone; it is written down
        then."""
        self._journal = journal
        self._hands = hands
        self._say = say
        self._now_s = now_s
        self._boot = boot

    def planned(self, findings: Iterable[Finding], *, named: Container[str]) -> tuple[Finding, ...]:
        """Return the findings whose change would be made: the safe ones, and the others where their rule is named."""
        return tuple(one for one in findings if one.change is not None and (one.change.safe or one.rule in named))

    def apply(self, findings: Iterable[Finding]) -> tuple[Entry, ...]:
        """Make the change of each finding, and return how each ended. One that fails keeps none of the others back."""
        with self._journal.alone():
            return tuple(self._make(one.rule, one.change) for one in findings if one.change is not None)

    def _make(self, rule: str, change: Change) -> Entry:
        number = max((one.id for one in self._journal.entries()), default=0) + 1
        fault = ""
        try:
            before = self._hands.read(change)
        except OSError as error:
            before, fault = "", error.strerror or str(error)
        entry = Entry(
            id=number, stage="begun", rule=rule, kind=change.kind, target=change.target, before=before,
            after=change.value,
            at_s=self._now_s(), boot=self._boot(),
        )  # fmt: skip
        if not fault and before == GONE:
            fault = f"{change.target} is not there any more"
        if not fault and before == change.value and change.kind not in ("wal", "continue"):
            fault = "it is so already"
        if fault:
            return self._note(entry, "failed", fault)
        self._journal.write(entry)
        self._say(entry)
        try:
            self._hands.put(change)
            after = self._hands.read(change)
        except OSError as error:
            return self._note(entry, "failed", error.strerror or str(error))
        except AshoreError as error:
            return self._note(entry, "failed", error.message)
        if change.kind in ("mode", "files-limit", "idle-class", "kernel") and after != change.value:
            return self._note(entry, "failed", f"it is {after} and not {change.value}")
        return self._note(entry, "made")

    def undo(self, number: int | None = None) -> tuple[Entry, ...]:
        """Put changes back, the last one first; return how each ended. May be called twice.

        Args:
            number: One change; None: all that were made.

        Raises:
            InvalidRequest: there is no such change.
            Conflict: that one was undone already.
        """
        if not self._journal.entries() and number is None:
            return ()
        with self._journal.alone():
            return self._undo(number)

    def _undo(self, number: int | None) -> tuple[Entry, ...]:
        entries = self._journal.entries()
        open_ = [one for one in entries if one.stage in ("begun", "made")]
        if number is not None:
            known = next((one for one in entries if one.id == number), None)
            if known is None:
                raise InvalidRequest(f"there is no change {number}", hint="`ashore doctor changes` lists them")
            if known not in open_:
                raise Conflict(f"change {number} is {known.stage}; there is nothing to undo")
            open_ = [known]
        return tuple(self._put_back(one) for one in reversed(open_))

    def _put_back(self, entry: Entry) -> Entry:
        if entry.kind in BOOT_BOUND and entry.boot != self._boot():
            return self._note(entry, "gone", "the machine was started again since")
        change = Change(kind=entry.kind, target=entry.target, value=entry.before)
        try:
            if entry.kind in ("wal", "continue"):
                return self._note(entry, "undone", "nothing to put back")
            now = self._hands.read(change)
            if now == GONE:
                return self._note(entry, "gone", f"{entry.target} is not there any more")
            if now not in (entry.after, entry.before):
                return self._note(entry, "gone", f"it is {now}: somebody changed it since, and that stays")
            self._say(msgspec.structs.replace(entry, stage="begun", note=""))
            self._hands.put(change)
        except OSError as error:
            return msgspec.structs.replace(entry, note=error.strerror or str(error))
        except AshoreError as error:
            return msgspec.structs.replace(entry, note=error.message)
        return self._note(entry, "undone")

    def _note(self, entry: Entry, stage: str, note: str = "") -> Entry:
        done = msgspec.convert(
            {**msgspec.to_builtins(entry), "stage": stage, "note": note, "at_s": self._now_s()}, Entry
        )
        self._journal.write(done)
        self._say(done)
        return done
