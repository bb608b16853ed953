"""The page about many models, run as a reader would, with fake models, the demo model, and a real bucket."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from page_run import blocks_of, run_block
from s3_server import KEYS
from served import owner_key, start_served

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "many-models-on-one-machine.md"


def test_the_page_about_many_models(tmp_path: Path, demo_home: Path, s3_url: str, free_port: Callable[[], int]) -> None:
    port, home = free_port(), tmp_path / "home"
    page = PAGE.read_text(encoding="utf-8").replace("http://127.0.0.1:8080", f"http://127.0.0.1:{port}")
    blocks, files = blocks_of(page)
    home.mkdir()
    subprocess.run(["cp", "-al", str((demo_home / "store").resolve()), str(home / "store")], check=True)
    bucket = {**KEYS, "AWS_ENDPOINT_URL": s3_url}
    env = {
        "ASHORE_HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
    }
    folder = tmp_path / "reader"
    folder.mkdir()
    (folder / "ashore.toml").write_text(files["ashore.toml"])
    run_block(blocks[0], folder=folder, env=env)
    server = start_served(home, (), store=None, port=port, grpc_port=0, config=files["ashore.toml"], env=bucket)
    try:
        env["ASHORE_API_KEY"] = owner_key(server)
        for block in blocks[1:]:
            run_block(block, folder=folder, env=env)
    finally:
        server.stop()
