"""A plan carried out: engine hosts and the API worker under the supervisor, and the change from one plan to the next.

Stands beside `bootstrap`, outside the floors: it joins rooms that do not know each other.
"""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
import re
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ashore.cache import CachePolicy, valkey_command
from ashore.core import Clock
from ashore.engines import EngineInfo, HostClient, HostLaunch, host_command, write_launch
from ashore.errors import AshoreError, HostDied, NotReady
from ashore.planning import Change, ModelPlan, Plan, compare
from ashore.processes import ChildSpec, Supervisor
from ashore.serving import (
    AdmissionLimits,
    GrpcListen,
    HttpListen,
    RedisLink,
    ServedModel,
    StateLink,
    Topology,
    write_topology,
)
from ashore.settings import Home, Settings
from ashore.spec import AdmissionSpec, HttpSpec, ListenSpec

if TYPE_CHECKING:
    from ashore.engines import ModelFiles

API = "api"
GREETING_S = 1.0
"""Longest wait inside one look at a host that loads; Ctrl-C waits as long."""
PROBE_S = 0.2
RETIRE_LOOK_S = 1.0
START_ATTEMPTS = 3
DRAIN_MARGIN_S = 5.0
"""Between a child's own deadline for draining and the moment it is killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where the API worker listens, and how much it admits."""

    http: HttpSpec
    grpc: ListenSpec
    admission: AdmissionSpec
    cache: CachePolicy = field(default_factory=CachePolicy)
    redis: RedisLink | None = None
    embedded_redis_bytes: int = 0
    """Memory of a Valkey server of our own behind `redis`; 0: there is none."""

    @property
    def address(self) -> str:
        """Base address for a client on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.http.host, self.http.host)
        return f"http://{host}:{self.http.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One engine host of the deployment."""

    child: str
    """Its name under the supervisor."""
    socket: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """One alias that is being served."""

    plan: ModelPlan
    files: ModelFiles
    replicas: tuple[Replica, ...]
    created_s: int


@dataclass(slots=True)
class _Retiring:
    """A host of an earlier plan that lets its last answers end."""

    replica: Replica
    deadline_s: float
    idle_looks: int = 0


