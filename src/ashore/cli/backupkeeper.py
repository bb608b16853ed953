"""Entry point of the scheduled backup process: `python -m ashore.cli.backupkeeper --launch FILE`.

`ashore up` starts it where `[backup] every_s` is set. It runs at the lowest CPU and disk priority. SIGHUP: read the
launch file again. SIGTERM ends it at once; an interrupted backup does not count, and the next one reuses what it wrote.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ashore.cli.keeperprocess import run_keeper
from ashore.core import SystemClock
from ashore.processes import read_launch_file
from ashore.settings import Home, Settings

if TYPE_CHECKING:
    from ashore.backup import BackupLaunch, BackupService, HomeContents, Keeper

AGAIN_S: Final = 60.0
"""Until the next step after one that failed in a way that nobody foresaw."""

log = logging.getLogger("ashore.backup")


@dataclass(frozen=True, slots=True)
class _HomeWork:
    """Implements `backup.Work` for the home of a launch."""

    launch: BackupLaunch

    @contextmanager
    def service(self) -> Iterator[BackupService]:
        from ashore.bootstrap import command_recorder, open_backup

        with command_recorder(self.settings.home) as recorder:
            yield open_backup(self.settings.home, recorder, actor="system")

    def contents(self) -> HomeContents:
        from ashore.bootstrap import backup_contents

        config = Path(self.launch.config) if self.launch.config else None
        return backup_contents(self.settings, config=config, without_state=self.launch.backup.without_state)

    @property
    def settings(self) -> Settings:
        launch = self.launch
        return Settings(home=Home(root=Path(launch.home)), state_url=launch.state_url, sealing_key=launch.sealing_key)


def keep(path: Path, wait: Callable[[float], bool]) -> None:
    """Keep the backup of a home until the process ends. A step that fails ends nothing: what is due is tried again.

    Args:
        path: The launch file.
        wait: Waits so many seconds at most; returns whether the launch file was written anew since it was last asked.
    """
    from ashore.backup import BackupHome, BackupLaunch, Keeper

    home, clock = BackupHome(Path(read_launch_file(path, BackupLaunch).home)), SystemClock()
    with home.kept():
        while True:
            launch = read_launch_file(path, BackupLaunch)
            keeper = Keeper(home, _HomeWork(launch), clock)
            log.info("a backup every %g s, a scrub every %g s", launch.backup.every_s, launch.backup.scrub_every_s)
            while not wait(_step(keeper, launch)):
                pass


def _step(keeper: Keeper, launch: BackupLaunch) -> float:
    """Do one step; return the seconds until the next one."""
    try:
        return keeper.step(launch.backup)
    except Exception:  # outermost loop: neither a full disk nor a damaged file ends the process
        log.exception("a backup step failed; trying again in %g s", AGAIN_S)
        return AGAIN_S


def main(words: Sequence[str] | None = None) -> int:
    """Run it. Returns the exit code."""
    return run_keeper("ashore.cli.backupkeeper", "Keeps the backup of one home.", keep, words)


if __name__ == "__main__":
    raise SystemExit(main())
