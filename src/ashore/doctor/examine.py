"""From a home to readings: two looks, and what lies there. The only part of the doctor that looks at the world."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import ashore
from ashore.core import split_url
from ashore.doctor.look import Between, Look
from ashore.doctor.probes import beside, disks, gpus, home, logs, machine, processes, serving
from ashore.doctor.probes.files import text_of
from ashore.doctor.probes.home import Backend
from ashore.doctor.readings import Configuration, Readings, Server
from ashore.errors import AshoreError, NotReady
from ashore.processes import ask, get_from, read_holder
from ashore.settings import Settings

if TYPE_CHECKING:
    from ashore.releases import Book
    from ashore.serving import ServedModel, Topology
    from ashore.state import Database
    from ashore.store import ModelStore

ANSWER_S: Final = 3.0
"""Longest wait for the server, or its supervisor, to say something."""
LOG_S: Final = 900.0
"""Logs are read this far back, unless `--since` says further."""
RESTARTS_S: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What the doctor of one home asks. Each may be missing; then the readings from it are."""

    settings: Settings
    open_state: Callable[[], Database] | None = None
    """Opens the state of a running server."""
    open_store: Callable[[], ModelStore] | None = None
    configuration: Callable[[Mapping[str, Any]], Configuration] = lambda told: Configuration()
    """Compares ashore.toml with what the supervisor says it runs."""
    unsealed: Callable[[], Sequence[str]] = lambda: ()
    """Secrets in clear that could be sealed."""
    backends: Callable[[Sequence[ServedModel]], Sequence[Backend]] = lambda served: ()
    """Servers of other machines behind releases."""
    root: Path = Path("/")


@dataclass(slots=True, kw_only=True)
class Scene:
    """What was found at the later look, beside the numbers."""

    supervisor: int = 0
    told: Mapping[str, Any] = field(default_factory=dict)
    """What the supervisor says; empty: it does not answer."""
    topology: Topology | None = None
    everyone: Mapping[int, processes.Seen] = field(default_factory=dict)
    mine: Sequence[processes.Seen] = ()
    orphans: Sequence[processes.Seen] = ()
    why_not: str = ""
    answered_in_s: float = 0.0
    token: str = ""


