"""Run the suite in two lanes side by side: half of it waits for servers to start, the other half computes.

    python tests/lanes.py [PYTEST OPTION ...]

One lane prints as it goes, the other when it has ended. The last line adds both up; the exit status is 0 only if both
passed.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parent
LANES = (("servers", ["acceptance"]), ("rest", [".", "--ignore", str(TESTS / "acceptance")]))
CLOSING = re.compile(r"^(=+ )?(\d+ \w+(, )?)+ in [0-9.]+s")
COUNT = re.compile(r"(\d+) (passed|failed|skipped|error)")


class Lane:
    """One pytest process."""

    def __init__(self, name: str, paths: list[str], options: list[str], *, live: bool) -> None:
        self.name = name
        self.lines: list[str] = []
        self._live = live
        tests, *more = paths
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, str(TESTS / tests), *more],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", bufsize=1,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line)
            if self._live:
                print(line, end="", flush=True)

    def wait(self) -> int:
        """Return the exit status once it has ended; prints what was not printed yet."""
        code = self._process.wait()
        self._reader.join(timeout=10)  # a process that outlives its test may hold the pipe
        if not self._live:
            print("".join(self.lines), end="", flush=True)
        return code

    def counts(self) -> Counter[str]:
        """Return how many tests passed, failed and so on; empty where pytest never came to its closing line."""
        closing = [line for line in self.lines if CLOSING.match(line)]
        return Counter({what: int(number) for number, what in COUNT.findall(closing[-1])} if closing else {})


def main(options: list[str]) -> int:
    """Run the lanes and return the exit status."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background a shell has it ignored; tests send it
    lanes = [Lane(name, paths, options, live=name == "rest") for name, paths in LANES]
    total: Counter[str] = Counter()
    status = 0
    for lane in reversed(lanes):
        code, counts = lane.wait(), lane.counts()
        if code or not counts["passed"]:
            status = 1
            print(f"lane {lane.name}: pytest ended with {code}")
        total += counts
    print(f"{total['passed']} passed, {total['failed'] + total['error']} failed, {total['skipped']} skipped")
    return status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
