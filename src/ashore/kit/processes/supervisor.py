"""The supervisor: starts, watches, restarts and stops children in order. One thread, no polling.

It sleeps until a signal, a descriptor or a deadline. SIGCHLD wakes it when a child ended; SIGTERM and SIGINT begin the
stop: stage by stage, each child gets SIGTERM and its own time to drain. A second one hurries.

A callback that fails is logged and called again after a pause. Only a stop, or an essential child that is given up,
ends the loop. A child killed by a signal is never given up (`restart.py`).
"""

from __future__ import annotations

import logging
import os
import random
import selectors
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final, Literal

from ashore.core.clock import Clock
from ashore.core.errors import Conflict, EngineFailed
from ashore.kit.processes import guard
from ashore.kit.processes.child import ChildSpec, Process
from ashore.kit.processes.logs import rotate, tail
from ashore.kit.processes.pulse import BEAT_S
from ashore.kit.processes.restart import GiveUp, RestartPolicy, decide
from ashore.kit.reserve import Reserve

ChildState = Literal["running", "waiting", "stopping", "stopped", "given-up"]

HURRY_S: Final = 1.0
"""What is left to a child once the operator is impatient."""
HOUSEKEEPING_S: Final = 5.0
"""Pause after the first failure of a callback; doubles each time up to this."""
FULL_S: Final = 0.25
"""Between two looks at logs on a full disk: one that grows by 30 MB/s leaves the reserve of the disk to others."""
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
"""What was called and failed is called again after the first pause, and after twice as long each time."""
NOT_STARTED: Final = 1000
"""Stands for the exit code of a child of which no process could be made; no process ends with it."""

log = logging.getLogger("ashore.supervisor")


@dataclass(slots=True)
class _Child:
    spec: ChildSpec
    process: Process | None = None
    state: ChildState = "waiting"
    started_s: float = 0.0
    failures: int = 0
    exits: int = 0
    due_s: float = 0.0
    """waiting: start time; stopping: kill time."""
    exit_code: int | None = None
    restarts: int = 0
    fell_s: deque[float] = field(default_factory=lambda: deque(maxlen=64))
    """Times of its last unexpected ends."""
    patience_s: int = 0
    """Time promised by its last beat; 0: it has not beaten yet."""
    silent_s: int = 0
    """Consecutive one-second looks since that beat."""


@dataclass(slots=True, kw_only=True)
class _Job:
    """A callback that the loop calls repeatedly."""

    name: str
    callback: Callable[[], float | None]
    interval_s: float = 0.0
    at_news: bool = False
    due_s: float = 0.0
    failures: int = 0
    """Consecutive failures."""
    said: str = ""
    """The last failure; the same one is not logged twice in a row."""