class Doctor:
    """Examines one home. Not for several threads at once."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._home = sources.settings.home
        self._root = sources.root

    def look(self) -> tuple[Look, Scene]:
        """Take one look. Costs some hundred file reads and two short questions to the server."""
        scene = self._scene()
        process = str(scene.supervisor or "self")
        numbers = dict(machine.count(self._root))
        numbers.update(machine.count_groups(self._root, process))
        numbers.update(processes.count(self._root, (*scene.mine, *scene.orphans), scene.everyone))
        numbers.update(disks.count(self._root, self._places(scene)))
        if scene.topology is not None:
            numbers.update(beside.count_cache(scene.topology.redis.url))
            if scene.topology.edge is not None:
                numbers.update(beside.count_edge(self._home.run / "envoy-admin.sock"))
        page = self._page(scene)
        return (
            Look(
                at_s=time.time(),
                mono_s=time.monotonic(),
                boot=text_of(self._root / "proc/sys/kernel/random/boot_id"),
                numbers=numbers,
                page=page,
                server=scene.supervisor,
            ),
            scene,
        )

    def _scene(self) -> Scene:
        scene = Scene(everyone=processes.every_process(self._root))
        holder = read_holder(self._home.lock)
        if holder is not None and holder.pid in scene.everyone:
            words = processes.words_of(self._root, holder.pid)
            if processes.role_of(words)[0] == "supervisor":
                scene.supervisor = holder.pid
        scene.mine = processes.processes_below(scene.everyone, scene.supervisor) if scene.supervisor else []
        scene.orphans = processes.orphans_of(self._root, scene.everyone, self._home, scene.mine)
        if scene.supervisor:
            try:
                for line in ask(self._home.control_socket, {"op": "status"}, timeout_s=ANSWER_S):
                    scene.told = line
                scene.topology = self._topology()
            except (AshoreError, OSError, ValueError) as fault:
                scene.why_not = f"the supervisor does not answer: {fault}"
        return scene

    def _topology(self) -> Topology:
        from ashore.serving import read_topology

        return read_topology(self._home.topology)

    def _page(self, scene: Scene) -> str:
        """Return the page of metrics of the running server, and note whether it is ready."""
        topology = scene.topology
        if topology is None:
            return ""
        scene.token = text_of(self._home.internal_token)
        where = self._worker(topology)
        start_s = time.monotonic()
        ready = get_from(where, "/readyz", timeout_s=ANSWER_S)
        scene.answered_in_s = time.monotonic() - start_s
        if ready is None:
            scene.why_not = _why_not(where)
        headers = {"authorization": f"Bearer {scene.token}"}
        page = get_from(where, "/metrics", headers=headers, timeout_s=ANSWER_S)
        return (page or b"").decode(errors="replace")

    def _worker(self, topology: Topology) -> Path | tuple[str, int]:
        """Return where the first API worker listens: a question there does not pass the edge."""
        listen = topology.workers[0].http if topology.workers else topology.http
        return Path(listen.uds) if listen.uds else (listen.host, listen.port)

    def _places(self, scene: Scene) -> dict[str, Path]:
        places = {"home": self._home.root, "store": self._home.store, "audit": self._home.audit, "run": self._home.run}
        if (self._root / "dev/shm").is_dir():
            places["shm"] = self._root / "dev/shm"
        for place in self._nodes():
            places[f"backup node {place}"] = place
        return places

    def _nodes(self) -> list[Path]:
        from ashore.backup import BackupHome

        kept = BackupHome(self._home.root)
        if not kept.has_vault:
            return []
        try:
            return [Path(place) for place in kept.read().places if place.startswith("/")]
        except AshoreError:
            return []

    def readings(self, before: Look | None, after: Look, scene: Scene, *, since_s: float = 0.0) -> Readings:
        """Return what was measured.

        Args:
            before: An earlier look; None: nothing is known to have grown.
            after: From `look`.
            scene: From the same.
            since_s: Logs are read from this moment on; 0: from a quarter of an hour ago.
        """
        missing: dict[str, str] = {}
        between = Between(before, after)
        running = bool(scene.told)
        if not scene.supervisor or not running:
            for name in ("server", "hosts", "models", "edge", "cache", "configuration", "releases", "processes"):
                missing[name] = "no server runs from this home"
        if scene.supervisor or scene.orphans:
            missing.pop("processes", None)
        if before is None:
            missing["log.growth"] = "there was one look"
        parts: dict[str, Any] = {}

        @contextmanager
        def part(name: str) -> Iterator[None]:
            try:
                yield
            except (AshoreError, OSError, ValueError, KeyError) as fault:
                missing[name] = str(fault) or type(fault).__name__

        root, settings, now_s = self._root, self._sources.settings, after.at_s
        with part("processes"):
            parts["processes"] = self._processes(scene, between)
        with part("cpu"):
            parts["cpu"] = machine.read_cpu(root, between, processes.stranger_of(scene.everyone, between), missing)
        with part("memory"):
            parts["memory"] = machine.read_memory(root, between)
        with part("groups"):
            parts["groups"] = machine.read_groups(root, str(scene.supervisor or "self"), between)
        with part("network"):
            parts["network"] = machine.read_network(root, between)
        with part("places"):
            parts["places"] = disks.read_places(root, self._places(scene), between)
        with part("disk"):
            parts["disk"] = disks.read_disk(root, self._home.root, between, missing)
        with part("log"):
            span_s = since_s or now_s - LOG_S
            parts["log"] = logs.read_logs(self._home.logs, self._home.root / "training", since_s=span_s)
        newest_s = 0.0
        audit_section = scene.topology.audit.section if scene.topology else None
        with part("audit"):
            checkpoint_s = audit_section.checkpoint_s if audit_section else 30.0
            anchors = len(audit_section.anchors) if audit_section else 1
            parts["audit"], newest_s = home.read_audit(self._home, now_s, checkpoint_s, anchors, missing)
        with part("clock"):
            parts["clock"] = machine.read_clock(between, newest_s, missing)
        with part("gpus"):
            parts["gpus"] = gpus.read_gpus({one.pid for one in scene.mine}, missing)
        with part("state"):
            parts["state"] = self._state(running)
        if running:
            self._of_the_server(parts, part, missing, scene, between)
        else:
            with part("access"):
                parts["access"] = home.read_access(self._home, None, now_s, ())
            with part("stored"):
                parts["stored"] = home.read_stored(self._home, None, None)
            with part("backup"):
                parts["backup"] = serving.read_backup(
                    serving.samples_of(between), now_s, set_up=bool(self._nodes_known()), shared_device=self._shared()
                )
            parts["server"] = Server(
                running=False, answers=False, why_not=scene.why_not or "no server runs from this home"
            )
        with part("configuration.unknown_variables"):
            told = parts.get("configuration", Configuration())
            import msgspec

            parts["configuration"] = msgspec.structs.replace(told, unknown_variables=settings.warnings)
        return Readings(at_s=now_s, span_s=between.span_s, missing=missing, **parts)

    def _of_the_server(
        self, parts: dict[str, Any], part: Callable[[str], Any], missing: dict[str, str], scene: Scene, between: Between
    ) -> None:
        """Read what only a running server has."""
        topology, now_s = scene.topology, between.after.at_s
        assert topology is not None
        samples = serving.samples_of(between)
        if samples.is_empty:
            missing["models"] = missing["hosts"] = missing["server.loop_busy_share"] = "the server gave no metrics"
        database, book = None, None
        with part("releases"):
            if self._sources.open_state is not None:
                database = self._sources.open_state()
                book = _book(database)
        served = (*topology.models, *topology.beside)
        with part("releases"):
            if book is not None:
                parts["releases"] = home.read_releases(book, now_s, self._sources.backends(served))
        with part("hosts"):
            needed = {} if book is None else {
                name: one.needed_bytes // max(1, one.plan.replicas) for name, one in book.releases.items()
            }  # fmt: skip
            parts["hosts"] = serving.read_hosts(samples, served, self._host_pids(scene), _launches(served), needed)
        with part("models"):
            parts["models"] = serving.read_models(samples, topology, _tuned(database, topology, book))
        with part("server"):
            parts["server"] = serving.read_server(
                samples,
                why_not=scene.why_not,
                answered_in_s=scene.answered_in_s,
                by_unit=self._by_unit(scene.supervisor),
                restarts=scene.told.get("restarts") or {},
            )
        with part("cache"):
            up = samples.total("ashore_shared_cache_up")
            parts["cache"] = beside.read_cache(topology.redis.url, up, between, missing)
        with part("edge"):
            most = int((scene.told.get("listening") or {}).get("edge", {}).get("max_connections", 0) or 0)
            parts["edge"] = beside.read_edge(topology.edge is not None, self._home.edge, between, most)
        with part("access"):
            parts["access"] = home.read_access(self._home, database, now_s, self._sources.unsealed())
        with part("stored"):
            opens = self._sources.open_store
            store = opens() if opens is not None and not self._home.restoring.exists() else None
            parts["stored"] = home.read_stored(self._home, store, book)
        with part("backup"):
            parts["backup"] = serving.read_backup(
                samples, now_s, set_up=bool(self._nodes_known()), shared_device=self._shared()
            )
        with part("audit"):
            if "audit" in parts:
                parts["audit"] = serving.audit_figures(samples, parts["audit"])
        with part("lookups"):
            parts["lookups"] = beside.look_up(self._names(topology, book))
        with part("configuration"):
            parts["configuration"] = self._sources.configuration(scene.told)
        if database is not None:
            database.close()

    def _nodes_known(self) -> bool:
        from ashore.backup import BackupHome

        return BackupHome(self._home.root).has_vault

    def _shared(self) -> tuple[str, ...]:
        """Return the backup nodes that lie on the disk of the home, or of another node."""
        seen: dict[int, str] = {}
        shared = []
        for path in (self._home.root, *self._nodes()):
            try:
                device = path.stat().st_dev
            except OSError:
                continue
            if device in seen and path != self._home.root:
                shared.append(str(path))
            seen[device] = str(path)
        return tuple(shared)

    def _processes(self, scene: Scene, between: Between) -> tuple[Any, ...]:
        names = {}
        if scene.topology is not None:
            for one in (*scene.topology.models, *scene.topology.beside):
                names.update({socket: f"{one.alias}-{replica}" for replica, socket in enumerate(one.sockets)})
        code_s = Path(ashore.__file__).stat().st_mtime
        return processes.read_processes(self._root, scene.mine, scene.orphans, between, names, code_s)

    def _host_pids(self, scene: Scene) -> dict[str, int]:
        found = {}
        for one in scene.mine:
            words = processes.words_of(self._root, one.pid)
            if processes.role_of(words)[0] == "host" and "--socket" in words[:-1] and one.state != "Z":
                found[words[words.index("--socket") + 1]] = one.pid
        return found

    def _state(self, running: bool) -> Any:
        url = self._sources.settings.state_url
        if not url or url.startswith("sqlite"):
            from ashore.state import path_of_url

            path = path_of_url(url, default=self._home.state_db)
            if not path.is_file() and not running:
                raise NotReady("this home has no state yet")
            return beside.read_sqlite(path)
        return self._postgres()

    def _postgres(self) -> Any:
        from ashore.doctor.readings import State
        from ashore.state import execute

        if self._sources.open_state is None:
            raise NotReady("nobody opens the state")
        try:
            database = self._sources.open_state()
        except AshoreError as fault:
            return State(kind="postgres", error=fault.message)
        try:
            with database.read() as connection:
                return beside.read_postgres(lambda query: [tuple(row) for row in execute(connection, query)])
        finally:
            database.close()

    def _names(self, topology: Topology, book: Book | None) -> list[str]:
        """Return the names of other machines that this server talks to; addresses need no look-up."""
        urls = [topology.redis.url, topology.state.url, *(one.issuer for one in topology.access.issuers)]
        if book is not None:
            urls += [str(value) for one in book.releases.values() for value in one.plan.options.extra.values()]
        urls += re.findall(r"https?://[^\"]+", text_of(self._home.fleet_servers))
        hosts = {split_url(url).hostname or "" for url in urls if "://" in url}
        return sorted(
            host
            for host in hosts
            if host and not host.replace(".", "").isdigit() and ":" not in host and host != "localhost"
        )

    def _by_unit(self, pid: int) -> bool:
        """Whether a service manager or a container started the server."""
        try:
            environ = (self._root / "proc" / str(pid) / "environ").read_bytes()
        except OSError:
            return True
        return (
            b"INVOCATION_ID=" in environ
            or b"KUBERNETES_SERVICE_HOST=" in environ
            or _first_of_its_namespace(self._root, pid)
        )


def _first_of_its_namespace(root: Path, pid: int) -> bool:
    for line in text_of(root / "proc" / str(pid) / "status").splitlines():
        if line.startswith("NSpid:"):
            return line.split()[-1] == "1"
    return False


def _why_not(where: Path | tuple[str, int]) -> str:
    """Return what the server says of why it is not ready."""
    import http.client

    from ashore.processes.look import UnixConnection

    connection: http.client.HTTPConnection = (
        UnixConnection(where, ANSWER_S)
        if isinstance(where, Path)
        else http.client.HTTPConnection(
            {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(where[0], where[0]), where[1], timeout=ANSWER_S
        )
    )
    try:
        connection.request("GET", "/readyz")
        told = json.loads(connection.getresponse().read())
        return str(told.get("error", {}).get("message") or told.get("status") or "it is not ready")
    except (OSError, ValueError, http.client.HTTPException, AttributeError) as fault:
        return f"the API does not answer: {fault or type(fault).__name__}"
    finally:
        connection.close()


def _book(database: Database) -> Book:
    from ashore.releases import load_book

    with database.read() as connection:
        return load_book(connection)


def _launches(served: Sequence[ServedModel]) -> dict[str, Mapping[str, object]]:
    """Return what each host was started with, by its socket."""
    found: dict[str, Mapping[str, object]] = {}
    for one in served:
        for socket in one.sockets:
            try:
                found[socket] = json.loads(Path(socket).with_suffix(".json").read_bytes())
            except (OSError, ValueError):
                continue
    return found


def _tuned(database: Database | None, topology: Topology, book: Book | None) -> dict[str, bool]:
    """Return of each alias whether its model was measured here."""
    from ashore.engines import card_of
    from ashore.state import load_tuning

    if database is None or book is None:
        return {}
    found = {}
    with database.read() as connection:
        for one in topology.models:
            release = book.releases.get(one.release)
            if release is None or not card_of(one.kind).memory.ours or one.embedder:
                continue
            rows = [
                load_tuning(connection, model=release.plan.name, goal=goal)
                for goal in ("latency", "throughput", "balanced")
            ]
            found[one.alias] = any(row is not None for row in rows)
    return found
