"""The page about branch offices, run as a reader would: a centre and three offices, one of them behind a link that is
cut in mid-pull, one fed by a stick."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from page_run import blocks_of, reader_env, run_block
from safetensors.numpy import load_file, save_file
from served import Served, call, start_served
from tiny_models import make_tiny_model

from ashore.control.drills import link

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "open-a-branch-office.md"
OFFICES = ("north", "south", "east")
pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]


def spoilt(folder: Path) -> Path:
    """Write a model whose last layer was damaged on the way."""
    make_tiny_model(folder, "llama", seed=1)
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = (tensors["lm_head.weight"] * 60).astype(np.float32)
    save_file(tensors, folder / "model.safetensors")
    return folder


class Line:
    """The line of north to the centre."""

    def __init__(self, folder: Path, port: int, to_port: int) -> None:
        self._weather = folder / "weather.json"
        self.turn()
        config = folder / "line.json"
        lines = {"centre": [port, "127.0.0.1", to_port]}
        config.write_text(
            json.dumps({"lines": lines, "weather": str(self._weather), "seen": str(folder / "seen.json")})
        )
        self._process = subprocess.Popen([sys.executable, "-I", "-S", link.__file__, str(config)])

    def turn(self, **weather: float) -> None:
        self._weather.write_text(json.dumps({"centre": weather}))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "reader"
    folder.mkdir()
    make_tiny_model(folder / "version-1", "llama", seed=0)
    spoilt(folder / "version-2")
    make_tiny_model(folder / "version-3", "llama", seed=3)
    yield folder


def test_the_page_about_branch_offices(reader: Path, tmp_path: Path, free_port: Callable[[], int]) -> None:
    ports = {name: free_port() for name in ("centre", "line", *OFFICES)}
    page = PAGE.read_text(encoding="utf-8").replace("127.0.0.1:8443", f"127.0.0.1:{ports['centre']}")
    blocks, files = blocks_of(page)
    running: list[Served] = []
    line = Line(tmp_path, ports["line"], ports["centre"])
    try:
        centre = start_served(
            reader / "centre", (), store=None, port=ports["centre"], grpc_port=0, config=files["centre.toml"],
            wait=False,
        )  # fmt: skip
        running.append(centre)
        env = reader_env(reader, reader) | keys_of(centre, ports["centre"])
        for block in blocks:
            if "site publish sorter-1" in block.commands:
                running += [
                    start_served(
                        reader / name, (), store=None, port=ports[name], grpc_port=0, config=files["office.toml"],
                        wait=False,
                    )
                    for name in OFFICES
                ]  # fmt: skip
                for one in running[1:]:
                    one.wait_ready()
                cutter = threading.Thread(target=cut_in_mid_pull, args=(line, reader / "north"))
                cutter.start()
            run_block(block, folder=reader, env=env, timeout_s=400)
            if "site join" in block.commands:
                joined = reader / "north/sites/joined.json"  # north reaches the centre by its own line
                joined.write_text(joined.read_text().replace(f":{ports['centre']}", f":{ports['line']}"))
        cutter.join()
        status = json.loads((reader / "south/sites/status.json").read_bytes())
        assert "401" in status["note"]
        failed = {name: json.loads((reader / name / "sites/status.json").read_bytes())["failed"] for name in OFFICES}
        assert sum(bool(one) for one in failed.values()) == 1, f"one office alone met the bad version: {failed}"
        answer = call(
            running[1], "POST", "/v1/chat/completions", running[1].key,
            {"model": "chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3},
        )  # fmt: skip
        assert answer["usage"]["completion_tokens"] > 0
    finally:
        for one in running:
            one.stop()
        line.close()


def keys_of(centre: Served, port: int) -> dict[str, str]:
    """Wait for the centre, make its three officers there, and return their keys by their names on the page."""
    deadline = time.monotonic() + 90
    while not (centre.home / "run/control.sock").exists() or "serves chat" not in centre.said():
        assert time.monotonic() < deadline and centre.process.poll() is None, centre.everything_said()
        time.sleep(0.2)
    found = {}
    for name, user, role in (
        ("SEC", "sec", "security-officer"), ("OPS", "ops", "system-administrator"), ("AUD", "aud", "auditor"),
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "ashore.cli.main", "access", "user", "create", user, "--role", role, "--json"],
            env={**os.environ, "ASHORE_HOME": str(centre.home)}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        found[name] = json.loads(done.stdout)["key"]["key"]
    return found


def cut_in_mid_pull(line: Line, home: Path) -> None:
    """Cut the line for three seconds when the pull has begun; then let it lose one piece in twenty."""
    deadline = time.monotonic() + 120
    while not any((home / "sites/staging").glob("*/segments/*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    line.turn(cut=1)
    time.sleep(3)
    line.turn(reset_share=0.05)
    time.sleep(15)
    line.turn()
