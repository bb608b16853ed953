"""Processes around the hosts: API workers, job worker and edge, and how they learn what runs."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Mapping, Set
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from ashore.core.clock import Clock
from ashore.core.errors import NotReady
from ashore.data.authority import make_internal_token
from ashore.data.path import Topology, make_board, write_topology
from ashore.kit.decode import UNDECODABLE
from ashore.kit.listed import LISTED
from ashore.kit.processes import get_from
from ashore.kit.processes.supervisor import Supervisor
from ashore.kit.section import Section
from ashore.kit.settings import Home, Settings
from ashore.machine.config import Listening
from ashore.machine.deployment.children import (
    CONTROL,
    api_child,
    check_alive,
    control_child,
    jobs_child,
    room_child,
    valkey_child,
    worker_name,
)
from ashore.machine.deployment.hosts import Running
from ashore.machine.deployment.listening import worker_listen
from ashore.machine.deployment.topology import BOARD
from ashore.machine.edge import EDGE, EdgeKeeper

SWITCHED_S: Final = 10.0
"""How long API workers may take to apply a new topology."""
CONTROL_S: Final = 10.0
"""How long a start waits for the control process, once clients are answered."""
CONTROL_LOOK_S: Final = 0.1
"""How long one look at it may hold up the supervisor."""
PUBLISH_AGAIN_S: Final = 1.0
"""Between two attempts to publish the topology, if it cannot be written."""


class Front:
    """The processes between clients and hosts. All methods are called from the supervisor's thread."""

    def __init__(
        self,
        *,
        home: Home,
        settings: Settings,
        listening: Listening,
        config: str,
        supervisor: Supervisor,
        clock: Clock,
        say: Callable[[str], None],
        topology: Callable[[Listening], Topology],
    ) -> None:
        """Create it; starts nothing.

        Args:
            home: Sockets, launch files and logs go there.
            settings: Timeouts.
            listening: All of ashore.toml but the models.
            config: Absolute path of that file; empty: there is none.
            supervisor: Owns the processes.
            clock: Deadlines.
            say: Called with each message.
            topology: Returns the current topology for the API workers.
        """
        self.listening = listening
        self._home = home
        self._settings = settings
        self._config = config
        self._supervisor = supervisor
        self._clock = clock
        self._say = say
        self._topology = topology
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
                longest_answer_s=listening.admission.max_deadline_s,
                max_file_bytes=listening.jobs.max_file_bytes,
            )
        self._is_published = True
        """Whether the topology was published to the API workers."""
        supervisor.call_every("topology of the workers", PUBLISH_AGAIN_S, self._publish_again)

    def start(self) -> None:
        """Start everything. Returns at once."""
        listening, home, settings = self.listening, self._home, self._settings
        make_internal_token(home.internal_token)
        self._write_topology()
        if listening.redis.is_embedded:
            self._supervisor.add(valkey_child(home, max_bytes=listening.redis.max_bytes))
        if listening.http.workers > 1:
            make_board(home.run / BOARD, num_workers=listening.http.workers)
        for index in range(listening.http.workers):
            self._supervisor.add(api_child(index, home=home, settings=settings))
        self._supervisor.add(control_child(home=home, settings=settings))
        if self._edge is not None:
            self._edge.start(listening.edge)
        self._supervisor.add(jobs_child(listening=listening, home=home, settings=settings, config=self._config))
        for room in LISTED:
            if room.child and listening.section(room.section, Section).runs:
                self._supervisor.add(room_child(room, home=home, settings=settings))

    def wait_ready(self, deadline_s: float) -> None:
        """Return when every worker and the edge answer, or when a stop is requested.

        Raises:
            AshoreError: a child exited too often, or was killed and is not up in time.
            NotReady: it took longer.
        """
        workers = tuple(worker_name(index) for index in range(self.listening.http.workers))
        children = (*workers, EDGE) if self._edge is not None else workers
        while not self._supervisor.stop_requested and not self._is_ready():
            for child in children:
                check_alive(self._supervisor, child, asked=True)
            if self._clock.monotonic_s() > deadline_s:
                for child in (one for one in children if self._supervisor.restarts(one)):
                    raise self._supervisor.failure_of(child)
                raise NotReady(
                    f"the API was not ready within {self._settings.start_timeout_s:g} s",
                    hint=f"see {self._home.logs / 'api.log'}; to wait longer, set ASHORE_START_TIMEOUT_S",
                )
            self._supervisor.tick(0.05)
        self._wait_control()

    def _wait_control(self) -> None:
        """Wait a moment for the control process, so that the console opens at once. Clients are answered already."""
        deadline_s = self._clock.monotonic_s() + CONTROL_S
        look = partial(get_from, self._home.admin_socket, "/healthz", timeout_s=CONTROL_LOOK_S)
        while not self._supervisor.stop_requested and look() is None:
            if self._clock.monotonic_s() > deadline_s:
                self._say(f"the control process is not up yet; see {self._home.logs / 'control.log'}")
                return
            self._supervisor.tick(0.05)

    def apply_edge(self, listening: Listening) -> None:
        """Apply the current ashore.toml to the edge.

        Raises:
            AshoreError: it cannot.
        """
        if self._edge is not None:
            self._edge.apply(listening.edge)

    def take(self, listening: Listening) -> None:
        """Apply the current ashore.toml, except keys that a running server keeps, and publish the topology."""
        self.listening = self.listening.reloaded(listening)
        self.publish()

    def publish(self) -> None:
        """Publish the topology to the API workers. If it cannot be written because the disk is full, it is published
        later.
        """
        try:
            self._write_topology()
        except OSError as fault:
            if self._is_published:
                self._say(
                    f"cannot report the running hosts to the API workers yet: {self._home.topology}: {fault.strerror}"
                )
            self._is_published = False
            return
        self._is_published = True
        for index in range(self.listening.http.workers):
            self._supervisor.send(worker_name(index), signal.SIGHUP)
        self._supervisor.send(CONTROL, signal.SIGHUP)

    def is_answered(self, alias: str) -> bool:
        """Return whether no worker reports the alias as unknown."""
        found = (self._releases_of(index) for index in range(self.listening.http.workers))
        return all(alias in releases for releases in found if releases)

    def wait_switched(self, fresh: Iterable[Running], gone: Iterable[Running]) -> None:
        """Wait, for a limited time, until every API worker answers with the new releases and none of the old.

        Anything else that a worker reports is ignored: an alias may have been set by hand.
        """
        plans = [running.plan for running in fresh]
        names = {name for one in plans for name in (one.alias, *(f"{one.alias}:{key}" for key, _ in one.adapters))}
        old = {(running.plan.alias, running.plan.release) for running in gone}
        deadline_s = self._clock.monotonic_s() + SWITCHED_S
        while self._clock.monotonic_s() < deadline_s and not self._supervisor.stop_requested:
            found = [self._releases_of(index) for index in range(self.listening.http.workers)]
            if all(has_switched(releases, names, old) for releases in found):
                return
            self._supervisor.tick(0.05)
        self._say(f"the API did not confirm the new topology within {SWITCHED_S:g} s; see its log")

    def _publish_again(self) -> None:
        if not self._is_published:
            self.publish()

    def _write_topology(self) -> None:
        write_topology(self._topology(self.listening), self._home.topology)

    def _is_ready(self) -> bool:
        indexes = range(self.listening.http.workers)
        answer = all(self._get(index, "/readyz") is not None for index in indexes)
        return answer and (self._edge is None or self._edge.is_ready())

    def _releases_of(self, index: int) -> Mapping[str, str]:
        """Return the live releases that one API worker reports, by alias; empty if it does not report any."""
        return releases_of(self._get(index, "/v1/models", key_file=self._home.internal_token))

    def _get(self, index: int, target: str, *, key_file: Path | None = None) -> bytes | None:
        """Send a GET to one API worker; None unless it answers 200."""
        headers = {"authorization": f"Bearer {key_file.read_text().strip()}"} if key_file else {}
        where = worker_listen(self.listening, self._home, index).http
        if where.uds:
            return get_from(Path(where.uds), target, headers=headers)
        return get_from((where.host, where.port), target, headers=headers)


def has_switched(releases: Mapping[str, str], names: Set[str], old: Set[tuple[str, str]]) -> bool:
    """Return whether a worker serves every one of `names`, and no release of `old` under its alias.

    Args:
        releases: Live releases that the worker reports, by alias; empty if none.
        names: Aliases, those of adapters too, that must be there.
        old: Aliases and releases that must not.
    """
    return bool(releases or not names) and names <= releases.keys() and not old & set(releases.items())


def releases_of(models: bytes | None) -> Mapping[str, str]:
    """Return alias -> release from an answer of `/v1/models`; empty where it cannot be read."""
    if models is None:
        return {}
    try:
        items = msgspec.json.decode(models)["data"]
        return {item["id"]: item["release"] for item in items}
    except (*UNDECODABLE, KeyError, TypeError):
        return {}
