"""Entry point of the process that has models learn by themselves: `python -m ashore.cli.learnkeeper --launch FILE`.

`ashore up` starts it where `[learning] at` or `at_examples` is set. It loads no model: each run is a process of its
own, `ashore learn run`, which ends with this one and goes on at its checkpoint. SIGHUP: the launch file was written
anew.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ashore.cli.keeperprocess import run_keeper
from ashore.core import SystemClock
from ashore.errors import AshoreError
from ashore.processes import child_environment, read_launch_file, tied

if TYPE_CHECKING:
    from ashore.learning.keeper import Ended
    from ashore.learning.launch import LearningLaunch

AGAIN_S: Final = 60.0
"""Until the next look after one that failed."""

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
    from ashore.settings import Home, Settings

    lacking = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if lacking:  # another node of this state may have them: this one takes no turn away
        log.error("no run begins here: %s is not installed (the extra `train`)", ", ".join(lacking))
    while True:
        launch = read_launch_file(path, LearningLaunch)
        settings = Settings(
            home=Home(root=Path(launch.home)), state_url=launch.state_url, sealing_key=launch.sealing_key
        )
        database = open_state(settings)
        try:
            do = partial(step, database, launch.learning.when, SystemClock(), partial(run_now, launch))
            while not wait(AGAIN_S if lacking else _step(do)):
                pass
        finally:
            database.close()


def run_now(launch: LearningLaunch, model: str) -> Ended:
    """Run `ashore learn run` of a model in a process of its own, and return how it ended."""
    from ashore.learning.keeper import Ended

    key = {}
    if launch.learning.key_file:
        try:
            key = {"ASHORE_API_KEY": Path(launch.learning.key_file).read_text(encoding="utf-8").strip()}
        except OSError as fault:
            return Ended(failed=True, says=f"[learning] key_file cannot be read: {fault.strerror}")
    told = {"ASHORE_HOME": launch.home, "ASHORE_STATE_URL": launch.state_url, "ASHORE_SEALING_KEY": launch.sealing_key}
    done = subprocess.run(
        tied([sys.executable, "-m", "ashore.cli.main", "learn", "run", model, "--json"]),
        env=child_environment(extra={**{name: value for name, value in told.items() if value}, **key}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    sys.stderr.write(done.stderr)
    try:
        found = json.loads(done.stdout)
        return Ended(
            failed=False, says=f"{found['run']}: {found['state']}" + (f" ({found['why']})" if found["why"] else "")
        )
    except (ValueError, KeyError):
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        return Ended(failed=True, says=lines[-1] if lines else f"the run ended with {done.returncode}")


def _step(do: Callable[[], float]) -> float:
    try:
        return do()
    except AshoreError as fault:
        log.warning("cannot look what is due: %s; again in %g s", fault.message, AGAIN_S)
    except Exception:  # the outermost loop: learning does not end for it
        log.exception("a look for what is due failed; again in %g s", AGAIN_S)
    return AGAIN_S


def main(words: Sequence[str] | None = None) -> int:
    """Run it. Returns the exit code."""
    return run_keeper("ashore.cli.learnkeeper", "Has models learn by themselves.", keep, words)


if __name__ == "__main__":
    raise SystemExit(main())
