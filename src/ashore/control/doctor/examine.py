"""From a home to readings: two looks, and what lies there. The only part of the doctor that looks at the world."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

import ashore
from ashore.control.doctor.look import Between, Look
from ashore.control.doctor.patience import Lanes, Step
from ashore.control.doctor.probes import beside, disks, listeners, machine, processes, serving
from ashore.control.doctor.probes.machine import text_of
from ashore.control.doctor.readings import Clock, Configuration, Disk, Readings, Server
from ashore.control.doctor.survey import LATE, Sources, Survey, Surveying, backup_nodes
from ashore.control.doctor.topology import TopologyPart
from ashore.core.errors import AshoreError
from ashore.kit.processes import ask, get_from, role_of
from ashore.kit.processes.launchfiles import read_launch
from ashore.kit.processes.lock import read_holder

ANSWER_S: Final = 2.5
"""Longest wait for the server, or its supervisor, to say something."""
AGAIN_S: Final = 1.0
"""Longest wait for who was silent at the look before."""
FIRST_S: Final = 3.0
SECOND_S: Final = 1.5
"""Longest waits for all who are asked at a look: the first one goes on while there is time before the second."""
PLACE_S: Final = 1.0
"""Longest wait for the disk of a folder to say how much room it has."""
SURVEY_S: Final = 3.0
"""Between the beginning of the first look and the moment at which what does not grow must be read."""


@dataclass(slots=True, kw_only=True)
class Scene:
    """What was found at the later look, beside the numbers."""

    supervisor: int = 0
    told: Mapping[str, Any] = field(default_factory=dict)
    """What the supervisor says; empty: it does not answer."""
    topology: TopologyPart | None = None
    everyone: Mapping[int, processes.Seen] = field(default_factory=dict)
    mine: Sequence[processes.Seen] = ()
    orphans: Sequence[processes.Seen] = ()
    why_not: str = ""
    token: str = ""
    late: tuple[str, ...] = ()
    """Who was asked and not heard in time, `cache` or `edge`: that they do not answer is another thing."""
    dead: frozenset[str] = frozenset()
    """Places that did not answer."""


class Doctor:
    """Examines one home. Not for several threads at once."""

    def __init__(self, sources: Sources, *, survey_s: float = SURVEY_S) -> None:
        """Make it; nothing is looked at. `survey_s`: see SURVEY_S."""
        self._survey_s = survey_s
        self._sources = sources
        self._home = sources.settings.home
        self._root = sources.root
        self._silent: frozenset[Path | tuple[str, int]] = frozenset()
        """Workers that did not answer at the last look."""
        self._is_mute = False
        """Whether the supervisor did not, then."""

    def examine(self, span_s: float) -> tuple[Readings, Scene, Look]:
        """Look twice, `span_s` apart, and survey meanwhile; 0: look once, and judge nothing that grows."""
        if span_s <= 0:
            look, scene = self.look()
            return self.readings(None, look, scene), scene, look
        before, first = self.look()
        surveying = self._survey(first)
        time.sleep(max(0.0, before.mono_s + span_s - time.monotonic()))
        look, scene = self.look(SECOND_S)
        surveyed = surveying.end(before.mono_s + max(span_s, self._survey_s))
        still = surveyed if surveyed.running == bool(scene.told) else None
        return self.readings(before, look, scene, surveyed=still), scene, look

    def _survey(self, scene: Scene, *, since_s: float = 0.0) -> Surveying:
        """Begin to look at what does not grow."""
        return Surveying(self._sources, scene.told, scene.topology, since_s)

    def look(self, patience_s: float = FIRST_S) -> tuple[Look, Scene]:
        """Take one look. Costs some hundred file reads and some short questions to the server.

        Args:
            patience_s: Longest wait for all who are asked.
        """
        scene = self._scene()
        # What the kernel counts is read at one moment, before anybody is asked who may take a while to answer.
        at_s, mono_s = time.time(), time.monotonic()
        process = str(scene.supervisor or "self")
        numbers = dict(machine.count(self._root))
        numbers.update(machine.count_groups(self._root, process))
        numbers.update(processes.count(self._root, (*scene.mine, *scene.orphans), scene.everyone))
        numbers.update(listeners.count(self._root, (one.pid for one in (*scene.mine, *scene.orphans))))
        numbers.update(self._count_disks(scene))
        page = self._ask(scene, numbers, mono_s + patience_s)
        return (
            Look(
                at_s=at_s,
                mono_s=mono_s,
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
            if role_of(words)[0] == "supervisor":
                scene.supervisor = holder.pid
        scene.mine = processes.processes_below(scene.everyone, scene.supervisor) if scene.supervisor else []
        scene.orphans = processes.orphans_of(self._root, scene.everyone, self._home, scene.mine)
        return scene

    def _ask(self, scene: Scene, numbers: dict[str, float], until_s: float) -> str:
        """Ask the supervisor, and then its workers, the cache and the edge, these at the same time.

        Args:
            scene: Is told what they say of themselves.
            numbers: Is told what they count.
            until_s: Nobody is waited for any longer, by the monotonic clock.

        Returns:
            The server's page of metrics; empty: it gave none.
        """
        if scene.supervisor:
            try:
                patience_s = AGAIN_S if self._is_mute else ANSWER_S
                for line in ask(self._home.control_socket, {"op": "status"}, timeout_s=patience_s):
                    scene.told = line
                scene.topology = read_launch(self._home.topology, TopologyPart)
                self._is_mute = False
            except (AshoreError, OSError, ValueError) as fault:
                self._is_mute = isinstance(fault, TimeoutError)
                scene.why_not = f"the supervisor does not answer: {fault}"
        topology = scene.topology
        if topology is None:
            return ""
        cache, edge, pages = dict[str, float](), dict[str, float](), list[str]()
        left_s = max(AGAIN_S, until_s - time.monotonic())
        lanes = [
            [Step(names=("page",), work=lambda: pages.append(self._page(scene, topology, left_s)))],
            [Step(names=("cache",), work=lambda: cache.update(beside.count_cache(topology.redis.url)))],
        ]
        if topology.edge is not None:
            admin = self._home.run / "envoy-admin.sock"
            lanes.append([Step(names=("edge",), work=lambda: edge.update(beside.count_edge(admin)))])
        scene.late = Lanes(*lanes).end(until_s + AGAIN_S)
        numbers.update(cache)
        numbers.update(edge)
        return next(iter(pages), "")

    def _page(self, scene: Scene, topology: TopologyPart, left_s: float) -> str:
        """Return the page of metrics of the running server, and note whether every worker of it is ready."""
        scene.token = text_of(self._home.internal_token)
        headers = {"authorization": f"Bearer {scene.token}"}
        usual_s = min(ANSWER_S, left_s)
        patience_s = {one: AGAIN_S if one in self._silent else usual_s for one in topology.listening}
        told = serving.ask_workers(patience_s)
        self._silent = frozenset(one.where for one in told if one.is_silent)
        scene.why_not = next((one.why_not for one in told if one.why_not), "")
        for one in told:
            if not one.is_silent:
                page = get_from(one.where, "/metrics", headers=headers, timeout_s=ANSWER_S)
                if page is not None:
                    return page.decode(errors="replace")
        return ""

    def _count_disks(self, scene: Scene) -> dict[str, float]:
        """Return what disks and places count, and note which places do not answer: a mount of a server that is gone
        never does."""
        found: dict[str, float] = {}

        def ask(name: str, path: Path) -> Step:
            return Step(names=(name,), work=lambda: found.update(disks.count_place(name, path)))

        steps = [ask(name, path) for name, path in self._places(scene).items()]
        scene.dead = frozenset(Lanes(*([one] for one in steps)).end(time.monotonic() + PLACE_S))
        return found.copy()

    def _places(self, scene: Scene) -> dict[str, Path]:
        places = {"home": self._home.root, "store": self._home.store, "audit": self._home.audit, "run": self._home.run}
        if (self._root / "dev/shm").is_dir():
            places["shm"] = self._root / "dev/shm"
        for place in backup_nodes(self._home) or ():
            places[f"backup node {place}"] = place
        return places

    def readings(
        self, before: Look | None, after: Look, scene: Scene, *, since_s: float = 0.0, surveyed: Survey | None = None
    ) -> Readings:
        """Return what was measured.

        Args:
            before: An earlier look; None: nothing is known to have grown.
            after: From `look`.
            scene: From the same.
            since_s: Logs are read from this moment on; 0: from a quarter of an hour ago.
            surveyed: What does not grow; None: it is looked at now.
        """
        found = surveyed or self._survey(scene, since_s=since_s).end(time.monotonic() + self._survey_s)
        parts, missing = found.parts, found.missing
        between = Between(before, after)
        running = bool(scene.told)
        if not scene.supervisor or not running:
            for name in ("server", "hosts", "models", "edge", "cache", "configuration", "releases", "processes"):
                missing[name] = "no server runs from this home"
        if scene.supervisor or scene.orphans:
            missing.pop("processes", None)
        if before is None:
            missing["log.growth"] = "there was one look"
        root, settings = self._root, self._sources.settings
        with found.part("processes"):
            parts["processes"] = self._processes(scene, between)
        with found.part("cpu"):
            parts["cpu"] = machine.read_cpu(root, between, processes.stranger_of(scene.everyone, between), missing)
        with found.part("memory"):
            parts["memory"] = machine.read_memory(root, between)
        with found.part("groups"):
            parts["groups"] = machine.read_groups(root, str(scene.supervisor or "self"), between)
        with found.part("network"):
            parts["network"] = machine.read_network(root, between)
        with found.part("places"):
            places = {name: path for name, path in self._places(scene).items() if name not in scene.dead}
            parts["places"] = disks.read_places(root, places, between)
        parts["disk"] = Disk(fsync_ms=found.written[0], write_error=found.written[1])
        parts["clock"] = Clock(stepped_s=between.stepped_s, behind_record_s=found.record_ahead_s)
        with found.part("backup"):
            parts["backup"] = serving.read_backup(
                serving.samples_of(between), after.at_s, set_up=found.vault, shared_device=found.shared_device
            )
        if scene.dead:
            missing["backup"] = f"{', '.join(sorted(scene.dead))} did not answer within {PLACE_S:.0f} s"
        if running:
            self._of_the_server(found, scene, between)
        else:
            parts["server"] = Server(
                running=False, answers=False, why_not=scene.why_not or "no server runs from this home"
            )
        with found.part("configuration.unknown_variables"):
            told = parts.get("configuration", Configuration())
            parts["configuration"] = replace(told, unknown_variables=settings.warnings)
        return Readings(at_s=after.at_s, span_s=between.span_s, missing=missing, **parts)

    def _of_the_server(self, found: Survey, scene: Scene, between: Between) -> None:
        """Read what a running server counts."""
        topology, parts, missing = scene.topology, found.parts, found.missing
        assert topology is not None
        samples = serving.samples_of(between)
        missing.update(dict.fromkeys((name for name in scene.late if name != "page"), LATE))
        if samples.is_empty:
            missing["models"] = missing["hosts"] = "the server gave no metrics"
        with found.part("hosts"):
            parts["hosts"] = serving.read_hosts(samples, topology.served, self._host_pids(scene), found.launches)
        with found.part("models"):
            parts["models"] = serving.read_models(samples, topology.served, found.tuned)
        with found.part("server"):
            parts["server"] = serving.read_server(
                samples,
                why_not=scene.why_not,
                is_silent=bool(self._silent),
                by_unit=self._by_unit(scene.supervisor),
                restarts=scene.told.get("restarts") or {},
                endings=scene.told.get("endings") or {},
            )
        with found.part("cache"):
            up = samples.total("ashore_shared_cache_up")
            parts["cache"] = beside.read_cache(topology.redis.url, up, between, missing)
        with found.part("edge"):
            parts["edge"] = beside.read_edge(topology.edge is not None, self._home.edge, between)

    def _processes(self, scene: Scene, between: Between) -> tuple[Any, ...]:
        names = {}
        if scene.topology is not None:
            for one in scene.topology.served:
                names.update({socket: f"{one.alias}-{replica}" for replica, socket in enumerate(one.sockets)})
        code_s = Path(ashore.__file__).stat().st_mtime
        return processes.read_processes(self._root, scene.mine, scene.orphans, between, names, code_s)

    def _host_pids(self, scene: Scene) -> dict[str, int]:
        found = {}
        for one in scene.mine:
            words = processes.words_of(self._root, one.pid)
            if role_of(words)[0] == "host" and "--socket" in words[:-1] and one.state != "Z":
                found[words[words.index("--socket") + 1]] = one.pid
        return found

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
