"""Run the suite in lanes side by side: half of it waits for servers to start, the other half computes.

    python tests/lanes.py [PYTEST OPTION ...]

The suite is cut into parts, each a pytest of its own; a lane that has ended one takes the next. The output of a part is
printed when it has ended. The last line adds all up; the exit status is 0 only if every part passed.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

TESTS = Path(__file__).parent
LANES = 3
"""One more than processors of the smallest machine: some always wait."""
PARTS = {"acceptance": 3, "integration": 2, "unit": 2}
"""Into how many parts a folder is cut; what does not stand here is one together."""
NOTHING_CHOSEN = 5
"""Exit status of a pytest whose options leave no test."""
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


def run(name: str, files: list[Path], options: list[str], total: Counter[str]) -> None:
    """Run one part, print what it said, and add its counts to the total; a part that did not pass counts as `bad`."""
    began_s = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, *map(str, files)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    closing = [line for line in done.stdout.splitlines() if CLOSING.match(line)]
    counts = Counter({what: int(number) for number, what in COUNT.findall(closing[-1])} if closing else {})
    good = bool(done.returncode == 0 and counts["passed"]) or done.returncode == NOTHING_CHOSEN
    told = "" if good else f": pytest ended with {done.returncode}"
    print(f"{done.stdout}--- {name}, {time.monotonic() - began_s:.0f} s{told}\n", flush=True)
    total.update(counts + Counter(bad=not good))


def main(options: list[str]) -> int:
    """Run all parts and return the exit status."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background a shell has it ignored; tests send it
    left, lock, total = parts(), threading.Lock(), Counter[str]()

    def lane() -> None:
        while True:
            with lock:
                part = next(left, None)
            if part is None:
                return
            run(*part, options, total)

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
    print(f"{total['passed']} passed, {total['failed'] + total['error']} failed, {total['skipped']} skipped")
    return 1 if total["bad"] or not total["passed"] else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
