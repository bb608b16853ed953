"""What a repeated cached answer costs a worker, by the number of Python functions that it calls: the same each time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_CALLS = 105
"""133 in November 2026, before trailers, sums of what is held and models behind aliases; 180 with them, before this.
One more with the stamp of guard lists; four more since answers are counted until they are read, requests whose servers
are away are refused at once, and log-probabilities are masked."""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="an answer is written in a later turn of the loop")
def test_a_repeated_cached_answer_calls_no_more_functions_than_it_did() -> None:
    command = [sys.executable, "-m", "benchmarks.request_cost", "--calls"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert not done.returncode, done.stderr
    calls = int(done.stdout.split()[0])
    assert 50 < calls <= MOST_CALLS * 1.02, (
        f"{calls} calls for a repeated cached answer instead of {MOST_CALLS}, each some 0.1 µs of the worker.\n"
        "Look below for what is new or is called more than once; `python -m benchmarks.request_cost --calls` at the "
        "commit before names what was there.\nWork out what changes seldom when it changes, look a header up once, and "
        f"make what never waits a plain function.\n{done.stdout}"
    )
