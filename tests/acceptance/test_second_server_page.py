"""The page about a second server, run as a reader would on one machine, with a real Postgres and a real Valkey."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from page_run import blocks_of, reader_env, run_block
from postgres_server import fresh_database, postgres_server
from tiny_models import make_tiny_model
from valkey_server import ValkeyServer

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-second-server.md"
PORTS = ("8080", "8090", "8101", "8102")
pytestmark = pytest.mark.full


@pytest.fixture
def services(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[tuple[str, str]]:
    """Start Postgres and Valkey, and return their URLs."""
    (tmp_path / "valkey").mkdir()
    valkey = ValkeyServer(tmp_path / "valkey", port=free_port()).start()
    try:
        with postgres_server() as url:
            yield fresh_database(url, "page"), valkey.url
    finally:
        valkey.kill()


def test_the_page_about_a_second_server(
    tmp_path: Path, free_port: Callable[[], int], services: tuple[str, str]
) -> None:
    page = PAGE.read_text(encoding="utf-8")
    page = page.replace("postgresql://ashore@127.0.0.1:5432/ashore", services[0])
    page = page.replace("redis://127.0.0.1:6379", services[1])
    for port in PORTS:
        page = re.sub(rf"\b{port}\b", str(free_port()), page)
    blocks, files = blocks_of(page)
    folder = tmp_path / "reader"
    make_tiny_model(folder / "smol", "llama")
    (folder / "ashore.toml").write_text(files["ashore.toml"])
    env = reader_env(folder, folder / "a")
    started: list[int] = []
    try:
        for block in blocks:
            run_block(block, folder=folder, env=env)
            names = r'(?:a|b|one|two)="?(\d+)"?$'
            state = (folder / ".page-state").read_text()
            started = [int(pid) for pid in re.findall(rf"^declare -- {names}", state, re.MULTILINE)]
    finally:
        for pid in started:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        for pid in started:
            subprocess.run(["tail", f"--pid={pid}", "-f", "/dev/null"], timeout=60, check=False)
