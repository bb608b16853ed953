"""Run the suite in lanes side by side: half of it waits for servers to start, the other half computes.

    python tests/lanes.py [PYTEST OPTION ...]

The suite is cut into parts, each a pytest of its own; a lane that has ended one takes the next. The output of a part is
printed when it has ended. What failed beside two other lanes runs once more, alone: a test that passes there has met a
busy machine, and is named as one that did. The last line adds all up; the exit status is 0 only if every test passed.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

TESTS = Path(__file__).parent
LANES = 3
"""One more than processors of the smallest machine: some always wait."""
PARTS = {"acceptance": 3, "integration": 2, "unit": 2}
"""Into how many parts a folder is cut; what does not stand here is one together."""
FAILED, NOTHING_CHOSEN = 1, 5
"""Exit statuses of a pytest that ran all of its tests, and of one whose options leave none."""
FEW = 12
"""Most tests that run once more: of more than these the change is to blame, not the machine."""
CLOSING = re.compile(r"^(=+ )?(\d+ \w+(, )?)+ in [0-9.]+s")
COUNT = re.compile(r"(\d+) (passed|failed|skipped|error)")


def parts() -> Iterator[tuple[str, list[Path]]]:
    """Yield names and files of the parts, of each folder one in turn, so that what waits is beside what computes."""
    folders = defaultdict(list)
    for file in sorted(TESTS.rglob("test_*.py")):
        folder = file.relative_to(TESTS).parts[0]
        folders[folder if folder in PARTS else "rest"].append(file)
    cut = []
    for folder, files in sorted(folders.items()):
        count = PARTS.get(folder, 1)
        cut.append([(f"{folder} {n + 1}/{count}", files[n::count]) for n in range(count)])
    for turn in zip_longest(*cut):
        yield from (part for part in turn if part is not None)


@dataclass(frozen=True, slots=True)
class Part:
    """Some files of the suite, with a folder where pytest keeps which of their tests failed."""

    name: str
    files: list[Path]
    kept: Path

    def failed(self) -> list[str]:
        """Return the tests that failed when it last ran."""
        found = self.kept / "v" / "cache" / "lastfailed"
        return list(json.loads(found.read_text())) if found.exists() else []

    def run(self, options: list[str]) -> Counter[str]:
        """Run it, print what it said, and return its counts; one that did not pass counts as `bad`."""
        began_s = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-o", f"cache_dir={self.kept}", *options, *map(str, self.files)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        closing = [line for line in done.stdout.splitlines() if CLOSING.match(line)]
        counts = Counter({what: int(number) for number, what in COUNT.findall(closing[-1])} if closing else {})
        good = bool(done.returncode == 0 and counts["passed"]) or done.returncode == NOTHING_CHOSEN
        told = "" if good else f": pytest ended with {done.returncode}"
        print(f"{done.stdout}--- {self.name}, {time.monotonic() - began_s:.0f} s{told}\n", flush=True)
        return counts + Counter(bad=not good, cut_short=not good and done.returncode != FAILED)

    def run_failed_again(self, options: list[str]) -> tuple[Counter[str], list[str]]:
        """Run alone what failed; return the difference in counts, and the tests that passed now."""
        before = self.failed()
        again = Part(f"{self.name}, what failed, alone", self.files, self.kept).run(["--lf", "--lfnf=none", *options])
        passed = sorted({*before} - {*self.failed()})
        change = Counter(passed=len(passed), failed=-len(passed), bad=again["bad"] - 1)
        return change, passed


def main(options: list[str]) -> int:
    """Run all parts and return the exit status."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background a shell has it ignored; tests send it
    with tempfile.TemporaryDirectory(prefix="lanes.") as folder:
        cut = [Part(name, files, Path(folder) / name.replace("/", "-")) for name, files in parts()]
        ran = in_lanes(cut, options)
        bad = [part for part, counts in ran if counts["bad"]]
        total: Counter[str] = sum((counts for _, counts in ran), Counter())
        if not total["cut_short"] and sum(len(part.failed()) for part in bad) <= FEW:
            for part in bad:
                change, passed = part.run_failed_again(options)
                total.update(change)
                for test in passed:
                    print(f"failed beside other work, passed alone: {test}")
    print(f"{total['passed']} passed, {total['failed'] + total['error']} failed, {total['skipped']} skipped")
    return 1 if total["bad"] or not total["passed"] else 0


def in_lanes(cut: list[Part], options: list[str]) -> list[tuple[Part, Counter[str]]]:
    """Run the parts side by side, and return each with its counts."""
    left, lock, ran = iter(cut), threading.Lock(), []

    def lane() -> None:
        while True:
            with lock:
                part = next(left, None)
            if part is None:
                return
            ran.append((part, part.run(options)))

    lanes = [threading.Thread(target=lane) for _ in range(LANES)]
    for one in lanes:
        one.start()
    try:
        for one in lanes:
            one.join()
    except KeyboardInterrupt:  # the parts that run hear of it themselves
        with lock:
            left = iter(())
        raise
    return ran


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
