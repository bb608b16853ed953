"""The processes beside the engine hosts, as the supervisor starts them: API workers, job worker, Valkey, backups."""

from __future__ import annotations

import json
import os
import platform
import time
from typing import Final

from ashore.backup import BackupLaunch, backup_command
from ashore.cache import valkey_command
from ashore.config import Listening
from ashore.core import CHILD_EGRESS, CHILD_FOLDERS
from ashore.deployment.listening import api_address, worker_listen
from ashore.jobs import LOGINS, JobsLaunch, jobs_command
from ashore.learning.launch import LearningLaunch, learning_command
from ashore.learning.section import LearningSection
from ashore.processes import ChildSpec, Supervisor, python_command, write_launch_file
from ashore.settings import Home, Settings

API: Final = "api"
"""Name of the first API worker under the supervisor; the others have their index behind it."""
BACKUP: Final = "backup"
BACKUP_LAUNCH: Final = "backup.json"
LEARNING: Final = "learning"
LEARNING_LAUNCH: Final = "learning.json"
DRAIN_MARGIN_S: Final = 5.0
"""Between a child's own deadline for draining and the moment it is killed."""
API_MARGIN_S: Final = 20.0
"""The same for an API worker, which has more to end: `GRPC_END_S` and `HTTP_END_S` of it and `RECORD_END_S` of its log,
one after the other, and what it writes last. Seldom more than a second is used."""
START_ATTEMPTS: Final = 3


def worker_name(index: int) -> str:
    """Return the name of an API worker under the supervisor."""
    return API if index == 0 else f"{API} {index}"


def api_child(index: int, *, home: Home, settings: Settings) -> ChildSpec:
    """One API worker. Without it nothing is served: the supervisor ends when it exits by itself too often. One that is
    killed is started again for ever, so that no request that kills it takes the answers of all others with it."""
    return ChildSpec(
        name=worker_name(index),
        argv=tuple(
            python_command(
                "ashore.api.worker", "--run", str(home.run), "--index", str(index), "--log-level", settings.log_level
            )
        ),
        log=home.logs / f"{worker_name(index).replace(' ', '-')}.log",
        control_flag="",
        stage=0,
        essential=True,
        drain_s=settings.drain_timeout_s + API_MARGIN_S,
        rereads=True,
    )


def jobs_child(*, listening: Listening, home: Home, settings: Settings, config: str = "") -> ChildSpec:
    """The job worker. It stops before the API does, so that what it runs is given back and not cut off.

    Writes its launch file. It has the logins of clouds and hubs, for the operations that it starts.
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
    write_launch_file(launch, home.run / "jobs.json")
    return ChildSpec(
        name="jobs",
        argv=tuple(jobs_command(home.run / "jobs.json", settings.log_level)),
        log=home.logs / "jobs.log",
        control_flag="",
        stage=-1,
        drain_s=DRAIN_MARGIN_S,
        env={name: value for name, value in os.environ.items() if name.startswith(LOGINS)},
    )


def backup_child(*, listening: Listening, home: Home, settings: Settings, config: str = "") -> ChildSpec:
    """What backs the home up by itself. Stopped first, and at once: what it was at counts for nothing.

    Writes its launch file. It has the logins of clouds, as the job worker has them: nodes may be buckets.
    """
    launch = BackupLaunch(
        home=str(home.root),
        state_url=settings.state_url,
        sealing_key=settings.sealing_key,
        config=config,
        backup=listening.backup,
    )
    write_launch_file(launch, home.run / BACKUP_LAUNCH)
    return ChildSpec(
        name=BACKUP,
        argv=tuple(backup_command(home.run / BACKUP_LAUNCH, settings.log_level)),
        log=home.logs / "backup.log",
        control_flag="",
        stage=-1,
        drain_s=DRAIN_MARGIN_S,
        env={name: value for name, value in os.environ.items() if name.startswith("AWS_")},
        rereads=True,
    )


def learning_child(*, listening: Listening, home: Home, settings: Settings) -> ChildSpec:
    """What has models learn by themselves. Stopped at once: the job of a run is the job worker's.

    Writes its launch file.
    """
    launch = LearningLaunch(learning=listening.section("learning", LearningSection))
    write_launch_file(launch, home.run / LEARNING_LAUNCH)
    return ChildSpec(
        name=LEARNING,
        argv=tuple(learning_command(home.run / LEARNING_LAUNCH, settings.log_level)),
        log=home.logs / "learning.log",
        control_flag="",
        stage=-1,
        drain_s=DRAIN_MARGIN_S,
        env=settings.as_environment(),
        rereads=True,
    )


def valkey_child(home: Home, *, max_bytes: int) -> ChildSpec:
    """The shared cache of our own. Nothing is lost when it dies, and it is started again."""
    return ChildSpec(
        name="valkey",
        argv=valkey_command(home.valkey_socket, max_bytes=max_bytes),
        log=home.logs / "valkey.log",
        control_flag="",
        stage=1,
        drain_s=DRAIN_MARGIN_S,
    )


def check_alive(supervisor: Supervisor, child: str, *, asked: bool = False) -> None:
    """Raise when a child that is being waited for will hardly come up; once it serves, patience is longer.

    Args:
        supervisor: Owns the child.
        child: Its name.
        asked: Clients and jobs ask it already. Then what kills it may be a request, and says nothing of its start.
    """
    fell = supervisor.exits(child) if asked else supervisor.restarts(child)
    if supervisor.state(child) == "given-up" or fell >= START_ATTEMPTS:
        raise supervisor.failure_of(child)
