"""Engines that Ray Serve places, in network namespaces: a head, two machines, Valkey, and one server of ours in front.

Run as a program under `unshare --net --mount` by the Python of an environment with Ray and ashore. Kills a replica, a
machine, and the head for 20 s. Prints one JSON object with what the streams saw.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from fleet_rig import FRONTS, HERE, MODEL, NODES, PORT, ask, in_memory, kill_all, load, make_network, seen_of
from served import Served, call, start_served
from tiny_models import make_tiny_model
from valkey_server import ValkeyServer
from waiting import eventually

HEAD = "10.77.0.3"
MACHINES = {"f1": FRONTS["f1"], "rh": HEAD, "n1": NODES["n1"], "n2": NODES["n2"]}
VALKEY_PORT, GCS_PORT, DASHBOARD_PORT, SERVE_PORT = 6390, 6380, 8265, 8000
AWAY_S = 20.0
OF_ITS_OWN = "mkdir -p /tmp/ray; mount -t tmpfs none /tmp/ray; mount -t tmpfs none /dev/shm; exec"
"""Ray takes a machine for its own: sessions in /tmp/ray, shared memory in /dev/shm. Both begin empty."""


class RayCluster:
    """The processes of Ray."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        token = folder / "ray-token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        self.env = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",  # by default engines give way to everything else on the machine
            "RAY_REDIS_ADDRESS": f"{HERE}:{VALKEY_PORT}",
            "RAY_external_storage_namespace": "fleet",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def start(self, name: str) -> None:
        """Start Ray on a machine, in the foreground of a process of its own."""
        here = ["--node-ip-address", MACHINES[name], "--object-store-memory", "80000000", "--block"]
        if name == "rh":
            role = ["--head", "--port", str(GCS_PORT), "--num-cpus", "0", "--dashboard-host", HEAD]
        else:
            role = ["--address", f"{HEAD}:{GCS_PORT}", "--num-cpus", "1"]
        words = " ".join([sys.executable, "-m", "ray.scripts.scripts", "start", *role, *here])
        log = open(self.folder / f"ray-{name}.log", "ab")  # noqa: SIM115 - the child's
        subprocess.Popen(
            ["ip", "netns", "exec", name, "unshare", "--mount", "sh", "-c", f"{OF_ITS_OWN} {words}"],
            env={**self.env, "ASHORE_HOME": str(self.folder / f"engine-{name}")}, stdout=log, stderr=log,
        )  # fmt: skip

    def has_head(self) -> bool:
        """Return whether the head takes connections."""
        try:
            socket.create_connection((HEAD, GCS_PORT), timeout=1).close()
        except OSError:
            return False
        return True

    def told(self) -> str:
        """Return what Serve and every machine say, for messages."""
        logs = [f"--- {one.name}\n{one.read_text(errors='replace')[-1500:]}" for one in self.folder.glob("ray-*.log")]
        return "\n".join([self.serve("status") if self.has_head() else "no head", *logs])

    def serve(self, *words: str) -> str:
        """Run Ray Serve's command, and return what it printed."""
        address = f"http://{HEAD}:{DASHBOARD_PORT}"
        done = subprocess.run(
            [sys.executable, "-m", "ray.serve.scripts", *words, "--address", address],
            env=self.env, cwd=self.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    def deploy(self) -> None:
        """Deploy one engine to each machine."""
        words = ["fleet", "ray", MODEL, "--alias", "chat", "--replicas", "2", "--port", str(SERVE_PORT)]
        file = subprocess.run(
            [sys.executable, "-m", "ashore.cli.main", *words], capture_output=True, text=True, check=True
        ).stdout
        (self.folder / "chat.yaml").write_text(file)
        eventually(
            lambda: "uccess" in self.serve("deploy", "chat.yaml"), limit_s=120, told=lambda: self.serve("status")
        )


def run(folder: Path, streams: int) -> dict[str, object]:
    """Run every phase, and return what was seen in each."""
    make_network(MACHINES)
    report: dict[str, object] = {}
    with contextlib.ExitStack() as stack:
        in_memory(folder)
        valkey = ValkeyServer(folder, "--protected-mode", "no", "--bind", HERE, port=VALKEY_PORT).start()
        stack.callback(valkey.kill)
        stack.callback(lambda: [kill_all(name) for name in MACHINES])
        ray = RayCluster(folder)
        ray.start("rh")
        eventually(ray.has_head, limit_s=180, told=ray.told)  # a machine that finds no head for a while gives up
        for name in ("n1", "n2"):
            ray.start(name)
        (make_tiny_model(folder / "text", "llama") / "model.safetensors").unlink()
        config = '[fleet]\nnetworks = ["10.77.0.0/24"]\n[cache]\nmode = "off"\n[[model]]\n'
        config += f'name = "{folder / "text"}"\nalias = "chat"\n[model.engine]\nfleet = true\n'
        config += 'options = { served_model_name = "chat" }\n'
        front: Served = start_served(
            folder / "f1", (), store=None, port=PORT, grpc_port=0, config=config,
            prefix=("ip", "netns", "exec", "f1"), host=MACHINES["f1"], options=("--host", "0.0.0.0"),
        )  # fmt: skip
        ray.deploy()
        made = call(front, "POST", "/admin/v1/users", front.key, {
            "id": "sys", "roles": ["system-administrator"], "key": {},
        })  # fmt: skip
        key = made["key"]["key"]

        def states() -> list[str]:
            return [node["state"] for node in call(front, "GET", "/admin/v1/fleet", key)["nodes"]]

        for name in ("n1", "n2"):
            wish = {"address": f"http://{MACHINES[name]}:{SERVE_PORT}/chat", "model": "chat"}
            call(front, "PUT", f"/admin/v1/fleet/nodes/ray-{name}", key, wish)
        eventually(lambda: states() == ["ready", "ready"], limit_s=300, told=ray.told)
        eventually(lambda: ask("f1", front.key).is_whole)
        with load(front.key, streams, ("f1",)) as asked:
            eventually(lambda: len(asked.ended) > streams)

            def phase(name: str, work: Callable[[], float]) -> None:
                since_s = time.monotonic()
                fault_s = work()
                until = len(asked.ended) + 2 * streams
                eventually(lambda: len(asked.ended) > until, limit_s=120)
                report[name] = asdict(seen_of(list(asked.ended), since_s, [fault_s], of={"f1"}))
                print(name, report[name], file=sys.stderr, flush=True)

            def engines() -> list[int]:
                return [int(one.name) for one in Path("/proc").iterdir() if _is_replica(one)]

            def kill_replica() -> float:
                before, at_s = engines(), time.monotonic()
                os.kill(before[0], signal.SIGKILL)
                eventually(lambda: before[0] not in engines() and len(engines()) == 2, limit_s=120)
                return at_s

            def kill_machine() -> float:
                at_s = time.monotonic()
                kill_all("n1")
                eventually(lambda: "out" in states())
                ray.start("n1")
                eventually(lambda: states() == ["ready", "ready"], limit_s=180)
                return at_s

            def kill_head() -> float:
                at_s = time.monotonic()
                kill_all("rh")
                eventually(lambda: time.monotonic() > at_s + AWAY_S)
                ray.start("rh")
                eventually(lambda: "RUNNING" in ray.serve("status"), limit_s=180)
                return at_s

            phase("replica", kill_replica)
            phase("machine", kill_machine)
            phase("head", kill_head)
            phase("replica after the head", kill_replica)
    return report


def _is_replica(process: Path) -> bool:
    """Return whether a process is a replica of ours, by the title that Ray gives it."""
    try:
        return process.name.isdigit() and b"ray::ServeReplica:chat:Engine" in (process / "cmdline").read_bytes()
    except OSError:
        return False


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--streams", type=int, default=8)
    given = parser.parse_args()
    print(json.dumps(run(given.folder, given.streams)))
