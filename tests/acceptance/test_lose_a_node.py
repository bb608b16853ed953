"""`docs/how-to/lose-a-node.md`, every command in its order; then the restored home answers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
from page_run import blocks_of, run_block
from served import start_served
from tiny_models import make_tiny_model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "lose-a-node.md"


def test_the_page_runs_and_the_new_machine_answers(tmp_path: Path, free_port: Callable[[], int]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    work = tmp_path / "work"
    make_tiny_model(work / "tiny", "llama")
    env = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "ASHORE_HOME": str(tmp_path / "home"),
    }
    blocks, _ = blocks_of(page)
    for block in blocks:
        run_block(block, folder=work, env=env)
    server = start_served(tmp_path / "new-home", ("tiny",), store=None, port=free_port(), grpc_port=free_port())
    try:
        asked = {"model": "tiny", "messages": [{"role": "user", "content": "who is there"}], "max_tokens": 4}
        key = {"authorization": f"Bearer {server.key}"}
        answer = httpx.post(f"{server.base_url}/chat/completions", json=asked, headers=key, timeout=30)
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["completion_tokens"] > 0
    finally:
        server.stop()
