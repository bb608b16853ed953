"""The page about guard lists, run as a reader would, with a fake engine that echoes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from page_run import blocks_of, run_block
from served import officer_and_owner, start_served

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "guard-words.md"
CONFIG = '[[model]]\nname = "fake:echo"\nalias = "chat"\n'


def test_the_page_about_guard_lists(tmp_path: Path, free_port: Callable[[], int]) -> None:
    port, home = free_port(), tmp_path / "home"
    page = PAGE.read_text(encoding="utf-8").replace("http://127.0.0.1:8080", f"http://127.0.0.1:{port}")
    blocks, _ = blocks_of(page)
    server = start_served(home, (), store=None, port=port, grpc_port=0, config=CONFIG)
    officer, owner = officer_and_owner(server)
    env = {
        "ASHORE_HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "KEY": owner,
        "SEC": officer,
    }
    try:
        for block in blocks:
            run_block(block, folder=home, env=env)
    finally:
        assert server.stop() == 0
