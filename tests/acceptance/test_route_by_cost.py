"""The page about routes by cost, run as a reader would, with two unlike fake engines behind one alias."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from page_run import blocks_of, run_block
from served import owner_key, start_served

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "route-by-cost.md"


def test_the_page_about_routes_by_cost(tmp_path: Path, free_port: Callable[[], int]) -> None:
    port, home = free_port(), tmp_path / "home"
    page = PAGE.read_text(encoding="utf-8").replace("http://127.0.0.1:8080", f"http://127.0.0.1:{port}")
    blocks, files = blocks_of(page.partition("## Route what is served")[2].partition("## Cards")[0])
    server = start_served(home, (), store=None, port=port, grpc_port=0, config=files["ashore.toml"])
    env = {
        "ASHORE_HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "ASHORE_API_KEY": owner_key(server),
    }
    try:
        for block in blocks:
            run_block(block, folder=home, env=env)
        status = subprocess.run(["ashore", "status", "--json"], env=env, capture_output=True, check=True)
        routed = {one["model"]: one for one in json.loads(status.stdout)["routed"]}
        assert 30 < routed["chat"]["stream_tokens_per_s"] < 45 < 200 < routed["chat-card"]["stream_tokens_per_s"]
        assert routed["chat-card"]["answers"] == 5 and routed["chat"]["late"] == 0 < routed["chat"]["cost"]
        words = ("ashore", "audit", "search", "--kind", "request", "--model", "chat", "--json")
        found = subprocess.run(words, env=env, capture_output=True, check=True)
        releases = [one["release"] for one in json.loads(found.stdout)["items"]]
        assert sorted(set(releases)) == ["chat-1", "chat-card-1"] and releases[0] == "chat-card-1", releases
    finally:
        assert server.stop() == 0