class Deployment:
    """What `ashore up` runs. All methods are called from the supervisor's thread."""

    def __init__(
        self,
        *,
        home: Home,
        settings: Settings,
        listening: Listening,
        supervisor: Supervisor,
        open_files: Callable[[ModelPlan], ModelFiles],
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        """Make it; nothing is started.

        Args:
            home: Sockets, launch files and logs go there.
            settings: Timeouts.
            listening: Where to listen.
            supervisor: Owns the processes.
            open_files: Gives the files of a planned model, checked.
            clock: Names and deadlines.
            say: Told what happens.
        """
        self._home = home
        self._settings = settings
        self._listening = listening
        self._supervisor = supervisor
        self._open_files = open_files
        self._clock = clock
        self._say = say
        self._running: dict[str, Running] = {}
        self._plan: Plan | None = None
        self._num_hosts = 0
        self._retiring: list[_Retiring] = []
        supervisor.call_every(RETIRE_LOOK_S, self._look_after_retiring)

    @property
    def plan(self) -> Plan:
        """The plan that is served."""
        if self._plan is None:
            raise NotReady("nothing is served yet")
        return self._plan

    @property
    def listening(self) -> Listening:
        return self._listening

    def start(self, plan: Plan) -> None:
        """Start every host and the API worker. Returns at once; `wait_ready` waits.

        Raises:
            CorruptBlob: a model's files are not what was stored; nothing was started.
        """
        self._clear_run_folder()
        opened = [(model, self._open_files(model)) for model in plan.models]
        for model, files in opened:
            self._running[model.alias] = self._start_model(model, files)
        self._plan = plan
        self._write_topology()
        if self._listening.embedded_redis_bytes:
            self._supervisor.add(self._valkey_child())
        self._supervisor.add(self._api_child())

    def wait_ready(self, *, told: Callable[[str, EngineInfo, float], None] = lambda alias, info, took_s: None) -> None:
        """Return when every host has loaded its model and the API answers; or when a stop was asked for.

        Args:
            told: Called once for each alias when its first host is ready.

        Raises:
            AshoreError: a host could not load its model (the host's own error), or a child fell too often.
            NotReady: it took longer than `start_timeout_s`.
        """
        started_s = self._clock.monotonic_s()
        deadline_s = started_s + self._settings.start_timeout_s
        for alias, running in list(self._running.items()):
            info = self._wait_hosts(running, deadline_s)
            if info is not None:
                told(alias, info, self._clock.monotonic_s() - started_s)
        while not self._supervisor.stop_requested and not self._api_is_ready():
            self._check_alive(API)
            if self._clock.monotonic_s() > deadline_s:
                raise NotReady(
                    f"the API was not ready within {self._settings.start_timeout_s:g} s",
                    hint=f"see {self._home.logs / 'api.log'}; a longer wait: ASHORE_START_TIMEOUT_S",
                )
            self._supervisor.tick(0.05)

    def apply(self, plan: Plan, admission: AdmissionSpec) -> tuple[Change, ...]:
        """Change over to another plan without dropping a stream, and return what changed.

        New hosts load first; when all are ready the API worker is told; then the old ones drain. A host that cannot
        load ends the change: everything new is stopped, and the old plan goes on.

        Raises:
            AshoreError: why the new plan could not be served.
        """
        changes = compare(self.plan, plan)
        fresh: dict[str, Running] = {}
        models = {model.alias: model for model in plan.models}
        try:
            for change in changes:
                if change.kind in ("add", "replace"):
                    model = models[change.alias]
                    fresh[change.alias] = self._start_model(model, self._open_files(model))
            deadline_s = self._clock.monotonic_s() + self._settings.start_timeout_s
            for running in fresh.values():
                self._wait_hosts(running, deadline_s)
        except AshoreError:
            for running in fresh.values():
                self._stop_hosts(running)
            raise
        gone = [self._running[c.alias] for c in changes if c.kind in ("remove", "replace")]
        kept = {
            c.alias: dataclasses.replace(self._running[c.alias], plan=models[c.alias])
            for c in changes
            if c.kind == "keep"
        }
        self._running = {model.alias: (fresh | kept)[model.alias] for model in plan.models}
        self._plan = plan
        self._listening = dataclasses.replace(self._listening, admission=admission)
        self._write_topology()
        self._supervisor.send(API, signal.SIGHUP)
        self._wait_switched()
        deadline_s = self._clock.monotonic_s() + self._settings.drain_timeout_s
        self._retiring += [_Retiring(r, deadline_s) for running in gone for r in running.replicas]
        return changes

    # --- hosts

    def _start_model(self, model: ModelPlan, files: ModelFiles) -> Running:
        replicas = []
        for number in range(model.replicas):
            self._num_hosts += 1
            stem = f"host-{self._num_hosts}"
            socket, launch = self._home.run / f"{stem}.sock", self._home.run / f"{stem}.json"
            write_launch(HostLaunch(files=files, options=model.options, drain_s=self._settings.drain_timeout_s), launch)
            child = f"engine host {model.release}/{number}"
            self._supervisor.add(
                ChildSpec(
                    name=child,
                    argv=tuple(host_command(socket, launch)),
                    log=self._home.logs / f"host-{slug(model.alias)}-{number}.log",
                    stage=1,
                    drain_s=self._settings.drain_timeout_s + DRAIN_MARGIN_S,
                )
            )
            replicas.append(Replica(child=child, socket=socket))
        return Running(plan=model, files=files, replicas=tuple(replicas), created_s=int(self._clock.now_s()))

    def _stop_hosts(self, running: Running) -> None:
        for replica in running.replicas:
            self._supervisor.stop(replica.child)

    def _look_after_retiring(self) -> None:
        """Stop the hosts of an earlier plan that were idle at two looks, or whose time to drain is over."""
        for host in list(self._retiring):
            host.idle_looks = host.idle_looks + 1 if asyncio.run(_is_idle(host.replica.socket)) else 0
            if host.idle_looks >= 2 or self._clock.monotonic_s() > host.deadline_s:
                self._retiring.remove(host)
                self._supervisor.stop(host.replica.child)

    def _wait_hosts(self, running: Running, deadline_s: float) -> EngineInfo | None:
        """Wait until every host of a model has greeted; None when a stop was asked for."""
        info = None
        for replica in running.replicas:
            info = None
            while info is None:
                if self._supervisor.stop_requested:
                    return None
                info = asyncio.run(_greeting(replica.socket))
                self._check_alive(replica.child)
                if self._clock.monotonic_s() > deadline_s:
                    raise NotReady(
                        f"{running.plan.alias} had not loaded within {self._settings.start_timeout_s:g} s",
                        hint=f"see the logs in {self._home.logs}; a longer wait: ASHORE_START_TIMEOUT_S",
                    )
                self._supervisor.tick(0.02)
        return info

    def _check_alive(self, child: str) -> None:
        """Raise when a child that is being waited for will hardly come up; once it serves, patience is longer."""
        if self._supervisor.state(child) == "given-up" or self._supervisor.restarts(child) >= START_ATTEMPTS:
            raise self._supervisor.failure_of(child)

    # --- the API worker

    def _api_child(self) -> ChildSpec:
        return ChildSpec(
            name=API,
            argv=(
                sys.executable,
                "-m",
                "ashore.api.worker",
                "--run",
                str(self._home.run),
                "--log-level",
                self._settings.log_level,
            ),
            log=self._home.logs / "api.log",
            control_flag="",
            stage=0,
            essential=True,
            drain_s=self._settings.drain_timeout_s + DRAIN_MARGIN_S,
        )

    def _valkey_child(self) -> ChildSpec:
        """The shared cache of our own. Nothing is lost when it dies, and it is started again."""
        return ChildSpec(
            name="valkey",
            argv=valkey_command(self._home.valkey_socket, max_bytes=self._listening.embedded_redis_bytes),
            log=self._home.logs / "valkey.log",
            control_flag="",
            stage=1,
            drain_s=DRAIN_MARGIN_S,
        )

    def _write_topology(self) -> None:
        listening = self._listening
        topology = Topology(
            models=tuple(
                ServedModel(
                    alias=alias,
                    release=running.plan.release,
                    kind=running.plan.options.kind,
                    sockets=tuple(str(replica.socket) for replica in running.replicas),
                    text_dir="" if running.plan.options.kind == "fake" else running.files.directory,
                    embedder=running.plan.embedder,
                    created_s=running.created_s,
                )
                for alias, running in self._running.items()
            ),
            http=HttpListen(host=listening.http.host, port=listening.http.port),
            grpc=GrpcListen(host=listening.grpc.host, port=listening.grpc.port) if listening.grpc.port else None,
            admission=AdmissionLimits(
                max_waiting=listening.admission.max_waiting,
                max_tokens_in_flight=listening.admission.max_tokens_in_flight,
                default_deadline_s=listening.admission.default_deadline_s,
            ),
            cache=listening.cache,
            redis=listening.redis,
            state=StateLink(
                url=self._settings.state_url, path=str(self._home.state_db), snapshots=str(self._home.snapshots)
            ),
            first_key_file=str(self._home.first_key),
            drain_timeout_s=self._settings.drain_timeout_s,
        )
        write_topology(topology, self._home.topology)

    def _api_is_ready(self) -> bool:
        return self._get("/readyz") is not None

    def _wait_switched(self) -> None:
        """Wait until the API worker serves the releases of the topology, or a little while."""
        wanted = {alias: running.plan.release for alias, running in self._running.items()}
        deadline_s = self._clock.monotonic_s() + 10
        while self._clock.monotonic_s() < deadline_s and not self._supervisor.stop_requested:
            if releases_of(self._get("/v1/models", key_file=self._home.first_key)) == wanted:
                return
            self._supervisor.tick(0.05)
        self._say("the API did not confirm the new topology within 10 s; see its log")

    def _get(self, path: str, *, key_file: Path | None = None) -> bytes | None:
        """Ask the API worker; None unless it answers 200."""
        address = self._listening.address.removeprefix("http://")
        headers = {"authorization": f"Bearer {key_file.read_text().strip()}"} if key_file else {}
        connection = http.client.HTTPConnection(address, timeout=1)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            return body if answer.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def _clear_run_folder(self) -> None:
        """Remove what a supervisor that was killed left behind. The lock on the home says that nobody uses it."""
        for pattern in ("host-*.sock", "host-*.json", ".host-*", "valkey.sock"):
            for path in self._home.run.glob(pattern):
                path.unlink(missing_ok=True)


def slug(alias: str) -> str:
    """Return an alias as part of a file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", alias)[:60]


def releases_of(models: bytes | None) -> Mapping[str, str]:
    """Return alias -> release from an answer of `/v1/models`; empty where it cannot be read."""
    if models is None:
        return {}
    try:
        items = msgspec.json.decode(models)["data"]
        return {item["id"]: item["release"] for item in items}
    except (msgspec.DecodeError, KeyError, TypeError):
        return {}


async def _greeting(socket: Path) -> EngineInfo | None:
    """Return what the host says of itself; None while it is not there yet or still loading."""
    client = HostClient(socket)
    try:
        await client.connect(GREETING_S)
        return client.info
    except (NotReady, HostDied):
        return None
    finally:
        await client.close()


async def _is_idle(socket: Path) -> bool:
    """Return whether a host runs nothing; one that does not answer has nothing to lose."""
    client = HostClient(socket)
    try:
        await client.connect(PROBE_S)
        stats = await client.stats()
        return stats.running == 0 and stats.waiting == 0
    except (NotReady, HostDied):
        return True
    finally:
        await client.close()
