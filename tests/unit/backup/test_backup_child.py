"""What the supervisor tells the process that backs a home up by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ashore.backup import BackupHome, BackupLaunch, BackupSection
from ashore.cli.backupkeeper import AGAIN_S, keep
from ashore.config import Listening
from ashore.deployment.children import backup_child
from ashore.errors import InvalidSpec
from ashore.processes import read_launch_file
from ashore.settings import Home, Settings


def listening(backup: BackupSection) -> Listening:
    return Listening(backup=backup)


def test_it_gets_the_schedule_and_the_logins_of_buckets_and_of_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "who")
    monkeypatch.setenv("HF_TOKEN", "secret")
    home = Home(root=tmp_path)
    home.create()
    spec = BackupSection(every_s=60, scrub_every_s=600, scrub_bytes_per_s=5000, keep=3, models=("smollm2",))
    settings = Settings(home=home, state_url="sqlite:///x.db")
    child = backup_child(listening=listening(spec), home=home, settings=settings, config="/etc/ashore.toml")
    assert child.env["AWS_ACCESS_KEY_ID"] == "who" and all(name.startswith("AWS_") for name in child.env)
    assert not child.essential
    path = Path(child.argv[child.argv.index("--launch") + 1])
    assert path.stat().st_mode & 0o777 == 0o600
    launch = read_launch_file(path, BackupLaunch)
    assert (launch.backup.every_s, launch.backup.keep, launch.backup.models) == (60, 3, ("smollm2",))
    assert (launch.config, launch.state_url, launch.home) == ("/etc/ashore.toml", "sqlite:///x.db", str(tmp_path))


def test_a_schedule_that_is_written_anew_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = Home(root=tmp_path)
    home.create()

    def write(every_s: int) -> Path:
        child = backup_child(
            listening=listening(BackupSection(every_s=every_s)), home=home, settings=Settings(home=home, state_url="")
        )
        return Path(child.argv[child.argv.index("--launch") + 1])

    class Over(Exception):
        """The keeper waits for news a second time."""

    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        if len(waits) == 2:
            raise Over
        write(7200)
        return True

    with caplog.at_level("INFO", logger="ashore.backup"), pytest.raises(Over):
        keep(write(3600), wait)
    assert [one.getMessage() for one in caplog.records if "a backup every" in one.getMessage()] == [
        "a backup every 3600 s, a scrub every 604800 s",
        "a backup every 7200 s, a scrub every 604800 s",
    ]


def test_a_step_that_fails_ends_no_backups(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = Home(root=tmp_path)
    home.create()
    child = backup_child(
        listening=listening(BackupSection(every_s=3600)), home=home, settings=Settings(home=home, state_url="")
    )
    timetable = BackupHome(tmp_path).folder / "schedule.json"
    timetable.mkdir(parents=True)  # it can be neither read nor written
    waits: list[float] = []

    class Over(Exception):
        """The keeper waits a third time."""

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        if len(waits) == 2:
            timetable.rmdir()
        if len(waits) == 3:
            raise Over
        return False

    with pytest.raises(Over):
        keep(Path(child.argv[child.argv.index("--launch") + 1]), wait)
    assert waits == [AGAIN_S, AGAIN_S, 60.0] and "this home has no backup yet" in caplog.text
    assert caplog.text.count("a backup step failed") == 2


def test_a_hangup_is_waited_for_and_none_that_came_before_is_lost() -> None:
    script = (
        "import os, signal, threading, time\n"
        "from ashore.processes import hold_hangups, wait_for_hangup\n"
        "hold_hangups()\n"
        "hang_up = lambda: os.kill(os.getpid(), signal.SIGHUP)\n"
        "hang_up()\n"
        "print(wait_for_hangup(60), wait_for_hangup(0), wait_for_hangup(-1))\n"
        "threading.Timer(0.1, hang_up).start()\n"
        "print(wait_for_hangup(60))\n"
        "for _ in range(1000):\n"
        "    hang_up()\n"
        "    assert wait_for_hangup(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == ["True", "False", "False", "True"]


def test_a_launch_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "backup.json").write_text("{}")
    with pytest.raises(InvalidSpec, match=r"backup\.json cannot be read"):
        read_launch_file(tmp_path / "backup.json", BackupLaunch)


@pytest.mark.skipif(sys.platform != "linux", reason="the classes are Linux's")
def test_an_idle_process_and_its_threads_come_last() -> None:
    script = (
        "import os, threading\n"
        "from ashore.processes import become_idle\n"
        "become_idle()\n"
        "seen = []\n"
        "thread = threading.Thread(target=lambda: seen.append(os.sched_getscheduler(0)))\n"
        "thread.start()\n"
        "thread.join()\n"
        "print(os.sched_getscheduler(0), *seen)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(os.SCHED_IDLE)] * 2