class Supervisor:
    """Owns every child. Use it in a `with` block: leaving it ends every child in any case."""

    def __init__(
        self,
        *,
        clock: Clock,
        say: Callable[[str], None],
        policy: RestartPolicy | None = None,
        chance: Callable[[], float] = random.random,
        reserve: Reserve | None = None,
    ) -> None:
        """Create it; starts nothing.

        Args:
            clock: Time for waits and deadlines.
            say: Called with each message for the operator, one line each.
            policy: When children are restarted.
            chance: Draws the jitter.
            reserve: Room on the disk that logs must not take.
        """
        self._clock = clock
        self._say = say
        self._policy = policy or RestartPolicy()
        self._chance = chance
        self._children: dict[str, _Child] = {}
        self._selector = selectors.DefaultSelector()
        self._wake_receive, self._wake_send = os.pipe()
        for end in (self._wake_receive, self._wake_send):
            os.set_blocking(end, False)
        self._selector.register(self._wake_receive, selectors.EVENT_READ, _Job(name="wake up", callback=self._woken))
        self._stop_requests = 0
        self._has_news = False
        self._stopping = False
        self._failure: EngineFailed | None = None
        self._guarding = _Job(name="keep the guard process", interval_s=HOUSEKEEPING_S, callback=self._keep_guard)
        self._periodic = [
            self._guarding,
            _Job(name="rotate the logs", interval_s=HOUSEKEEPING_S, callback=self._rotate),
            _Job(name="look for silence", interval_s=BEAT_S, callback=self._look_for_silence),
        ]
        self._lengths: dict[Path, int] = {}
        """Of the logs when the disk became full; empty: it is not."""
        if reserve is not None:
            self.call_every("keep logs off the reserve", FULL_S, partial(self._cut_back, reserve))
        self._resting: dict[int, _Job] = {}
        """Descriptors paused because their callback failed at the last look."""
        self._guard: subprocess.Popen[bytes] | None = None
        self._guard_pipe = -1

    # --- lifetime of the supervisor itself

    def __enter__(self) -> Supervisor:
        self._start_guard()
        return self

    def __exit__(self, *exception: object) -> None:
        for child in self._children.values():
            if child.process is not None and child.process.poll() is None:
                child.process.kill_group()
        for child in self._children.values():
            while child.process is not None and child.process.poll() is None:
                self._selector.select(0.01)
        if self._guard is not None:
            os.close(self._guard_pipe)
            self._guard.wait()
        self._selector.close()
        os.close(self._wake_receive)
        os.close(self._wake_send)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Handle SIGTERM, SIGINT and SIGCHLD inside the block. Main thread only."""

        def stop(number: int, frame: FrameType | None) -> None:
            self._stop_requests += 1

        def ignore(number: int, frame: FrameType | None) -> None:
            """Only wakes the loop, through the wake-up descriptor."""

        before = {n: signal.signal(n, stop) for n in (signal.SIGTERM, signal.SIGINT)}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, ignore)
        old_fd = signal.set_wakeup_fd(self._wake_send, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(old_fd)
            for number, handler in before.items():
                signal.signal(number, handler)

    # --- requests of callers

    def add(self, spec: ChildSpec) -> None:
        """Start a child and keep it running.

        Raises:
            Conflict: a child of this name still exists.
            EngineFailed: no process can be created; the child is not registered.
        """
        known = self._children.get(spec.name)
        if known is not None and known.state not in ("stopped", "given-up"):
            raise Conflict(f"a child named {spec.name!r} is still {known.state}", hint="stop it first")
        child = _Child(spec=spec)
        try:
            self._start(child)
        except OSError as fault:
            raise EngineFailed(
                f"{spec.name} cannot be started: {fault}",
                hint=f"check {spec.argv[0]}, {spec.log}, and the process and file limits of this user",
            ) from fault
        self._children[spec.name] = child

    def stop(self, name: str) -> None:
        """Start to stop one child for good; `tick` continues. No-op for an ended or unknown child."""
        child = self._children.get(name)
        if child is not None:
            self._begin_stop(child)

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a running child; no-op for others."""
        child = self._children.get(name)
        if child is not None and child.process is not None and child.state == "running":
            child.process.send(number)

    def request_stop(self) -> None:
        """Do the same as the first SIGTERM."""
        self._stop_requests += 1

    @property
    def stop_requested(self) -> bool:
        return self._stop_requests > 0 or self._failure is not None

    def state(self, name: str) -> ChildState:
        """Return the state of a child; an unknown one is stopped."""
        child = self._children.get(name)
        return "stopped" if child is None else child.state

    def pid(self, name: str) -> int | None:
        """Return the process id of a running child."""
        child = self._children.get(name)
        return child.process.pid if child is not None and child.process is not None else None

    def restarts(self, name: str) -> int:
        """Return how often a child was restarted."""
        child = self._children.get(name)
        return child.restarts if child is not None else 0

    def exits(self, name: str) -> int:
        """Return how often in a row a child exited unexpectedly."""
        child = self._children.get(name)
        return child.exits if child is not None else 0

    def endings(self) -> dict[str, str]:
        """Return, in words, how each child that ended unexpectedly did so the last time."""
        return {name: ending(child.exit_code or 0) for name, child in self._children.items() if child.fell_s}

    def restarted(self, within_s: float) -> dict[str, int]:
        """Return how often each child ended unexpectedly within the last seconds; others are omitted."""
        since_s = self._clock.monotonic_s() - within_s
        counted = {name: sum(at >= since_s for at in child.fell_s) for name, child in self._children.items()}
        return {name: times for name, times in counted.items() if times}

    def names(self) -> tuple[str, ...]:
        return tuple(self._children)

    def watch(self, name: str, descriptor: int, callback: Callable[[], None]) -> None:
        """Call `callback` in `tick` whenever `descriptor` is readable. After a failure it pauses. `name` is for the
        log.
        """
        self._selector.register(descriptor, selectors.EVENT_READ, _Job(name=name, callback=callback))

    def unwatch(self, descriptor: int) -> None:
        """Undo `watch`."""
        if self._resting.pop(descriptor, None) is None:
            self._selector.unregister(descriptor)

    def call_every(
        self, name: str, interval_s: float, callback: Callable[[], float | None], *, at_news: bool = False
    ) -> None:
        """Call `callback` in the loop about every `interval_s`, from now until the end. It must be quick.

        If it returns a number, the next call is due in so many seconds. With `at_news` it is also called at once when a
        child was started or has ended, and at every `tell_news`. A failure is logged with its traceback, and it is
        called again after a pause. `name` is for the log.
        """
        self._periodic.append(_Job(name=name, interval_s=interval_s, callback=callback, at_news=at_news))

    def tell_news(self) -> None:
        """Trigger the callbacks that wait for news. Returns at once; thread-safe."""
        self._has_news = True
        with suppress(BlockingIOError):
            os.write(self._wake_send, b"\0")

    # --- the loop

    def tick(self, timeout_s: float) -> None:
        """Sleep until something happens, at most `timeout_s`, then look after the children.

        Callbacks may call it recursively, for example to wait for a child.
        """
        for key, _ in self._selector.select(self._sleep_s(timeout_s)):
            if self._selector.get_map().get(key.fd) is key:  # unless a nested turn has done so already
                self._call_watching(key)
        self._reap()
        now_s = self._clock.monotonic_s()
        for child in list(self._children.values()):
            if child.state == "waiting" and child.due_s <= now_s and not self.stop_requested:
                self._start_again(child)
            elif child.state == "stopping" and child.due_s <= now_s and child.process is not None:
                self._say(f"{child.spec.name} did not stop in time; killed")
                child.process.kill_group()
                child.due_s = now_s + HURRY_S
        for descriptor in [one for one, job in self._resting.items() if job.due_s <= now_s]:
            self._selector.register(descriptor, selectors.EVENT_READ, self._resting.pop(descriptor))
        has_news = self._has_news
        if has_news:  # set meanwhile by another thread: kept for the next turn
            self._has_news = False
        for job in list(self._periodic):
            if now_s >= job.due_s or (has_news and job.at_news and not job.failures):
                job.due_s = now_s + job.interval_s
                self._call(job)

    def _call_watching(self, key: selectors.SelectorKey) -> None:
        job: _Job = key.data
        self._call(job)
        if job.failures and self._selector.get_map().get(key.fd) is key:
            self._selector.unregister(key.fd)
            self._resting[key.fd] = job

    def _call(self, job: _Job) -> None:
        """Run a job once. After a failure it is due again after a pause, which doubles each time."""
        try:
            asked_s = job.callback()
        except Exception as fault:  # outermost loop: logged, and tried again
            job.failures += 1
            pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(job.failures - 1, 16))
            job.due_s = self._clock.monotonic_s() + pause_s
            text = f"{type(fault).__name__}: {fault}"
            if text != job.said:
                log.exception("%s failed", job.name)
                self._say(f"{job.name} failed: {text}; retrying in {pause_s:g} s, then less often")
            job.said = text
            return
        if job.failures:
            self._say(f"{job.name} works again, after {job.failures} failures")
        job.failures, job.said = 0, ""
        if asked_s is not None:
            job.due_s = self._clock.monotonic_s() + asked_s

    def _logs(self) -> set[Path]:
        return {child.spec.log for child in self._children.values()}

    def _rotate(self) -> None:
        fault: OSError | None = None
        for path in self._logs() if not self._lengths else ():
            try:
                rotate(path)
            except OSError as caught:  # the other logs grow, too
                fault = caught
        if fault is not None:
            raise fault

    def _cut_back(self, reserve: Reserve) -> None:
        """While the reserve is in use, cut logs back to what they had: strangers make them grow, and the room is for
        administration."""
        if not reserve.is_spent:
            self._lengths.clear()
            return
        for path in self._logs():
            with suppress(FileNotFoundError):
                size = path.stat().st_size
                self._lengths[path] = min(size, self._lengths.get(path, size))
                if size > self._lengths[path]:
                    os.truncate(path, self._lengths[path])

    def _look_for_silence(self) -> None:
        """Kill children that missed their promised beat; their end is handled like any other. SIGTERM would not reach a
        stopped process.

        Counts looks instead of time: after a pause of this process or machine, every child gets its full time to beat.
        """
        for child in self._children.values():
            if child.process is None or not child.patience_s:
                continue
            child.silent_s += 1
            if child.silent_s > child.patience_s:
                why = f"it hung: it did not respond for {child.patience_s} s, and the supervisor killed it"
                self._say(f"{child.spec.name}: {why}")
                if child.spec.why is not None:
                    with suppress(OSError):
                        child.spec.why.write_text(why, encoding="utf-8")
                child.process.kill_group()
                child.patience_s = 0

    def _hear(self, child: _Child, descriptor: int) -> None:
        beats = os.read(descriptor, 4096)
        if beats:
            child.patience_s, child.silent_s = beats[-1], 0
        else:
            self._selector.unregister(descriptor)  # the child has closed its end; it is not judged by that

    def run(self) -> None:
        """Run until a stop is requested, then stop all children in order.

        Raises:
            EngineFailed: an essential child was given up.
        """
        while not self.stop_requested:
            self.tick(HOUSEKEEPING_S)
        self.stop_all()
        if self._failure is not None:
            raise self._failure

    def stop_all(self) -> None:
        """Stop every child, stage by stage. Returns when all have ended; a second request hurries them."""
        patience = max(1, self._stop_requests)
        for stage in sorted({child.spec.stage for child in self._children.values()}):
            members = [child for child in self._children.values() if child.spec.stage == stage]
            for child in members:
                self._begin_stop(child)
            while any(child.state == "stopping" for child in members):
                if self._stop_requests > patience:
                    patience = self._stop_requests
                    self._hurry()
                self.tick(HOUSEKEEPING_S)

    def _hurry(self) -> None:
        now_s = self._clock.monotonic_s()
        for child in self._children.values():
            self._begin_stop(child)
            if child.state == "stopping" and child.process is not None:
                child.process.send(signal.SIGTERM)
                child.due_s = min(child.due_s, now_s + HURRY_S)

    def _sleep_s(self, timeout_s: float) -> float:
        now_s = self._clock.monotonic_s()
        due = [child.due_s for child in self._children.values() if child.state in ("waiting", "stopping")]
        due += [job.due_s for job in (*self._periodic, *self._resting.values())]
        return max(0.0, min([timeout_s, *(d - now_s for d in due)]))

    def _woken(self) -> None:
        with suppress(BlockingIOError):  # a turn inside of this one has read it
            os.read(self._wake_receive, 4096)

    def _start(self, child: _Child) -> None:
        if child.spec.why is not None:
            child.spec.why.unlink(missing_ok=True)
        child.process = Process.start(child.spec)
        self._tell_guard(f"+{child.process.pid}")
        pulse = child.process.pulse
        child.patience_s = child.silent_s = 0
        heard = _Job(name=f"hear {child.spec.name}", callback=lambda: self._hear(child, pulse))
        self._selector.register(pulse, selectors.EVENT_READ, heard)
        child.state, self._has_news = "running", True
        child.started_s = self._clock.monotonic_s()

    def _start_again(self, child: _Child) -> None:
        """Start a child whose wait is over. If no process can be created, that counts as a failure."""
        try:
            self._start(child)
        except OSError as fault:
            log.warning("%s cannot be started: %s", child.spec.name, fault)
            child.started_s = self._clock.monotonic_s()
            child.exit_code, self._has_news = NOT_STARTED, True
            self._fell(child, NOT_STARTED)

    def _begin_stop(self, child: _Child) -> None:
        if child.state == "waiting":
            child.state = "stopped"
        elif child.state == "running" and child.process is not None:
            child.state = "stopping"
            child.due_s = self._clock.monotonic_s() + child.spec.drain_s
            child.process.send(signal.SIGTERM)

    def _reap(self) -> None:
        for child in self._children.values():
            if child.process is None:
                continue
            pid, pulse, code = child.process.pid, child.process.pulse, child.process.poll()
            if code is None:
                continue
            self._tell_guard(f"-{pid}")
            with suppress(KeyError):  # its end may have been handled already
                self._selector.unregister(pulse)
            child.process, self._has_news = None, True
            child.exit_code = code
            if child.state == "stopping":
                child.state = "stopped"
            else:
                self._fell(child, code)

    def _fell(self, child: _Child, code: int) -> None:
        now_s = self._clock.monotonic_s()
        child.fell_s.append(now_s)
        verdict = decide(
            self._policy,
            exit_code=code,
            ran_s=now_s - child.started_s,
            failures=child.failures,
            exits=child.exits,
            chance=self._chance(),
        )
        if isinstance(verdict, GiveUp):
            child.state = "given-up"
            self._say(f"{child.spec.name} {ending(code)} and is not restarted: {verdict.why}")
            if child.spec.essential:
                self._failure = self.failure_of(child.spec.name)
            return
        child.state = "waiting"
        child.failures, child.exits = verdict.failures, verdict.exits
        child.restarts += 1
        child.due_s = now_s + verdict.wait_s
        self._say(f"{child.spec.name} {ending(code)}; restarting it in {verdict.wait_s:.1f} s")

    def failure_of(self, name: str) -> EngineFailed:
        """Return the error with the reason why a child was given up, and the end of its log."""
        child = self._children[name]
        said = tail(child.spec.log)
        return EngineFailed(
            f"{name} {ending(child.exit_code or 0)}; its log ends with:\n{said}" if said else f"{name} ended",
            hint=f"the full log is in {child.spec.log}",
        )

    # --- the guard

    def _start_guard(self) -> None:
        read_end, write_end = os.pipe()
        try:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__],
                stdin=read_end,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(read_end)
        if self._guard_pipe >= 0:
            os.close(self._guard_pipe)
        self._guard_pipe = write_end
        for child in self._children.values():
            if child.process is not None:
                self._tell_guard(f"+{child.process.pid}")

    def _keep_guard(self) -> None:
        if self._guard is not None and self._guard.poll() is not None:
            self._say("the guard process ended; restarting it")
            self._start_guard()

    def _tell_guard(self, line: str) -> None:
        if self._guard_pipe >= 0:
            try:
                os.write(self._guard_pipe, f"{line}\n".encode())
            except BrokenPipeError:
                self._guarding.due_s = 0.0  # it ended: the next turn restarts it, and sends it the list of children


def ending(code: int) -> str:
    """Return an exit code as text: `was killed by SIGKILL`, `ended with code 4`."""
    if code == NOT_STARTED:
        return "could not be started"
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
