"""The engine hosts of a deployment: started for a model, awaited, and retired when another model replaces it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ashore.core.clock import Clock
from ashore.core.errors import AshoreError, Draining, EngineFailed, HostDied, NotReady
from ashore.data.engines import (
    FLEET_FILE,
    FLEET_IDENTITY,
    EngineInfo,
    HostClient,
    HostLaunch,
    ModelPlan,
    PrefixPlace,
    content_of,
    host_command,
    why_file,
)
from ashore.kit.processes.child import ChildSpec
from ashore.kit.processes.launchfiles import write_launch
from ashore.kit.processes.supervisor import Supervisor
from ashore.kit.settings import Home, Settings
from ashore.machine.deployment.children import DRAIN_MARGIN_S, check_alive

if TYPE_CHECKING:
    from ashore.data.engines import ModelFiles

GREETING_S: Final = 1.0
"""Longest wait inside one look at a host that loads; Ctrl-C waits as long."""
PROBE_S: Final = 0.2
"""Longest wait for the status of a host that is to end."""
UNHEARD_S: Final = 60.0
"""A host that is to end and does not respond for this long hangs and is stopped; a computing step is shorter."""
REST_S: Final = 180.0
"""Longest time to fall asleep or wake up: the host copies its weights once."""
GLANCE_S: Final = 0.15
"""Longest wait for a greeting while the supervisor has other work."""


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
    pid: int | None
    """Process that answers; another process has none of its answers."""
    deadline_s: float
    heard_s: float
    """When it last reported its state."""
    idle_looks: int = 0


def _made_s(files: ModelFiles) -> int:
    """Return when a model was stored, by its newest file; 0 if it has none. The same after each start."""
    if not files.directory:
        return 0
    try:
        made = [int(file.stat().st_mtime) for file in Path(files.directory).iterdir() if file.is_file()]
    except OSError:
        return 0
    return max(made, default=0)


class Hosts:
    """Every engine host of one deployment, including those of earlier plans. Called from the supervisor's thread."""

    def __init__(
        self,
        *,
        home: Home,
        settings: Settings,
        supervisor: Supervisor,
        clock: Clock,
        started: Callable[[str, int | None], None] = lambda alias, pid: None,
        prefix_bytes: int = 0,
    ) -> None:
        """Create it; starts nothing. Sockets, launch files and logs go to `home`, and prefixes of prompts, at most
        `prefix_bytes` of them. `started` is called with alias and process of each host.
        """
        self._home = home
        self._settings = settings
        self._supervisor = supervisor
        self._clock = clock
        self._started = started
        self._prefixes = PrefixPlace(
            folder=str(home.prefixes), max_bytes=prefix_bytes, secrets_key=str(home.secrets_key)
        )
        if not prefix_bytes:
            shutil.rmtree(home.prefixes, ignore_errors=True)  # of a start with another setting
        self._num_hosts = 0
        self._slots: dict[str, int] = {}
        """By release: the same whenever it is loaded again."""
        self._retiring: list[_Retiring] = []
        self._resting: ThreadPoolExecutor | None = None

    def start(self, model: ModelPlan, files: ModelFiles) -> Running:
        """Start the hosts of one model under the names of a new release. Returns at once; `wait` waits.

        Raises:
            AshoreError: they cannot be started (an adapter's folder, a full disk, no process); none of them runs then.
        """
        content = content_of(files, model.options, dict(model.adapters))
        replicas: list[Replica] = []
        try:
            for number in range(model.replicas):
                replicas.append(self._start_one(model, files, number))
        except BaseException:
            for replica in replicas:
                self._supervisor.stop(replica.child)
            raise
        return Running(
            plan=model,
            files=files,
            replicas=tuple(replicas),
            created_s=_made_s(files) or int(self._clock.now_s()),
            slot=self._slots.setdefault(model.release, len(self._slots) + 1),
            content=content,
        )

    def cold(self, model: ModelPlan, files: ModelFiles) -> Running:
        """Return the entry of a model without hosts. Starts nothing.

        Raises:
            AshoreError: its adapters cannot be read.
        """
        return Running(
            plan=model,
            files=files,
            replicas=(),
            created_s=_made_s(files) or int(self._clock.now_s()),
            slot=self._slots.setdefault(model.release, len(self._slots) + 1),
            content=content_of(files, model.options, dict(model.adapters)),
        )

    def busy(self, running: Running) -> bool:
        """Return whether a model is answering, as reported by its hosts; a host that does not report counts as busy."""
        return not all(asyncio.run(_is_idle(replica.socket)) for replica in running.replicas)

    def steps(self, running: Running) -> int | None:
        """Return the steps that the hosts of a model have made; None if one does not report them."""
        made = [asyncio.run(_steps(replica.socket)) for replica in running.replicas]
        return None if None in made else sum(one or 0 for one in made)

    def rest(self, running: Running, *, asleep: bool) -> Future[None]:
        """Put the hosts of a model to sleep, or wake them up. Returns at once; the future has the first error, and the
        supervisor is notified when it is done.
        """
        if self._resting is None:
            self._resting = ThreadPoolExecutor(thread_name_prefix="rest")
        sockets = [replica.socket for replica in running.replicas]
        done = self._resting.submit(lambda: asyncio.run(_rest(sockets, asleep)))
        done.add_done_callback(lambda _: self._supervisor.tell_news())
        return done

    def _start_one(self, model: ModelPlan, files: ModelFiles, number: int) -> Replica:
        self._num_hosts += 1
        stem = f"host-{self._num_hosts}"
        socket, launch = self._home.run / f"{stem}.sock", self._home.run / f"{stem}.json"
        order = HostLaunch(
            files=files,
            options=model.options,
            prefixes=self._prefixes if self._prefixes.max_bytes else None,
            adapters=dict(model.adapters),
            drain_s=self._settings.drain_timeout_s,
            step_timeout_s=self._settings.step_timeout_s,
        )
        write_launch(order, launch)
        child = f"engine host {model.release}/{number}"
        if self._supervisor.state(child) not in ("stopped", "given-up"):  # from a failed start: it is still ending
            child += f" ({stem})"
        self._supervisor.add(
            ChildSpec(
                name=child,
                argv=tuple(host_command(socket, launch)),
                log=self._home.logs / f"host-{slug(model.alias)}-{number}.log",
                stage=1,
                drain_s=self._settings.drain_timeout_s + DRAIN_MARGIN_S,
                why=why_file(socket),
                env=_environment(model, self._home),
            )
        )
        self._started(model.alias, self._supervisor.pid(child))
        return Replica(child=child, socket=socket)

    def stop(self, running: Running) -> None:
        """Stop the hosts of one model at once."""
        for replica in running.replicas:
            self._supervisor.stop(replica.child)

    def retire(self, running: Running, *, patience_s: float | None = None) -> None:
        """Stop the hosts of one model once they are idle, or when `patience_s` is over; default: as on a stop."""
        patience_s = self._settings.drain_timeout_s if patience_s is None else patience_s
        now_s = self._clock.monotonic_s()
        self._retiring += [
            _Retiring(replica, self._supervisor.pid(replica.child), now_s + patience_s, now_s)
            for replica in running.replicas
        ]

    def look_after_retiring(self) -> None:
        """Stop retiring hosts that were idle at two looks, or whose drain time is over.

        A host that does not answer in time may be in a long step. It is left alone for `UNHEARD_S`.
        """
        for host in list(self._retiring):
            has_fallen = host.pid is None or self._supervisor.pid(host.replica.child) != host.pid
            is_idle = True if has_fallen else asyncio.run(_is_idle(host.replica.socket))
            now_s = self._clock.monotonic_s()
            host.heard_s = host.heard_s if is_idle is None else now_s
            host.idle_looks = host.idle_looks + 1 if is_idle else 0
            if host.idle_looks >= 2 or now_s > min(host.deadline_s, host.heard_s + UNHEARD_S):
                self._retiring.remove(host)
                self._supervisor.stop(host.replica.child)

    def greeted(self, running: Running) -> EngineInfo | None:
        """Return the greetings of a model's hosts; None until all have loaded. Does not wait.

        Raises:
            AshoreError: one could not load its model (the host's own error).
        """
        info = None
        for replica in running.replicas:
            if not replica.socket.exists():
                return None
            info = asyncio.run(_greeting(replica.socket, GLANCE_S))
            if info is None:
                return None
        return info

    def wait(self, running: Running, deadline_s: float) -> EngineInfo | None:
        """Wait until every host of a model has greeted; None if a stop was requested.

        Raises:
            AshoreError: a host could not load its model (the host's own error), or fell too often.
            NotReady: it is later than `deadline_s`.
        """
        info = None
        for replica in running.replicas:
            info = None
            while info is None:
                if self._supervisor.stop_requested:
                    return None
                info = asyncio.run(_greeting(replica.socket))
                check_alive(self._supervisor, replica.child)
                if self._clock.monotonic_s() > deadline_s:
                    raise NotReady(
                        f"{running.plan.alias} had not loaded within {self._settings.start_timeout_s:g} s",
                        hint=f"see the logs in {self._home.logs}; to wait longer, set ASHORE_START_TIMEOUT_S",
                    )
                self._supervisor.tick(0.02)
        return info


