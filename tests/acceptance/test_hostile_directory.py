"""`ashore up`, typed in a directory that somebody else may write: nothing that lies there runs in a process of ours."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from home_processes import processes_of
from served import Served, call
from tiny_models import make_tiny_model
from waiting import eventually

from ashore.kit.processes import child_environment, python_command

TRAP = """import sys
with open({sprung!r}, "a") as file:
    print(__name__, *sys.argv, file=file)
"""
NOT_MODULES = frozenset(("__main__", "__init__"))
OPEN = ("queued", "running")


@pytest.fixture
def traps(tmp_path: Path) -> Path:
    """A directory with a module of each name that Python or a package of this environment has."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    names = {*sys.stdlib_module_names, *importlib.metadata.packages_distributions(), "sitecustomize", "usercustomize"}
    for name in names - NOT_MODULES:
        if name.isidentifier():
            (folder / f"{name}.py").write_text(TRAP.format(sprung=str(tmp_path / "sprung")))
    return folder


def test_no_role_imports_what_lies_in_the_directory_where_the_server_is_started(
    served: Callable[..., Served], ashore: Callable[..., subprocess.CompletedProcess[str]], traps: Path, tmp_path: Path
) -> None:
    home, sprung = tmp_path / "home-0", tmp_path / "sprung"  # where `served` has its home
    home.mkdir()
    nodes = [str(tmp_path / f"node-{index}") for index in range(3)]
    assert ashore("backup", "init", "--nodes", ",".join(nodes), home=home).returncode == 0
    make_tiny_model(tmp_path / "pool" / "tiny", "llama")
    config = f"""
[[model]]
name = "fake:echo"
[jobs]
folders = ["{tmp_path}/pool"]
[backup]
every_s = 1
[learning]
feedback = true
at_examples = 1000
key_file = "{home}/learning.key"
"""
    server = served(config=config, prefix=("env", "-C", str(traps)))
    roles = ("data.engines.host", "data.worker", "control", "control.jobs.worker", "cli.operation")
    for role in roles:
        eventually(lambda role=role: processes_of(home, f"ashore.{role}"), told=server.everything_said)
    eventually((home / "backup" / "tally.json").exists, told=server.everything_said)  # a backup was made

    sam = {"id": "sam", "roles": ["system-administrator"], "key": {}}
    key = call(server, "POST", "/admin/v1/users", server.key, sam)["key"]["key"]
    assert call(server, "GET", "/admin/v1/doctor", key)["rules"]
    asked = call(server, "POST", "/admin/v1/models/pull", key, {"source": f"{tmp_path}/pool/tiny", "name": "tiny"})
    job = f"/admin/v1/jobs/{asked['id']}"
    done = eventually(lambda: (now := call(server, "GET", job, key))["state"] not in OPEN and now)
    assert done["state"] == "succeeded", done
    assert not sprung.exists(), sprung.read_text()


def test_the_command_of_a_child_imports_nothing_from_the_directory_and_neither_do_its_children(
    traps: Path, tmp_path: Path
) -> None:
    again = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import json'], check=True)"
    for words in (python_command("json.tool", "--help"), [sys.executable, "-c", again]):
        subprocess.run(words, cwd=traps, env=child_environment(), check=True, stdout=subprocess.DEVNULL)
    subprocess.run(python_command("json.tool", "--help"), cwd=traps, check=True, stdout=subprocess.DEVNULL)
    assert not (tmp_path / "sprung").exists()
