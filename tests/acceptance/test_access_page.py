"""The page about separated administrators, run as a reader would, against `ashore up`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from page_run import blocks_of, run_block
from served import Served, start_served
from waiting import eventually

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "separate-administrators.md"


def test_the_page_about_separated_administrators(served: Callable[..., Served], tmp_path: Path) -> None:
    server = served("fake:echo")
    env = {
        **os.environ,
        "ASHORE_HOME": str(server.home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    blocks, _ = blocks_of(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) == 7
    folder = tmp_path / "reader"
    folder.mkdir()
    for block in blocks:
        run_block(block, folder=folder, env=env)
    assert "the key is in" in server.said()
    server.stop()
    again = start_served(server.home, ("fake:echo",), store=None, port=server.port, grpc_port=server.grpc_port)
    try:
        eventually(lambda: "Ctrl-C stops it" in again.said())
        assert "the first key no longer works" in again.said() and "the key is in" not in again.said()
    finally:
        again.stop()