def _environment(model: ModelPlan, home: Home) -> dict[str, str]:
    """Return the environment of a host: the key of other servers under its engine's name for it and, if servers can
    change, the file that lists them and this machine's certificate.
    """
    kind, _, name = str(model.options.extra.get("key", "")).partition(":")
    key = {name: os.environ[name]} if kind == "env" and name in os.environ else {}
    fleet = {FLEET_FILE: str(home.fleet_servers), FLEET_IDENTITY: str(home.fleet)}
    return key | (fleet if "fleet" in model.options.extra else {})


def slug(alias: str) -> str:
    """Return an alias as part of a file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", alias)[:60]


async def _greeting(socket: Path, patience_s: float = GREETING_S) -> EngineInfo | None:
    """Return a host's greeting; None while it is starting or loading."""
    client = HostClient(socket)
    try:
        await client.connect(patience_s)
        return client.info
    except (NotReady, HostDied):
        return None
    finally:
        await client.close()


async def _rest(sockets: Sequence[Path], asleep: bool) -> None:
    for socket in sockets:
        client = HostClient(socket)
        try:
            async with asyncio.timeout(REST_S):
                await client.connect(GREETING_S)
                await client.rest(asleep=asleep)
        except TimeoutError as fault:
            raise EngineFailed(f"a host had not {'gone to sleep' if asleep else 'woken up'} in {REST_S:g} s") from fault
        finally:
            await client.close()


async def _steps(socket: Path) -> int | None:
    client = HostClient(socket)
    try:
        async with asyncio.timeout(2 * PROBE_S):
            await client.connect(PROBE_S)
            return (await client.stats()).steps
    except (AshoreError, TimeoutError):
        return None
    finally:
        await client.close()


async def _is_idle(socket: Path) -> bool | None:
    """Return whether a host runs nothing; None if it does not answer in time. A host that failed to load runs
    nothing.
    """
    client = HostClient(socket)
    try:
        async with asyncio.timeout(2 * PROBE_S):
            await client.connect(PROBE_S)
            stats = await client.stats()
        return stats.running == 0 and stats.waiting == 0
    except (NotReady, HostDied, Draining, TimeoutError):
        return None
    except AshoreError:
        return True
    finally:
        await client.close()
