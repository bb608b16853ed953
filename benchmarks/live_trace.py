"""`python -m benchmarks.live_trace`: everything in front of the models, real clients, every process killed in turn.

Starts `ashore up ... --edge envoy --workers 2 --redis embedded` in a home of its own, drives it through its one TLS
port, kills what it is made of, at last the supervisor, and says of each promise whether it was kept.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.serve_report import about
from benchmarks.trace.report import lines, plain, section, write
from benchmarks.trace.run import FAKE, REAL, SHORT, Course, run
from benchmarks.trace.verdicts import Verdict, judge

COURSES = {"short": SHORT, "fake": FAKE, "real": REAL}
NOT_MEASURED = [
    "several machines, a Valkey or Postgres of their own, a power failure (what fsync promises)",
    "throughput and latency at rest: the serving and front reports have them; clients, server and whatever else the "
    "machine does share the cores here",
]


def one_course(
    name: str, course: Course, *, store: Path | None, keep: bool
) -> tuple[list[str], dict[str, object], bool]:
    """Run one course, print its verdicts, and return its part of the report."""
    folder = Path(tempfile.mkdtemp(prefix="live-trace."))
    failed = True
    try:
        trace, _ = run(course, folder / "home", store=store, say=lambda line: print(f"{name}: {line}", flush=True))
        verdicts: list[Verdict] = judge(trace, course.limits)
        failed = not all(one.kept for one in verdicts)
        print(lines(verdicts), flush=True)
        title = f"{name}: {' and '.join(course.models)}"
        return section(title, trace, course.limits, verdicts), plain(trace, verdicts), not failed
    finally:
        if keep or failed:
            print(f"the home is kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def main(words: Sequence[str] | None = None) -> int:
    """Run the courses asked for; 0 when every promise was kept."""
    parser = argparse.ArgumentParser(prog="benchmarks.live_trace", description=__doc__)
    parser.add_argument("courses", nargs="*", default=["fake"], help="short, fake, real")
    parser.add_argument("--store", type=Path, help="folder with the models of `real`; default: they are pulled")
    parser.add_argument("--rounds", type=int, default=0, help="kills of each process; default: what the course says")
    parser.add_argument("--seed", type=int, default=1, help="of the order and the moments of the kills")
    parser.add_argument("--report", type=Path, help="Markdown file to write, with a JSON beside it")
    parser.add_argument("--keep", action="store_true", help="keep the homes, logs included")
    given = parser.parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    parts: list[str] = []
    traces: dict[str, object] = {}
    all_kept = True
    unknown = sorted(set(given.courses) - set(COURSES))
    if unknown:
        parser.error(f"no course is called {', '.join(unknown)}; there are {', '.join(COURSES)}")
    for name in given.courses:
        course = replace(COURSES[name], seed=given.seed)
        course = replace(course, rounds=given.rounds) if given.rounds else course
        part, trace, kept = one_course(name, course, store=given.store if name == "real" else None, keep=given.keep)
        parts += part
        traces[name] = trace
        all_kept = all_kept and kept
    if given.report is not None:
        said = " ".join(words if words is not None else sys.argv[1:]).replace(str(given.store), "STORE")
        facts = about(f"python -m benchmarks.live_trace {said}", busy_before=0, busy_after=0)
        facts = {name: value for name, value in facts.items() if not name.startswith("other_load")}
        write(given.report, parts, facts, traces, NOT_MEASURED)
        print(f"written to {given.report}")
    return 0 if all_kept else 1


if __name__ == "__main__":
    sys.exit(main())
