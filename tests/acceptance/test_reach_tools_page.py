"""The page about tools of other servers, run as a reader would, with the server that it prints."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from page_run import blocks_of, run_block
from served import call, officer_and_owner, start_served
from waiting import eventually

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "reach-tools.md"


def test_the_page_about_tools(tmp_path: Path, free_port: Callable[[], int]) -> None:
    port, tools, home = free_port(), free_port(), tmp_path / "home"
    page = PAGE.read_text(encoding="utf-8").replace("127.0.0.1:8080", f"127.0.0.1:{port}").replace("9000", str(tools))
    blocks, files = blocks_of(page)
    found = re.search(r"^ *```python\n(.*?)^ *```$", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    program = "".join(line.removeprefix("   ") for line in found[1].splitlines(keepends=True))
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL) as bank:
        try:
            eventually(lambda: _answers(tools))
            server = start_served(home, (), store=None, port=port, grpc_port=0, config=files["ashore.toml"])
            officer, _ = officer_and_owner(server)
            others = {
                name: call(server, "POST", "/admin/v1/users", by, {"id": name, "roles": roles, "key": {}})
                for name, roles, by in (("agent", [], officer), ("sys", ["system-administrator"], server.key))
            }  # fmt: skip
            env = {
                "ASHORE_HOME": str(home),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "HOME": str(tmp_path),
                "LANG": "C.UTF-8",
                "SEC": officer,
                **{var: others[who]["key"]["key"] for var, who in (("KEY", "agent"), ("SYS", "sys"))},
            }
            try:
                for block in blocks:
                    run_block(block, folder=home, env=env)
                bank.terminate()
                bank.wait(30)
                assert "the tool server bank cannot be reached" in ran(env, "status")
                found = json.loads(ran(env, "doctor", "--only", "D935", "--for", "0s", "--json"))["items"]
                assert [(one["rule"], one["commands"]) for one in found] == [("D935", ["ashore mcp check bank"])]
            finally:
                assert server.stop() == 0
        finally:
            bank.terminate()


def ran(env: dict[str, str], *words: str) -> str:
    """Return what a command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "ashore.cli.main", *words], env=env, capture_output=True, text=True, check=False
    )
    assert not done.stderr, done.stderr
    return done.stdout


def _answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
