"""Progress where there is no terminal: lines that a log can bear."""

from __future__ import annotations

import pytest

from ashore.cli.progress import TerminalProgress


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
