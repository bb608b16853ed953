"""Sentences that commands print in a terminal: they end where the terminal ends."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("words", ["example list", "model show smollm2", "secret list", "doctor rules"])
def test_sentences_end_where_the_terminal_ends(words: str, columns: int, tmp_path: Path) -> None:
    (tmp_path / "first-key").touch(mode=0o600)
    env = {one: value for one, value in os.environ.items() if one != "COLUMNS"}
    env |= {"ASHORE_HOME": str(tmp_path), "NO_COLOR": "1"}
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-m", "ashore.cli.main", *words.split()],
        stdin=subprocess.DEVNULL, stdout=there, stderr=there, env=env,
    ) as process:  # fmt: skip
        os.close(there)
        shown = b"".join(pieces(here))
    os.close(here)
    assert process.returncode == 0, shown
    lines = shown.decode().splitlines()
    assert lines and max(map(len, lines)) <= columns


def pieces(terminal: int) -> list[bytes]:
    """Return what a terminal gets until the last writer closes it, which Linux reports as an error."""
    found = []
    try:
        while piece := os.read(terminal, 65_536):
            found.append(piece)
    except OSError:
        pass
    return found
