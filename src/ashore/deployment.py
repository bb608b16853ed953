"""A plan carried out: engine hosts and the API worker under the supervisor, and the change from one plan to the next.

Stands beside `bootstrap`, outside the floors: it joins rooms that do not know each other.
"""

from __future__ import annotations

import asyncio
import dataclasses
import platform
import re
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ashore.access import make_internal_token
from ashore.cache import CachePolicy, valkey_command
from ashore.core import Clock
from ashore.edge import EDGE, EdgeKeeper, worker_sockets
from ashore.engines import EngineInfo, HostClient, HostLaunch, content_of, host_command, write_launch
from ashore.errors import AshoreError, HostDied, NotReady
from ashore.jobs import ApiAddress, JobLimits, JobsLaunch, jobs_command
from ashore.jobs import write_launch as write_jobs_launch
from ashore.planning import Change, ModelPlan, Plan, compare
from ashore.processes import ChildSpec, Supervisor, get_from
from ashore.serving import (
    AdmissionLimits,
    EdgeAddress,
    GrpcListen,
    HttpListen,
    RedisLink,
    ServedModel,
    StateLink,
    Topology,
    WorkerListen,
    make_board,
    write_topology,
)
from ashore.settings import Home, Settings
from ashore.spec import AdmissionSpec, EdgeSpec, EgressSpec, HttpSpec, JobsSpec, ListenSpec

if TYPE_CHECKING:
    from ashore.engines import ModelFiles

