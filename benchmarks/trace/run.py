"""One trace from start to end: load, blows, the end of the supervisor, the next start, and what became of the jobs."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import free_port
from benchmarks.trace.blows import freeze, shuffled, strike, strike_supervisor, weigh
from benchmarks.trace.clients import Crowd, Setting
from benchmarks.trace.jobs import Clerks, Hooks
from benchmarks.trace.model import Trace
from benchmarks.trace.platform import Platform
from benchmarks.trace.verdicts import Limits

WEIGH_EVERY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What a trace does."""

    models: tuple[str, ...]
    """The first answers, the last embeds."""
    rounds: int
    """In each, every process is killed once."""
    pause_s: tuple[float, float]
    """Between a process that is back and the next blow: from, to."""
    freeze_s: float
    """For which Valkey is stopped in each round."""
    each: int
    """Clients of each form."""
    think_s: float
    batch_lines: int
    burst: tuple[int, int]
    """Background responses, and lines of a batch, handed in right before the supervisor is killed."""
    max_tokens: int
    limits: Limits
    seed: int = 1


SHORT = Course(
    models=("fake:echo?tok_per_s=300",),
    rounds=1,
    pause_s=(0.3, 1.0),
    freeze_s=1.5,
    each=1,
    think_s=0.03,
    batch_lines=60,
    burst=(10, 40),
    max_tokens=200,
    limits=Limits(deadline_s=20, back_s=10, echo=True, jobs_done_s=180),
)
FAKE = Course(
    models=("fake:echo?tok_per_s=100",),
    rounds=3,
    pause_s=(2.0, 8.0),
    freeze_s=4.0,
    each=2,
    think_s=0.05,
    batch_lines=400,
    burst=(60, 300),
    max_tokens=200,
    limits=Limits(deadline_s=30, back_s=10, echo=True, jobs_done_s=180),
)
REAL = Course(
    models=("smollm2", "minilm"),
    rounds=2,
    pause_s=(3.0, 8.0),
    freeze_s=4.0,
    each=1,
    think_s=0.2,
    batch_lines=300,
    burst=(20, 40),
    max_tokens=24,
    limits=Limits(deadline_s=90, back_s=30, tokens=24, jobs_done_s=420),
)


def run(course: Course, home: Path, *, store: Path | None = None, say: Callable[[str], None]) -> tuple[Trace, Platform]:
    """Run a course in a new home, and return what was seen.

    Args:
        course: What to do.
        home: Made here; nothing else uses it.
        store: Folder with the models, where they are already on this machine.
        say: Told what happens.
    """
    hooks = Hooks()
    home.mkdir(parents=True)
    if store is not None:
        (home / "store").symlink_to(store)
    platform = Platform(
        home,
        course.models,
        port=free_port(),
        config=f'[egress]\nallow = ["127.0.0.1:{hooks.port}"]\n',
        offline=store is not None or course.limits.echo,
    )
    trace = Trace()
    began = time.monotonic()
    try:
        trace.started_s = round(platform.start(), 2)
        say(f"ready after {trace.started_s:.1f} s")
        setting = _setting(course, platform, began)
        crowd = Crowd(setting, each=course.each)
        clerks = Clerks(setting, hooks, course.batch_lines, every_s=max(0.3, course.think_s * 4))
        scales = _Scales(platform, trace, setting.now_s)
        crowd.start()
        clerks.start()
        scales.start()
        _blows(course, platform, trace, setting, say)
        say("handing in a burst of jobs, and killing the supervisor")
        clerks.burst(*course.burst)
        strike_supervisor(platform, trace, setting.now_s)
        say(f"nothing left of it after {trace.orphans_gone_s:.2f} s; ready again after {trace.restarted_s:.1f} s")
        time.sleep(course.pause_s[1])
        clerks.stop()
        trace.unanswered = crowd.stop() + clerks.refused
        clerks.settle(course.limits.jobs_done_s)
        scales.stop()
        trace.asks, trace.jobs = crowd.asks, clerks.accepted
        time.sleep(1.0)  # the last webhook may come after its job
        trace.webhooks = hooks.events
        trace.stopped_code = platform.stop()
        trace.left_over = [f"{pid} {command[:100]}" for pid, command in platform.processes().items()]
        trace.stored_jobs = _stored(home / "state.db")
    finally:
        platform.stop()
        hooks.close()
    trace.seconds = round(time.monotonic() - began, 1)
    return trace, platform


def _setting(course: Course, platform: Platform, began_s: float) -> Setting:
    missing = {course.models[0], course.models[-1]} - set(platform.models())
    if missing:
        raise RuntimeError(f"the server does not offer {sorted(missing)}, but {platform.models()}")
    return Setting(
        url=platform.url,
        host=platform.url.removeprefix("https://"),
        authority=str(platform.authority),
        key=platform.key,
        chat=course.models[0],
        embedder=course.models[-1],
        deadline_s=course.limits.deadline_s,
        max_tokens=course.max_tokens,
        exact_tokens=not course.limits.echo,
        think_s=course.think_s,
        began_s=began_s,
    )


def _blows(course: Course, platform: Platform, trace: Trace, setting: Setting, say: Callable[[str], None]) -> None:
    draw = random.Random(course.seed)
    time.sleep(course.pause_s[1] + 1.0)
    for number in range(course.rounds):
        order: Sequence[str] = [*shuffled(platform, draw), "freeze"]
        for role in order:
            time.sleep(draw.uniform(*course.pause_s))
            if role == "freeze":
                blow = freeze(platform, "valkey", course.freeze_s, setting.now_s)
            else:
                blow = strike(platform, role, setting.now_s, setting.chat)
            trace.blows.append(blow)
            say(f"round {number + 1}: {blow.role}, {blow.what} at {blow.at_s:.1f} s: back after {blow.back_s:.1f} s")


class _Scales:
    """Weighs every process once a second."""

    def __init__(self, platform: Platform, trace: Trace, now_s: Callable[[], float]) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(platform, trace, now_s), name="scales", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self, platform: Platform, trace: Trace, now_s: Callable[[], float]) -> None:
        while not self._stop.wait(WEIGH_EVERY_S):
            weigh(platform, trace, now_s)


def _stored(database: Path) -> dict[str, int]:
    """Return the rows of the job table by idempotency key."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT kind || ' ' || idempotency_key FROM job WHERE idempotency_key <> ''"
        ).fetchall()
    return dict(Counter(str(key) for (key,) in rows))
