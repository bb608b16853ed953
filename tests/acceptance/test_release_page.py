"""The page about releases, run as a reader would, against `ashore up`; and a supervisor that is killed in between."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from page_run import blocks_of, run_block
from served import Served, call, owner_key, start_served

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "release-and-roll-back.md"


def start(tmp_path: Path, port: int, files: dict[str, str]) -> Served:
    config = next(text for name, text in files.items() if name == "ashore.toml")
    return start_served(tmp_path / "home", (), store=None, port=port, grpc_port=0, config=config)


def test_the_page_about_releases(tmp_path: Path, free_port: Callable[[], int]) -> None:
    port = free_port()
    page = PAGE.read_text(encoding="utf-8").replace("http://127.0.0.1:8080", f"http://127.0.0.1:{port}")
    blocks, files = blocks_of(page)
    server = start(tmp_path, port, files)
    try:
        key = owner_key(server)
        env = {
            "ASHORE_HOME": str(server.home),
            "ASHORE_API_KEY": key,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "LANG": "C.UTF-8",
        }
        folder = tmp_path / "reader"
        folder.mkdir()
        for block in blocks:
            run_block(block, folder=folder, env=env)
        call(server, "POST", "/admin/v1/releases/chat-2/promote", key, {})
        os.kill(server.process.pid, signal.SIGKILL)  # at the moment at which a promotion was told to be done
        server.process.wait()
        time.sleep(1.0)
        server = start(tmp_path, port, files)
        until = time.monotonic() + 20  # its hosts may have had to load for the promotion: then they load again
        while (status := call(server, "GET", "/admin/v1/aliases/chat", key))["weights_percent"] != {"chat-2": 100.0}:
            assert time.monotonic() < until, f"a restart undoes no promotion: {status}"
            time.sleep(0.1)
        request = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
        until = time.monotonic() + 1.0  # a move is in force in every process within a second
        while call(server, "POST", "/v1/chat/completions", key, request)["system_fingerprint"] != "chat-2":
            assert time.monotonic() < until, "the state leads to chat-2, and the worker does not"
            time.sleep(0.02)
    finally:
        server.stop()
