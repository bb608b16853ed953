"""Progress where there is no terminal: lines that a log can bear."""

from __future__ import annotations

import pytest

from ashore.cli.progress import TerminalProgress
from ashore.core.clock import ManualClock


def test_a_log_gets_the_begin_and_the_end_of_what_takes_time_and_nothing_of_small_files(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with TerminalProgress() as progress:
        progress("read vocabulary", 0, 0)
        progress("hash LICENSE", 11_000, 11_000)
        for done in range(9):
            progress("download", done << 20, 8 << 20)
        progress.share("round", 0.5)
    assert capsys.readouterr().err.splitlines() == [
        "read vocabulary", "download: 0 B of 8 MiB", "download: 8 MiB of 8 MiB", "prepare: round",
    ]  # fmt: skip


def test_steps_in_a_log_say_how_long_the_rest_takes(capsys: pytest.CaptureFixture[str]) -> None:
    clock = ManualClock()
    with TerminalProgress(clock=clock.monotonic_s) as progress:
        for step in range(10, 41):  # it goes on from the tenth
            progress.steps("train", step, 40, f"step {step} of 40")
            clock.advance(4.0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "train: step 10 of 40"
    assert lines[1] == "train: step 12 of 40, about 1.87 min left"
    assert lines[-1] == "train: step 40 of 40"
