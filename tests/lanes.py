"""Run the suite in lanes side by side: half of it waits for servers to start, the other half computes.

    python tests/lanes.py [PYTEST OPTION ...]

A lane is one pytest. It takes the next file of the suite when it has ended one; what all of its files share, such as a
database server, it starts once. Its output is printed when it has ended. What failed beside the other lanes runs once
more, alone: a test that passes there has met a busy machine, and is named as one that did. A lane that was killed is
named with the test it was at. The last line adds all up; the exit status is 0 only if every test passed.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
LANES = 4
"""Two more than processors of the smallest machine: half of them wait."""
LEFT_OUT = ("test_architecture.py",)
"""`make check` runs them."""
FAILED, NOTHING_CHOSEN = 1, 5
"""Exit statuses of a pytest that ran all of its tests, and of one whose options leave none."""
FEW = 12
"""Most tests that run once more: of more than these the change is to blame, not the machine."""
CLOSING = re.compile(r"^(=+ )?(\d+ \w+(, )?)+ in [0-9.]+s")
COUNT = re.compile(r"(\d+) (passed|failed|skipped|error)")
TAKE = "--take-files-of"
ENVIRON = {"OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
"""Of every lane: threads that wait for each other while they multiply matrices spin, and no processor is to spare."""


def files() -> list[Path]:
    """Return the files of the suite in the order in which they are taken: the large ones of each folder first, and the
    folders mixed all the way, so that what waits is beside what computes and short files are left for the end."""
    folders = defaultdict(list)
    for file in TESTS.rglob("test_*.py"):
        if file.name not in LEFT_OUT:
            folders[file.relative_to(TESTS).parts[0]].append(file)
    placed = []
    for folder, found in folders.items():
        found.sort(key=lambda file: (-file.stat().st_size, file))
        placed += [((number + 0.5) / len(found), folder, file) for number, file in enumerate(found)]
    return [file for _, _, file in sorted(placed)]


class Queue:
    """Files that no lane has taken yet, in a file that all lanes read and shorten."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fill(self, found: list[Path]) -> None:
        self._path.write_text("".join(f"{file}\n" for file in found))

    def take(self) -> str | None:
        """Return the next file; None: there is none."""
        with open(self._path, "r+") as kept:
            fcntl.flock(kept, fcntl.LOCK_EX)
            first, *rest = kept.readlines() or [""]
            kept.seek(0)
            kept.truncate()
            kept.writelines(rest)
        return first.rstrip("\n") or None


class Lane:
    """Has a pytest run what it takes of a queue, one file after the other."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._at: Path | None = None
        self._files: dict[str, pytest.File] = {}
        self._takes = False
        self._items: deque[pytest.Item] = deque()
        self._collected = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> pytest.CollectReport | None:
        """Find folders and files at first; what is in a file is collected when it is taken."""
        if self._takes or not isinstance(collector, pytest.File):
            return None
        self._files[str(collector.path)] = collector
        return pytest.CollectReport(collector.nodeid, "passed", None, [])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Keep which test it is at, for the case that something kills it."""
        if self._at is not None:
            self._at.write_text(nodeid)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._takes = True
        self._at = Path(str(session.config.getini("cache_dir"))).with_suffix(".at")
        item = self._next(session)
        while item is not None:
            following = self._next(session)  # tells what of the set-up stays
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
            item = following
        session.testscollected = self._collected
        return True

    def _next(self, session: pytest.Session) -> pytest.Item | None:
        while not self._items and (file := self._queue.take()) is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # as pytest has them, by pyproject.toml, while it collects
                items = list(session.genitems(self._files[file]))
            session.config.hook.pytest_collection_modifyitems(session=session, config=session.config, items=items)
            self._items.extend(items)
            self._collected += len(items)
        return self._items.popleft() if self._items else None


@dataclass(frozen=True, slots=True)
class Run:
    """One pytest, with a folder where it keeps which of its tests failed."""

    name: str
    command: list[str]
    kept: Path

    def was_at(self) -> str:
        """Return the test that it began last; empty: none."""
        begun = self.kept.with_suffix(".at")
        return begun.read_text() if begun.exists() else ""

    def failed(self) -> list[str]:
        """Return the tests that failed."""
        found = self.kept / "v" / "cache" / "lastfailed"
        return list(json.loads(found.read_text())) if found.exists() else []

    def run(self, options: list[str]) -> Counter[str]:
        """Run it, print what it said, and return its counts; one that did not pass counts as `bad`."""
        began_s = time.monotonic()
        command = [*self.command, "-o", f"cache_dir={self.kept}", "-o", "console_output_style=classic", *options]
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=os.environ | ENVIRON,
        )
        closing = [line for line in done.stdout.splitlines() if CLOSING.match(line)]
        counts = Counter({what: int(number) for number, what in COUNT.findall(closing[-1])} if closing else {})
        good = bool(done.returncode == 0 and counts["passed"]) or done.returncode == NOTHING_CHOSEN
        told = "" if good else f": pytest ended with {done.returncode}"
        if not good and done.returncode != FAILED:
            told += f" at {self.was_at() or 'no test yet'}"
            self.kept.with_suffix(".cut").write_text(f"{self.name}{told}; it printed last: {done.stdout[-600:]!r}")
        print(f"{done.stdout}--- {self.name}, {time.monotonic() - began_s:.0f} s{told}\n", flush=True)
        return counts + Counter(bad=not good, cut_short=not good and done.returncode != FAILED)


def main(options: list[str]) -> int:
    """Run the suite and return the exit status."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background a shell has it ignored; tests send it
    with tempfile.TemporaryDirectory(prefix="lanes.") as folder:
        queue = Queue(Path(folder) / "queue")
        queue.fill(files())
        take = [sys.executable, __file__, TAKE, f"{folder}/queue"]
        lanes = [Run(f"lane {n + 1} of {LANES}", take, Path(folder) / f"lane-{n + 1}") for n in range(LANES)]
        total = side_by_side(lanes, queue, options)
        failed = sorted({test for lane in lanes for test in lane.failed()})
        if failed and not total["cut_short"] and len(failed) <= FEW:
            again = Run("what failed, alone", [sys.executable, "-m", "pytest", *failed], Path(folder) / "again")
            counts = again.run([])
            passed = [] if counts["cut_short"] else sorted({*failed} - {*again.failed()})
            total.update(passed=len(passed), failed=-len(passed))
            total["bad"] = counts["bad"]
            for test in passed:
                print(f"failed beside other work, passed alone: {test}")
        for cut in sorted(Path(folder).glob("*.cut")):
            print(cut.read_text())
    print(f"{total['passed']} passed, {total['failed'] + total['error']} failed, {total['skipped']} skipped")
    return 1 if total["bad"] or not total["passed"] else 0


def side_by_side(lanes: list[Run], queue: Queue, options: list[str]) -> Counter[str]:
    """Run the lanes, and return the sum of their counts."""
    ended: list[Counter[str]] = []
    threads = [threading.Thread(target=lambda lane=lane: ended.append(lane.run(options))) for lane in lanes]
    for one in threads:
        one.start()
    try:
        for one in threads:
            one.join()
    except KeyboardInterrupt:  # the lanes hear of it themselves
        queue.fill([])
        raise
    return sum(ended, Counter())


if __name__ == "__main__":
    if sys.argv[1:2] == [TAKE]:
        os.chdir(TESTS.parent)
        raise SystemExit(pytest.main(sys.argv[3:], plugins=[Lane(Queue(Path(sys.argv[2])))]))
    raise SystemExit(main(sys.argv[1:]))
