"""The processes beside the engine hosts, as the supervisor starts them: API workers, job worker, Valkey."""

from __future__ import annotations

import json
import os
import platform
import time
from typing import Final

from ashore.data.cache import valkey_command
from ashore.data.jobs import LOGINS, JobsLaunch, jobs_command
from ashore.kit.egress import CHILD_EGRESS
from ashore.kit.folders import CHILD_FOLDERS
from ashore.kit.listed import Listed
from ashore.kit.processes import python_command
from ashore.kit.processes.child import ChildSpec
from ashore.kit.processes.launchfiles import write_launch
from ashore.kit.processes.supervisor import Supervisor
from ashore.kit.settings import Home, Settings
from ashore.machine.config import Listening
from ashore.machine.deployment.listening import api_address, worker_listen

API: Final = "api"
"""Name of the first API worker under the supervisor; the others have their index behind it."""
DRAIN_MARGIN_S: Final = 5.0
"""Between a child's own deadline for draining and the moment it is killed."""
API_MARGIN_S: Final = 20.0
"""The same for an API worker, which has more to end: `GRPC_END_S` and `HTTP_END_S` of it and `RECORD_END_S` of its log,
one after the other, and what it writes last. Seldom more than a second is used."""
START_ATTEMPTS: Final = 3
CONTROL: Final = "control"
"""Name of the control process under the supervisor."""


def worker_name(index: int) -> str:
    """Return the name of an API worker under the supervisor."""
    return API if index == 0 else f"{API} {index}"


def api_child(index: int, *, home: Home, settings: Settings) -> ChildSpec:
    """One API worker. Nothing is served without it, so the supervisor ends when it exits too often by itself. A killed
    worker is always restarted, so that a request that kills it cannot end all other answers.
    """
    return ChildSpec(
        name=worker_name(index),
        argv=tuple(
            python_command(
                "ashore.data.worker", "--run", str(home.run), "--index", str(index), "--log-level", settings.log_level
            )
        ),
        log=home.logs / f"{worker_name(index).replace(' ', '-')}.log",
        control_flag="",
        stage=0,
        essential=True,
        drain_s=settings.drain_timeout_s + API_MARGIN_S,
        rereads=True,
    )


def control_child(*, home: Home, settings: Settings) -> ChildSpec:
    """The control process, which administers. Without it requests are answered as before. Stops before the workers,
    which it asks.
    """
    return ChildSpec(
        name=CONTROL,
        argv=tuple(python_command("ashore.control", "--run", str(home.run), "--log-level", settings.log_level)),
        log=home.logs / "control.log",
        control_flag="",
        stage=-1,
        drain_s=API_MARGIN_S,
        rereads=True,
    )


def room_child(room: Listed, *, home: Home, settings: Settings) -> ChildSpec:
    """The process of a room that asks for one. Requests are answered as before without it."""
    name = room.section
    return ChildSpec(
        name=name,
        argv=tuple(python_command(f"ashore.{room.child}", "--run", str(home.run), "--log-level", settings.log_level)),
        log=home.logs / f"{name}.log",
        control_flag="",
        stage=-1,
        drain_s=DRAIN_MARGIN_S,
        env=settings.as_environment(),
        rereads=True,
    )


def jobs_child(*, listening: Listening, home: Home, settings: Settings, config: str = "") -> ChildSpec:
    """The job worker. Stops before the API does, so that its jobs are returned to the queue and not cut off.

    Writes its launch file. Holds cloud and hub credentials for the operations that it starts.
    """
    owner = f"{platform.node()}:{home.root}"
    launch = JobsLaunch(
        owner=owner,
        state_url=settings.state_url,
        state_path=str(home.state_db),
        snapshots=str(home.snapshots),
        secrets_key=str(home.secrets_key),
        api=tuple(
            api_address(worker_listen(listening, home, index).http)
            for index in range(1 if not listening.has_edge else listening.http.workers)
        ),
        token_file=str(home.internal_token),
        since_ms=int(time.time() * 1000),
        jobs=listening.jobs,
        egress=listening.egress,
        home=owner if settings.state_url else "",
        environment=settings.as_environment()
        | {CHILD_EGRESS: json.dumps(listening.egress.allow), CHILD_FOLDERS: json.dumps(listening.jobs.folders)}
        | ({"ASHORE_CHILD_CONFIG": config} if config else {}),
    )
    write_launch(launch, home.run / "jobs.json")
    return ChildSpec(
        name="jobs",
        argv=tuple(jobs_command(home.run / "jobs.json", settings.log_level)),
        log=home.logs / "jobs.log",
        control_flag="",
        stage=-1,
        drain_s=DRAIN_MARGIN_S,
        env={name: value for name, value in os.environ.items() if name.startswith(LOGINS)},
    )


def valkey_child(home: Home, *, max_bytes: int) -> ChildSpec:
    """Our own shared cache. Nothing is lost when it dies; it is restarted."""
    return ChildSpec(
        name="valkey",
        argv=valkey_command(home.valkey_socket, max_bytes=max_bytes),
        log=home.logs / "valkey.log",
        control_flag="",
        stage=1,
        drain_s=DRAIN_MARGIN_S,
    )


def check_alive(supervisor: Supervisor, child: str, *, asked: bool = False) -> None:
    """Raise if a child that is awaited is unlikely to start; once it serves, the limit is looser.

    Args:
        supervisor: Owns the child.
        child: Its name.
        asked: Clients and jobs use it already. A request may then have killed it, which says nothing about its start.
    """
    fell = supervisor.exits(child) if asked else supervisor.restarts(child)
    if supervisor.state(child) == "given-up" or fell >= START_ATTEMPTS:
        raise supervisor.failure_of(child)