BOARD = "board"
"""File in `run` on which API workers tell each other their load."""
API = "api"
"""Name of the first API worker under the supervisor; the others have their index behind it."""
GREETING_S = 1.0
"""Longest wait inside one look at a host that loads; Ctrl-C waits as long."""
PROBE_S = 0.2
RETIRE_LOOK_S = 1.0
START_ATTEMPTS = 3
MAX_DEADLINE_S = 3600.0
"""Longest deadline that a client may ask for, unless the operator's default is longer."""
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
    edge: EdgeSpec = field(default_factory=EdgeSpec)
    jobs: JobsSpec = field(default_factory=JobsSpec)
    egress: EgressSpec = field(default_factory=EgressSpec)

    def kept_for_life(self) -> dict[str, object]:
        """Return what a running server does not change, by the section of ashore.toml that says it."""
        edge = self.edge
        return {
            "[http] address or number of workers": self.http,
            "[grpc]": self.grpc,
            "[edge] kind, host, port, tls or threads": (
                edge.kind,
                edge.host,
                edge.port,
                edge.tls == "off",
                edge.threads,
            ),
            "[redis]": (self.redis, self.embedded_redis_bytes),
            "[cache] max_bytes": self.cache.max_bytes,
            "[jobs]": self.jobs,
            "[egress]": self.egress,
        }

    @property
    def has_edge(self) -> bool:
        return self.edge.kind != "none"

    @property
    def address(self) -> str:
        """Base address for a client on this machine."""
        where = self.edge if self.has_edge else self.http
        scheme = "https" if self.has_edge and self.edge.tls != "off" else "http"
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(where.host, where.host)
        return f"{scheme}://[{host}]:{where.port}" if ":" in host else f"{scheme}://{host}:{where.port}"

    def authority(self, home: Home) -> str:
        """Return the file that clients check the edge's certificate against; empty where ashore did not make it."""
        return str(home.edge / "ca.pem") if self.has_edge and self.edge.tls == "generate" else ""


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
    slot: int
    """Column of the board."""
    content: str
    """Name of what was loaded."""


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
        self._num_releases = 0
        self._retiring: list[_Retiring] = []
        self._edge: EdgeKeeper | None = None
        if listening.has_edge:
            self._edge = EdgeKeeper(
                run=home.run,
                certificates=home.edge,
                log=home.logs / "edge.log",
                supervisor=supervisor,
                clock=clock,
                say=say,
                num_workers=listening.http.workers,
                longest_answer_s=AdmissionLimits().max_deadline_s,
                max_file_bytes=listening.jobs.max_file_bytes,
            )
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
        make_internal_token(self._home.internal_token)
        self._write_topology()
        if self._listening.embedded_redis_bytes:
            self._supervisor.add(self._valkey_child())
        if self._listening.http.workers > 1:
            make_board(self._home.run / BOARD, num_workers=self._listening.http.workers)
        for index in range(self._listening.http.workers):
            self._supervisor.add(self._api_child(index))
        if self._edge is not None:
            self._edge.start(self._listening.edge)
        self._supervisor.add(self._jobs_child())

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
            for child in self._front():
                self._check_alive(child)
            if self._clock.monotonic_s() > deadline_s:
                raise NotReady(
                    f"the API was not ready within {self._settings.start_timeout_s:g} s",
                    hint=f"see {self._home.logs / 'api.log'}; a longer wait: ASHORE_START_TIMEOUT_S",
                )
            self._supervisor.tick(0.05)

    def apply(self, plan: Plan, listening: Listening) -> tuple[Change, ...]:
        """Change over to another plan without dropping a stream, and return what changed.

        New hosts load first; when all are ready the API worker is told; then the old ones drain. A host that cannot
        load ends the change: everything new is stopped, and the old plan goes on.

        Of `listening`, what `kept_for_life` names stays as it was.

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
            if self._edge is not None:
                self._edge.apply(listening.edge)
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
        self._listening = dataclasses.replace(
            self._listening, admission=listening.admission, cache=listening.cache, edge=listening.edge
        )
        self._write_topology()
        for index in range(self._listening.http.workers):
            self._supervisor.send(worker_name(index), signal.SIGHUP)
        self._wait_switched()
        deadline_s = self._clock.monotonic_s() + self._settings.drain_timeout_s
        self._retiring += [_Retiring(r, deadline_s) for running in gone for r in running.replicas]
        return changes

    # --- hosts

    def _start_model(self, model: ModelPlan, files: ModelFiles) -> Running:
        self._num_releases += 1
        replicas = []
        for number in range(model.replicas):
            self._num_hosts += 1
            stem = f"host-{self._num_hosts}"
            socket, launch = self._home.run / f"{stem}.sock", self._home.run / f"{stem}.json"
            order = HostLaunch(
                files=files,
                options=model.options,
                adapters=dict(model.adapters),
                drain_s=self._settings.drain_timeout_s,
            )
            write_launch(order, launch)
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
        return Running(
            plan=model,
            files=files,
            replicas=tuple(replicas),
            created_s=int(self._clock.now_s()),
            slot=self._num_releases,
            content=content_of(files, model.options, dict(model.adapters)),
        )

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

    def _front(self) -> tuple[str, ...]:
        """Return the names of everything that stands before the hosts."""
        workers = tuple(worker_name(index) for index in range(self._listening.http.workers))
        return (*workers, EDGE) if self._edge is not None else workers

    def _api_child(self, index: int) -> ChildSpec:
        return ChildSpec(
            name=worker_name(index),
            argv=(
                sys.executable,
                "-m",
                "ashore.api.worker",
                "--run",
                str(self._home.run),
                "--index",
                str(index),
                "--log-level",
                self._settings.log_level,
            ),
            log=self._home.logs / f"{worker_name(index).replace(' ', '-')}.log",
            control_flag="",
            stage=0,
            essential=True,
            drain_s=self._settings.drain_timeout_s + DRAIN_MARGIN_S,
        )

    def _jobs_child(self) -> ChildSpec:
        """The job worker. It stops before the API does, so that what it runs is given back and not cut off."""
        listening, settings = self._listening, self._settings
        launch = JobsLaunch(
            owner=f"{platform.node()}:{self._home.root}",
            state_url=settings.state_url,
            state_path=str(self._home.state_db),
            snapshots=str(self._home.snapshots),
            api=tuple(
                api_address(worker_listen(listening, self._home, index).http)
                for index in range(1 if not listening.has_edge else listening.http.workers)
            ),
            token_file=str(self._home.internal_token),
            concurrency=listening.jobs.concurrency,
            max_attempts=listening.jobs.max_attempts,
            result_ttl_s=listening.jobs.result_ttl_s,
            egress=listening.egress.allow,
        )
        write_jobs_launch(launch, self._home.run / "jobs.json")
        return ChildSpec(
            name="jobs",
            argv=tuple(jobs_command(self._home.run / "jobs.json", settings.log_level)),
            log=self._home.logs / "jobs.log",
            control_flag="",
            stage=-1,
            drain_s=DRAIN_MARGIN_S,
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
        workers = tuple(worker_listen(listening, self._home, index) for index in range(listening.http.workers))
        topology = Topology(
            models=tuple(
                ServedModel(
                    alias=alias,
                    release=running.plan.release,
                    kind=running.plan.options.kind,
                    sockets=tuple(str(replica.socket) for replica in running.replicas),
                    text_dir="" if running.plan.options.kind == "fake" else running.files.directory,
                    adapters=tuple(name for name, _ in running.plan.adapters),
                    embedder=running.plan.embedder,
                    slot=running.slot,
                    created_s=running.created_s,
                    content=running.content,
                )
                for alias, running in self._running.items()
            ),
            http=workers[0].http,
            grpc=workers[0].grpc,
            workers=workers,
            board=str(self._home.run / BOARD) if len(workers) > 1 else "",
            edge=EdgeAddress(url=listening.address, ca_file=listening.authority(self._home))
            if listening.has_edge
            else None,
            admission=AdmissionLimits(
                max_waiting=listening.admission.max_waiting,
                max_tokens_in_flight=listening.admission.max_tokens_in_flight,
                default_deadline_s=listening.admission.default_deadline_s,
                max_deadline_s=max(MAX_DEADLINE_S, listening.admission.default_deadline_s),
            ),
            cache=listening.cache,
            redis=listening.redis,
            state=StateLink(
                url=self._settings.state_url, path=str(self._home.state_db), snapshots=str(self._home.snapshots)
            ),
            jobs=JobLimits(
                max_attempts=listening.jobs.max_attempts,
                result_ttl_ms=int(listening.jobs.result_ttl_s * 1000),
                max_file_bytes=listening.jobs.max_file_bytes,
                egress=listening.egress.allow,
            ),
            internal_token_file=str(self._home.internal_token),
            first_key_file=str(self._home.first_key),
            drain_timeout_s=self._settings.drain_timeout_s,
        )
        write_topology(topology, self._home.topology)

    def _api_is_ready(self) -> bool:
        indexes = range(self._listening.http.workers)
        answer = all(self._get(index, "/readyz") is not None for index in indexes)
        return answer and (self._edge is None or self._edge.is_ready())

    def _wait_switched(self) -> None:
        """Wait until the API worker serves the releases of the topology, or a little while."""
        wanted = {
            name: running.plan.release
            for alias, running in self._running.items()
            for name in (alias, *(f"{alias}:{adapter}" for adapter, _ in running.plan.adapters))
        }
        deadline_s = self._clock.monotonic_s() + 10
        while self._clock.monotonic_s() < deadline_s and not self._supervisor.stop_requested:
            indexes = range(self._listening.http.workers)
            if all(releases_of(self._get(i, "/v1/models", key_file=self._home.first_key)) == wanted for i in indexes):
                return
            self._supervisor.tick(0.05)
        self._say("the API did not confirm the new topology within 10 s; see its log")

    def _get(self, index: int, target: str, *, key_file: Path | None = None) -> bytes | None:
        """Ask one API worker; None unless it answers 200."""
        headers = {"authorization": f"Bearer {key_file.read_text().strip()}"} if key_file else {}
        where = worker_listen(self._listening, self._home, index).http
        if where.uds:
            return get_from(Path(where.uds), target, headers=headers)
        return get_from((where.host, where.port), target, headers=headers)

    def _clear_run_folder(self) -> None:
        """Remove what a supervisor that was killed left behind. The lock on the home says that nobody uses it."""
        for pattern in ("host-*.sock", "host-*.json", ".host-*", "valkey.sock", "api-*.sock", "grpc-*.sock"):
            for path in self._home.run.glob(pattern):
                path.unlink(missing_ok=True)


def worker_name(index: int) -> str:
    """Return the name of an API worker under the supervisor."""
    return API if index == 0 else f"{API} {index}"


def worker_listen(listening: Listening, home: Home, index: int) -> WorkerListen:
    """Return where API worker `index` listens: behind an edge on unix sockets alone, so that nobody goes around it."""
    if listening.has_edge:
        sockets = worker_sockets(home.run, index)
        return WorkerListen(http=HttpListen(uds=sockets.http), grpc=GrpcListen(uds=sockets.grpc))
    grpc = listening.grpc
    return WorkerListen(
        http=HttpListen(host=listening.http.host, port=listening.http.port),
        grpc=GrpcListen(host=grpc.host, port=grpc.port) if grpc.port else None,
    )


def api_address(where: HttpListen) -> ApiAddress:
    """Return how a process of this machine reaches an API worker."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(where.host, where.host)
    return ApiAddress(uds=where.uds) if where.uds else ApiAddress(host=host, port=where.port)


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
