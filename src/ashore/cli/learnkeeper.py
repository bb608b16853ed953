"""Entry point of the scheduled learning process: `python -m ashore.cli.learnkeeper --launch FILE`.

`ashore up` starts it where `[learning] at` or `at_examples` is set. It loads no model: each run is a job of the server,
with the rights of the account whose key `[learning] key_file` has. SIGHUP: read the launch file again.
"""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ashore.cli.calls import Server
from ashore.cli.keeperprocess import run_keeper
from ashore.core import Call, SystemClock, call_named
from ashore.errors import AshoreError, NotReady, SourceUnreachable
from ashore.processes import read_launch_file

if TYPE_CHECKING:
    from ashore.jobs.calls import JobIn
    from ashore.jobs.standing import JobOut
    from ashore.learning.keeper import Ended
    from ashore.state import Database

AGAIN_S: Final = 60.0
"""Until the next look after one that failed."""
LOOK_S: Final = 2.0
"""Between two looks at a job that is under way."""

log = logging.getLogger("ashore.learning")


def keep(path: Path, wait: Callable[[float], bool]) -> None:
    """Begin what is due until the process ends. A step that fails ends nothing.

    Args:
        path: The launch file.
        wait: Waits so many seconds at most; returns whether the launch file was written anew since it was last asked.
    """
    from ashore.bootstrap import open_state
    from ashore.learning.keeper import step
    from ashore.learning.launch import LearningLaunch
    from ashore.learning.teaching import LIBRARIES
    from ashore.settings import read_settings

    lacking = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if lacking:  # another node of this state may have the key: do not take its turn
        log.error("no run begins here: %s is not installed (the extra `train`)", ", ".join(lacking))
    database = open_state(read_settings())
    try:
        while True:
            learning = read_launch_file(path, LearningLaunch).learning
            do = partial(step, database, learning.when, SystemClock(), partial(run_now, database, learning.key_file))
            while not wait(AGAIN_S if lacking else _step(do)):
                pass
    finally:
        database.close()


def run_now(database: Database, key_file: str, model: str, *, look_s: float = LOOK_S) -> Ended:
    """Have the server of this home run `ashore learn run` of a model as a job, and return how it ended.

    Args:
        database: Where runs are kept.
        key_file: File with the API key of the account that asks for it.
        model: Alias.
        look_s: Between two looks at the job.
    """
    from ashore.jobs.calls import CALLS, JobIn
    from ashore.jobs.operations.asks import LearnIn
    from ashore.jobs.operations.calls import BY_NAME
    from ashore.learning.keeper import Ended
    from ashore.learning.runs import load_runs

    try:
        server = Server(key=Path(key_file).read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError) as fault:
        return Ended(failed=True, says=f"[learning] key_file {key_file} cannot be read: {fault}")
    show = call_named("show", CALLS)
    began_ms = int(time.time() * 1000)
    try:
        job: JobOut = server.ask(BY_NAME["learn run"], LearnIn(model=model))
        log.info("%s: ashore job show %s --follow", model, job.id)
        while job.finished is None:
            time.sleep(look_s)
            job = _seen(server, show, JobIn(job=job.id)) or job
    except AshoreError as fault:
        return Ended(failed=True, says=fault.in_one_line)
    with database.read() as connection:
        runs = load_runs(connection, model=model, limit=1)
    run = runs[0] if runs and runs[0].changed_ms >= began_ms else None
    if job.state == "succeeded" or (run is not None and run.state in ("refused", "stopped")):
        return Ended(failed=False, says=run.words if run is not None else f"{job.id} {job.state}")
    return Ended(failed=job.state != "cancelled", says=f"{job.id} {job.state}: {job.error_message or job.state}")


def _seen(server: Server, show: Call, asked: JobIn) -> JobOut | None:
    """Return a job, or None while the server does not answer: it is restarting or busy."""
    try:
        found: JobOut = server.ask(show, asked)
    except (SourceUnreachable, NotReady):
        return None
    return found


def _step(do: Callable[[], float]) -> float:
    try:
        return do()
    except AshoreError as fault:
        log.warning("cannot look what is due: %s; again in %g s", fault.message, AGAIN_S)
    except Exception:  # outermost loop: learning does not end for it
        log.exception("a look for what is due failed; again in %g s", AGAIN_S)
    return AGAIN_S


def main(words: Sequence[str] | None = None) -> int:
    """Run it. Returns the exit code."""
    return run_keeper("ashore.cli.learnkeeper", "Has models learn by themselves.", keep, words)


if __name__ == "__main__":
    raise SystemExit(main())
