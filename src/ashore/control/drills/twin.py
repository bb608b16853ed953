"""A server for one drill: made-up models in a folder that is always deleted afterwards."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ashore.control.drills.load import Asked
from ashore.control.drills.model import Drill
from ashore.control.drills.network import Network, free_ports
from ashore.control.drills.programs import find
from ashore.control.drills.undoing import Undoing
from ashore.core.errors import EngineFailed, EnvironmentFault
from ashore.kit.folders import make_folder
from ashore.kit.processes import get_from, python_command
from ashore.kit.settings import Home

MODEL: Final = "rehearsal"
START_S: Final = 90.0
COMMAND_S: Final = 120.0
NODES: Final = 3
CHILDREN_BY: Final = (
    "import sys; sys.executable = sys.argv.pop(1); from ashore.cli.main import main; raise SystemExit(main())"
)
"""A program that is `ashore`, and starts its children by another Python."""


class TwinServer:
    """One running twin. Its watcher ends it."""

    def __init__(self, drill: Drill, folder: Path, undoing: Undoing) -> None:
        """Create it; starts nothing."""
        self.folder = folder
        self.home = Home(root=folder / "home")
        self.url = ""
        self.group: Path | None = None
        self.network: Network | None = None
        self.clock: Path | None = None
        self._drill = drill
        self._undoing = undoing
        self._scratch = folder / "tmp"  # files left there by a killed process are deleted with the twin
        self._process: subprocess.Popen[bytes] | None = None
        self._port, self._grpc = free_ports(2)

    def start(self) -> Asked:
        """Start it, and return its target for the load.

        Raises:
            EnvironmentFault: its disk cannot be mounted.
            EngineFailed: it did not start.
        """
        twin = self._drill.twin
        root = self.home.root
        root.mkdir(parents=True, mode=0o700)
        make_folder(self._scratch, mode=0o700)
        if twin.disk_bytes:
            self._undoing.before("twin", pid=0, start="", path=str(self.folder), mounted=str(root))
            size = f"size={twin.disk_bytes},mode=0700"
            words = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(root)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                raise EnvironmentFault(
                    f"no file system of its own for the twin: {done.stderr.strip()}", hint="run it as root"
                )
        if twin.neighbours:
            self.network = Network(self._beside(), self._undoing, [one for one in twin.neighbours if one != "server"])
            self.network.start()
        if twin.own_clock:
            self._make_clock()
        (root / "ashore.toml").write_text(self._toml())
        if "[backup]" in twin.more:
            nodes = [self.folder / f"node-{number}" for number in range(NODES)]
            self.ashore("backup", "init", "--nodes", ",".join(map(str, nodes)), "--code", "2+1")
        if self.network is not None and self.network.centre is not None:
            self.ashore("site", "join", self.network.centre_url, "--token", self.network.centre.token())
        self.restart()
        if "[backup]" in twin.more:
            self.ashore("backup", "run")
        key = self.home.first_key.read_text().strip()
        if self.network is not None and "server" in twin.neighbours:
            self._start_other(self.network)
        authority = self.home.edge / "ca.pem"
        return Asked(url=self.url, key=key, model=MODEL, ca_file=str(authority) if authority.is_file() else "")

    def _beside(self) -> Path:
        folder = self.folder / "beside"
        folder.mkdir(mode=0o700)
        return folder

    def _make_clock(self) -> None:
        """Write the file with the clock's offset, and a Python whose processes read the clock through it.

        The monotonic clock stays the machine's: a step of the wall clock does not change durations. A supervisor passes
        no variables of its own to children, so they are started by this Python.
        """
        self.clock = self.folder / "clock"
        self.clock.write_text("+0")
        variables = {
            "LD_PRELOAD": find("faketime"), "FAKETIME_TIMESTAMP_FILE": self.clock, "FAKETIME_CACHE_DURATION": 1,
            "FAKETIME_DONT_FAKE_MONOTONIC": 1, "DONT_FAKE_MONOTONIC": 1,
        }  # fmt: skip
        told = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in variables.items())
        python = self.folder / "ashore"
        python.write_text(f'#!/bin/sh\n{told} exec {shlex.quote(sys.executable)} "$@"\n')
        python.chmod(0o700)

    def _python(self) -> list[str]:
        """Return the command-line prefix of the server."""
        if self.clock is None:
            return python_command("ashore.cli.main")
        return [str(self.folder / "ashore"), "-P", "-c", CHILDREN_BY, str(self.folder / "ashore")]

    def _toml(self) -> str:
        twin, network = self._drill.twin, self.network
        told = "" if network is None else network.toml(MODEL)
        if "[[model]]" not in told:
            told = (
                f'[[model]]\nname = "fake:random?tok_per_s=200&tokens=40"\nalias = "{MODEL}"\n'
                f"replicas = {twin.replicas}\n{told}"
            )
        anchors = "" if network is None or not network.anchors else f"anchors = {json.dumps(network.anchors)}\n"
        return f"{told}[audit]\ncheckpoint_s = 2\n{anchors}{twin.more}"

    def _start_other(self, network: Network) -> None:
        """Start a second server on the same state, without a line in between."""
        home, (port, grpc) = self.folder / "other", free_ports(2)
        home.mkdir(mode=0o700)
        (home / "ashore.toml").write_text(network.without_line(self._toml()))
        words = ["up", "--config", str(home / "ashore.toml"), "--port", str(port), "--grpc-port", str(grpc)]
        with open(self.folder / "other.out", "ab") as sink:
            one = self._undoing.start(
                "beside",
                python_command("ashore.cli.main", *words),
                env={**self._environment(), "ASHORE_HOME": str(home)},
                stdout=sink,
                stderr=sink,
            )
        end_s = time.monotonic() + START_S
        while get_from(("127.0.0.1", port), "/readyz") is None:
            if one.poll() is not None or time.monotonic() > end_s:
                said = (self.folder / "other.out").read_text(errors="replace")[-1500:]
                raise EngineFailed(f"the second server did not start:\n{said}", hint="`ashore up` says more")
            time.sleep(0.1)
        network.other_port = port

    def restart(self) -> None:
        """Restart the server, as a service manager would. Returns when it is ready.

        Raises:
            EngineFailed: it did not start.
        """
        if self._process is not None:
            self._process.wait()
        words = [
            *self._into_group(),
            *self._python(), "up", "--config", str(self.home.root / "ashore.toml"), "--port",
            str(self._port), "--grpc-port", str(self._grpc), *self._drill.twin.options,
        ]  # fmt: skip
        mounted = str(self.home.root) if self._drill.twin.disk_bytes else ""
        told = {"path": str(self.folder), "mounted": mounted}
        with open(self.folder / "up.out", "ab") as sink:
            self._process = self._undoing.start(
                "twin", words, told=told, env=self._environment(), stdout=sink, stderr=sink
            )
        end_s = time.monotonic() + START_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > end_s:
                said = (self.folder / "up.out").read_text(errors="replace")[-1500:]
                raise EngineFailed(
                    f"the twin did not start:\n{said}", hint="`ashore up` with the same options says more"
                )
            time.sleep(0.1)

    def _into_group(self) -> list[str]:
        """Create the twin's control group, and return the command prefix that starts a program in it; empty: it has
        none.
        """
        if not self._drill.twin.group:
            return []
        old = Path("/sys/fs/cgroup/memory")
        self.group = (old if old.is_dir() else old.parent) / f"ashore-drill-{os.getpid()}"
        if not self.group.is_dir():
            self._undoing.before("group", path=str(self.group))
            self.group.mkdir()
        return ["sh", "-c", f'echo $$ > {self.group}/cgroup.procs; exec "$@"', "sh"]

    def _is_ready(self) -> bool:
        from ashore.data.path import read_topology

        if not self.home.topology.is_file():
            return False
        try:
            topology = read_topology(self.home.topology)
        except (OSError, ValueError):
            return False
        self.url = topology.edge.url if topology.edge else f"http://127.0.0.1:{self._port}"
        workers = [one.http for one in topology.workers] or [topology.http]
        if any(get_from(Path(one.uds) if one.uds else (one.host, one.port), "/readyz") is None for one in workers):
            return False
        return topology.edge is None or _takes(self._port)

    def ashore(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of ashore in the twin's home."""
        command = python_command("ashore.cli.main", *words)
        pipe = subprocess.PIPE
        with self._undoing.start("beside", command, env=self._environment(), stdout=pipe, stderr=pipe) as one:
            try:
                said, errors = one.communicate(timeout=COMMAND_S)
            except subprocess.TimeoutExpired:
                one.kill()
                raise
        return subprocess.CompletedProcess(command, one.returncode, said.decode(), errors.decode())

    def _environment(self) -> Mapping[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ASHORE_")}
        kept |= {"ASHORE_HOME": str(self.home.root), "ASHORE_STEP_TIMEOUT_S": "5", "TMPDIR": str(self._scratch)}
        if self.network is not None:
            kept |= self.network.environment
        return kept


def _takes(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
