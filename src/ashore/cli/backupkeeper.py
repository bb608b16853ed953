"""Entry point of the process that backs a home up by itself: `python -m ashore.cli.backupkeeper --launch FILE`.

`ashore up` starts it where `[backup] every_s` is set. It works with what the others leave of processors and disk.
SIGHUP: the launch file was written anew. SIGTERM ends it at once; a backup that is cut off counts for nothing, and the
next one uses what it wrote.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn

from ashore.core import SystemClock
from ashore.errors import AshoreError
from ashore.processes import beat_in_thread, become_idle, hold_hangups, take_pulse, wait_for_hangup
from ashore.settings import Home, Settings

if TYPE_CHECKING:
    from ashore.backup import BackupLaunch, BackupService, HomeContents, Keeper

AGAIN_S: Final = 60.0
"""Until the next step after one that failed in a way that nobody foresaw."""

log = logging.getLogger("ashore.backup")

PATIENCE_S: Final = 60
"""Silence of a process that does not hang; since it works with what the others leave, it promises less."""


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
    from ashore.backup import BackupHome, Keeper, read_backup_launch

    home, clock = BackupHome(Path(read_backup_launch(path).home)), SystemClock()
    with home.kept():
        while True:
            launch = read_backup_launch(path)
            keeper = Keeper(home, _HomeWork(launch), clock)
            log.info("a backup every %g s, a scrub every %g s", launch.backup.every_s, launch.backup.scrub_every_s)
            while not wait(_step(keeper, launch)):
                pass


def _step(keeper: Keeper, launch: BackupLaunch) -> float:
    """Do one step; return the seconds until the next one."""
    try:
        return keeper.step(launch.backup)
    except Exception:  # the outermost loop: a full disk, a damaged file of ours; backups do not end for it
        log.exception("a backup step failed; trying again in %g s", AGAIN_S)
        return AGAIN_S


def main(words: Sequence[str] | None = None) -> int:
    """Run it. Returns the exit code; errors of ours go to stderr in one line each."""
    parser = argparse.ArgumentParser(prog="ashore.cli.backupkeeper", description="Keeps the backup of one home.")
    parser.add_argument("--launch", type=Path, required=True, help="file that the supervisor wrote")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    given = parser.parse_args(words)
    logging.basicConfig(
        level=given.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    hold_hangups()
    become_idle()
    beat_in_thread(take_pulse(), lambda: PATIENCE_S)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    try:
        keep(given.launch, wait_for_hangup)
    except AshoreError as fault:
        sys.stderr.write(f"{fault.code}: {fault.message}\n" + (f"  {fault.hint}\n" if fault.hint else ""))
        return fault.exit_code
    return 0


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


if __name__ == "__main__":
    raise SystemExit(main())
