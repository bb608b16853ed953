"""What a drill broke is whole again when it ends, however it ends: also when it is killed."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import eventually

from ashore.control.drills import watcher
from ashore.control.drills.book import Book
from ashore.control.drills.undoing import Undoing
from ashore.core.errors import Conflict, EnvironmentFault

SLEEPS = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]
DRILL = """
import os, sys, time
from pathlib import Path
from ashore.control.drills.undoing import Undoing
journal, pid, fill, kept = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
with Undoing(journal, 120) as undoing:
    undoing.process("continue", pid)
    os.kill(pid, 19)
    undoing.before("delete", path=str(fill))
    fill.write_bytes(b"x" * 1000)
    undoing.before("write", path=str(kept), value=kept.read_text())
    kept.write_text("broken")
    print("broken", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    one = subprocess.Popen(SLEEPS)
    yield one
    one.kill()
    one.wait()


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_drill_that_is_killed_leaves_nothing_broken(
    how: signal.Signals, tmp_path: Path, victim: subprocess.Popen[bytes]
) -> None:
    journal, fill, kept = tmp_path / "drills" / "undo.jsonl", tmp_path / "fill", tmp_path / "ashore.toml"
    kept.write_text("as it was")
    words = [sys.executable, "-c", DRILL, str(journal), str(victim.pid), str(fill), str(kept)]
    drill = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert drill.stdout is not None
    try:
        assert drill.stdout.readline().strip() == b"broken"
        eventually(lambda: state_of(victim.pid) == "T")
        assert fill.exists() and kept.read_text() == "broken"
        drill.send_signal(how)
        killed_s = time.monotonic()
        eventually(lambda: state_of(victim.pid) != "T" and not fill.exists() and kept.read_text() == "as it was")
        eventually(lambda: not journal.exists())
        assert time.monotonic() - killed_s < 20, "it is promised within two seconds of an idle machine"
    finally:
        drill.kill()
        drill.wait()
        drill.stdout.close()


def test_what_is_undone_early_stays_undone_and_the_block_ends_clean(
    tmp_path: Path, victim: subprocess.Popen[bytes]
) -> None:
    journal = tmp_path / "undo.jsonl"
    with Undoing(journal, 60) as undoing:
        undoing.process("continue", victim.pid)
        os.kill(victim.pid, signal.SIGSTOP)
        eventually(lambda: state_of(victim.pid) == "T")
        assert undoing.heal() == ()
        eventually(lambda: state_of(victim.pid) == "S")
        before = resource.prlimit(victim.pid, resource.RLIMIT_NOFILE)
        undoing.process("files-limit", victim.pid, value=list(before))
        resource.prlimit(victim.pid, resource.RLIMIT_NOFILE, (64, before[1]))
    assert resource.prlimit(victim.pid, resource.RLIMIT_NOFILE) == before
    assert not journal.exists()


def test_time_that_is_over_heals_while_the_drill_still_runs(tmp_path: Path, victim: subprocess.Popen[bytes]) -> None:
    with Undoing(tmp_path / "undo.jsonl", 0.2) as undoing:
        undoing.process("continue", victim.pid)
        os.kill(victim.pid, signal.SIGSTOP)
        eventually(lambda: state_of(victim.pid) == "S")


def test_a_process_that_has_the_number_of_another_is_not_touched(victim: subprocess.Popen[bytes]) -> None:
    watcher.undo({"kind": "end", "pid": victim.pid, "start": "1"})
    assert victim.poll() is None
    watcher.undo({"kind": "end", "pid": victim.pid, "start": watcher.start_of(victim.pid)})
    assert victim.wait() == -signal.SIGKILL
    watcher.undo({"kind": "continue", "pid": victim.pid, "start": watcher.start_of(victim.pid)})


def test_every_step_may_be_undone_twice_and_what_cannot_be_is_told(tmp_path: Path) -> None:
    file, moved = tmp_path / "shard", tmp_path / "shard.away"
    file.write_bytes(b"abc")
    journal = tmp_path / "undo.jsonl"
    journal.write_text(
        f'{{"kind":"bytes","path":"{file}","at":1,"value":"58"}}\n{{"kind":"move","path":"{moved}","to":"{file}"}}\n{{"cut'
    )
    for _ in range(2):
        assert watcher.heal(journal) == []
        assert file.read_bytes() == b"aXc"
        journal.write_text(f'{{"kind":"bytes","path":"{file}","at":1,"value":"58"}}\n')
    journal.write_text(f'{{"kind":"write","path":"{tmp_path}","value":""}}\n')
    assert watcher.heal(journal) and journal.exists()
    with pytest.raises(EnvironmentFault, match="an earlier drill"), Undoing(journal, 5):
        pass


def test_a_journal_that_another_user_wrote_is_not_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drill that runs as root would otherwise write what the owner of the home likes, where they like."""
    journal, victim = tmp_path / "undo.jsonl", tmp_path / "shadow"
    victim.write_text("root")
    journal.write_text(json.dumps({"kind": "write", "path": str(victim), "value": "mine"}) + "\n")
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(EnvironmentFault, match="another user"), Undoing(journal, 60):
        pass
    journal.rename(tmp_path / "elsewhere")
    journal.symlink_to(tmp_path / "elsewhere")
    monkeypatch.undo()
    with pytest.raises(EnvironmentFault, match="cannot be undone"), Undoing(journal, 60):
        pass
    assert victim.read_text() == "root"


HELD = """
import os, sys, time
from pathlib import Path
from ashore.control.drills.book import Book
from ashore.control.drills.undoing import Undoing
book = Book(Path(sys.argv[1]))
with book.running("host-killed") as place, Undoing(book.journal, 120, place=place) as undoing:
    undoing.before("delete", path=sys.argv[2])
    Path(sys.argv[2]).touch()
    print(undoing.pid, flush=True)
    time.sleep(600)
"""


def test_no_drill_begins_while_what_a_killed_one_broke_is_being_undone(tmp_path: Path) -> None:
    """The watcher of the first would delete the journal of the second, which then could not be undone."""
    book, fill = Book(tmp_path), tmp_path / "fill"
    words = [sys.executable, "-c", HELD, str(tmp_path), str(fill)]
    drill = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert drill.stdout is not None
    slow = int(drill.stdout.readline())
    os.kill(slow, signal.SIGSTOP)
    try:
        assert book.now_running() == ("host-killed", drill.pid)
        drill.kill()
        drill.wait()
        assert book.now_running() is None
        with pytest.raises(Conflict, match="is being undone"), book.running("host-hung"):
            pass
        assert fill.exists()
    finally:
        os.kill(slow, signal.SIGCONT)
        drill.stdout.close()
    eventually(lambda: not fill.exists() and not book.journal.exists())

    def begins() -> bool:
        with contextlib.suppress(Conflict), book.running("host-hung"):
            return True
        return False

    eventually(begins)


def test_a_process_with_the_number_of_a_killed_drill_is_no_drill(tmp_path: Path) -> None:
    book = Book(tmp_path)
    with book.running("host-killed"):
        assert book.now_running() == ("host-killed", os.getpid())
        file = book.folder / "running.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "start": "1"}))
        assert book.now_running() is None


def test_the_place_of_a_drill_is_no_link(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("of somebody else")
    book = Book(tmp_path / "home")
    book.folder.mkdir(parents=True)
    (book.folder / "running.json").symlink_to(kept)
    with pytest.raises(OSError, match="symbolic links"), book.running("host-killed"):
        pass
    assert kept.read_text() == "of somebody else"


def test_a_line_of_a_journal_that_is_none_keeps_no_other_from_being_undone(tmp_path: Path) -> None:
    journal, fill = tmp_path / "undo.jsonl", tmp_path / "fill"
    fill.touch()
    deep = "[" * 100_000
    journal.write_text(f'{{"kind":"delete","path":"{fill}"}}\n5\n{deep}\n{{"kind":"continue","pid":"x","start":""}}\n')
    watcher.heal(journal)
    assert not fill.exists()


STARTS = """
import os, sys
from pathlib import Path
from ashore.control.drills.undoing import Undoing

class Killed(Undoing):
    def process(self, *words, **fields):
        print("started", flush=True)
        os.kill(os.getpid(), 9)

with Killed(Path(sys.argv[1]), 120) as undoing:
    undoing.start("end", [sys.executable, "-c", "import sys; open(sys.argv[1], 'w')", sys.argv[2]])
"""


def test_a_program_is_held_until_its_end_is_written_down(tmp_path: Path) -> None:
    """A drill that is killed between the start of a program and the line about it leaves no program."""
    mark = tmp_path / "ran"
    words = [sys.executable, "-c", STARTS, str(tmp_path / "undo.jsonl"), str(mark)]
    killed = subprocess.run(words, stdout=subprocess.PIPE, check=False)
    assert killed.returncode == -signal.SIGKILL and killed.stdout == b"started\n"
    needle = str(mark).encode()

    def left() -> list[str]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                found += [entry.name] * (needle in (entry / "cmdline").read_bytes() and entry.name != str(os.getpid()))
        return found

    eventually(lambda: not left())
    assert not mark.exists()


def test_a_program_goes_on_once_its_end_is_written_down(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    with Undoing(tmp_path / "undo.jsonl", 120) as undoing:
        one = undoing.start(
            "end", [sys.executable, "-c", "import sys, time; open(sys.argv[1], 'w'); time.sleep(600)", str(mark)]
        )
        eventually(mark.exists)
    assert one.wait() == -signal.SIGKILL
