"""What lies in a home and does not grow: models, keys, releases, the audit log, the state, GPUs, names, settings.

A doctor surveys while it waits for its second look. So what this needs of modules and of patience costs no time. What
is not read soon after that look is reported as missing, and not waited for.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ashore.control.doctor.patience import Lanes, Step
from ashore.control.doctor.probes import beside, disks, gpus, home, logs
from ashore.control.doctor.probes.home import Backend
from ashore.control.doctor.probes.machine import text_of
from ashore.control.doctor.readings import Configuration, State, ToolServer
from ashore.control.doctor.topology import ServedPart, TopologyPart
from ashore.core.addresses import split_url
from ashore.core.errors import AshoreError, NotReady
from ashore.kit.settings import Home, Settings

if TYPE_CHECKING:
    from ashore.data.releases import Book
    from ashore.kit.state import Database
    from ashore.kit.store import ModelStore

LATE: Final = "not read in time"
LOG_S: Final = 900.0
"""Logs are read this far back, unless `--since` says further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What the doctor of one home asks. Each may be missing; then the readings from it are."""

    settings: Settings
    open_state: Callable[[], Database] | None = None
    """Opens the state of a running server."""
    open_store: Callable[[], ModelStore] | None = None
    configuration: Callable[[], Configuration] = Configuration
    """Asks the supervisor how ashore.toml stands to what it runs."""
    unsealed: Callable[[], Sequence[str]] = lambda: ()
    """Secrets in clear that could be sealed."""
    backends: Callable[[Sequence[ServedPart]], Sequence[Backend]] = lambda served: ()
    """Servers of other machines behind releases."""
    root: Path = Path("/")


@dataclass(slots=True, kw_only=True)
class Survey:
    """What was found."""

    running: bool
    """Whether a server ran."""
    parts: dict[str, Any] = field(default_factory=dict)
    """Fields of `Readings`."""
    missing: dict[str, str] = field(default_factory=dict)
    record_ahead_s: float = 0.0
    """By how much the newest audit record lay in the future when it was read."""
    launches: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """What each host was started with, by its socket."""
    tuned: Mapping[str, bool] = field(default_factory=dict)
    """Of each alias, whether its model was measured here."""
    vault: bool = False
    """Whether a backup is set up."""
    written: tuple[float, str] = (0.0, "")
    """Milliseconds of a small write to the home, and what the system said of one that failed."""
    shared_device: tuple[str, ...] = ()
    """Backup nodes that lie on the disk of the home, or of another node."""

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Note under `name` why what is done here failed."""
        try:
            yield
        except (AshoreError, OSError, ValueError, KeyError) as fault:
            self.missing[name] = str(fault) or type(fault).__name__


class Surveying:
    """A survey that goes on while its owner does something else."""

    def __init__(
        self, sources: Sources, told: Mapping[str, Any], topology: TopologyPart | None, since_s: float
    ) -> None:
        """Begin to look at what lies in the home, and to ask what needs patience.

        Args:
            sources: Of the home.
            told: What the supervisor says; empty: none runs.
            topology: Of the running server.
            since_s: Logs are read from this moment on; 0: from a quarter of an hour ago.
        """
        self._found = found = Survey(running=bool(told))
        own, now_s = sources.settings.home, time.time()
        self._writes = disks.Writes(own.root)
        beside = [[Step(names=("gpus",), work=lambda: _gpus(found))]]
        if topology is not None and told:
            server = _OfTheServer(found, sources, topology, now_s)
            asked = server.lane()
            beside += server.beside()
        else:
            asked = [Step(names=("access", "stored"), work=lambda: _of_the_home(found, own, now_s))]
        # The state comes first: how long it is locked is measured without the imports that the others need. The audit
        # log comes last: it takes the longest.
        lane = [
            Step(names=("state",), work=lambda: _state(found, sources)),
            *asked,
            Step(names=("log",), work=lambda: _logs(found, own, since_s or now_s - LOG_S)),
            Step(names=("backup",), work=lambda: _backup(found, own)),
            Step(names=("sites",), work=lambda: _sites(found, own, now_s)),
            Step(names=("audit",), work=lambda: _audit(found, own, topology)),
        ]
        self._lanes = Lanes(lane, *beside)

    def end(self, until_s: float) -> Survey:
        """Return what was found, until a moment of the monotonic clock at most. What is late is missing."""
        late = self._lanes.end(until_s)
        missing = {**dict.fromkeys(late, LATE), **self._found.missing}
        written = self._writes.end(until_s, missing)
        return replace(self._found, parts=dict(self._found.parts), missing=missing, written=written)


def _state(found: Survey, sources: Sources) -> None:
    from ashore.kit.state import path_of_url

    own, url = sources.settings.home, sources.settings.state_url
    with found.part("state"):
        in_a_file = not url or url.startswith("sqlite")
        found.parts["state"] = (
            _sqlite(path_of_url(url, default=own.state_db), found.running) if in_a_file else _postgres(sources)
        )


def _logs(found: Survey, own: Home, since_s: float) -> None:
    with found.part("log"):
        found.parts["log"] = logs.read_logs(own.logs, own.root / "training", since_s=since_s)


def _gpus(found: Survey) -> None:
    with found.part("gpus"):
        found.parts["gpus"] = gpus.read_gpus(found.missing)


def _audit(found: Survey, own: Home, topology: TopologyPart | None) -> None:
    with found.part("audit"):
        num_anchors = len(topology.audit.section.anchors) if topology is not None else 1
        found.parts["audit"], found.record_ahead_s = home.read_audit(own, num_anchors, found.missing)


def _backup(found: Survey, own: Home) -> None:
    with found.part("backup"):
        nodes = backup_nodes(own)
        found.vault, found.shared_device = nodes is not None, _shared(own, nodes or ())


def _of_the_home(found: Survey, own: Home, now_s: float) -> None:
    with found.part("access"):
        found.parts["access"] = home.read_access(own, None, now_s, ())
    with found.part("stored"):
        found.parts["stored"] = home.read_stored(own, None, None)


def _sites(found: Survey, own: Home, now_s: float) -> None:
    with found.part("sites"):
        found.parts["sites"] = home.read_sites(own, now_s)


class _OfTheServer:
    """What only a running server has."""

    def __init__(self, found: Survey, sources: Sources, topology: TopologyPart, now_s: float) -> None:
        self._found, self._sources, self._topology, self._now_s = found, sources, topology, now_s
        self._own = sources.settings.home
        self._database: Database | None = None
        self._book: Book | None = None
        self._ask_tools: Callable[[], tuple[ToolServer, ...]] = tuple
        self._has_pins = threading.Event()
        self._is_read = threading.Event()
        """Whether the releases are read, or cannot be."""

    def lane(self) -> list[Step]:
        """Return what is read one after the other: all of it asks the state, or the releases that lie there."""
        return [
            Step(names=("hosts",), work=self._hosts),
            Step(names=("releases",), work=self._releases),
            Step(names=("tools",), work=self._pins),
            Step(names=("models.tuned",), work=self._models),
            Step(names=("access",), work=self._access),
            Step(names=("stored",), work=self._stored),
        ]

    def beside(self) -> list[list[Step]]:
        """Return what waits for others."""
        return [
            [Step(names=("lookups",), work=self._lookups)],
            [Step(names=("configuration",), work=self._configuration)],
            [Step(names=("tools",), work=self._tools)],
        ]

    def _hosts(self) -> None:
        with self._found.part("hosts"):
            self._found.launches = _launches(self._topology.served)

    def _releases(self) -> None:
        try:
            with self._found.part("releases"):
                if self._sources.open_state is None:
                    return
                self._database = self._sources.open_state()
                book = self._book = _book(self._database)
                self._is_read.set()
                backends = self._sources.backends(self._topology.served)
                self._found.parts["releases"] = home.read_releases(book, self._now_s, backends)
        finally:
            self._is_read.set()

    def _models(self) -> None:
        with self._found.part("models"):
            self._found.tuned = _tuned(self._database, self._topology, self._book)

    def _access(self) -> None:
        with self._found.part("access"):
            unsealed = self._sources.unsealed()
            self._found.parts["access"] = home.read_access(self._own, self._database, self._now_s, unsealed)
        if self._database is not None:
            self._database.close()

    def _stored(self) -> None:
        with self._found.part("stored"):
            opens = self._sources.open_store
            is_there = self._own.store.is_dir() and not self._own.restoring.exists()
            store = opens() if opens is not None and is_there else None
            self._found.parts["stored"] = home.read_stored(self._own, store, self._book)

    def _lookups(self) -> None:
        self._is_read.wait()
        with self._found.part("lookups"):
            self._found.parts["lookups"] = beside.look_up(_names(self._own, self._topology, self._book))

    def _pins(self) -> None:
        try:
            said = self._topology.sections.get("mcp", {}).get("servers")
            with self._found.part("tools"):
                if said and self._database is not None:
                    self._ask_tools = beside.asking_tools(said, self._topology.egress.allow, self._database)
        finally:
            self._has_pins.set()

    def _tools(self) -> None:
        self._has_pins.wait()
        with self._found.part("tools"):
            self._found.parts["tools"] = self._ask_tools()

    def _configuration(self) -> None:
        with self._found.part("configuration"):
            self._found.parts["configuration"] = self._sources.configuration()


def backup_nodes(own: Home) -> tuple[Path, ...] | None:
    """Return the folders of this machine that a backup writes to; None: none is set up."""
    if not own.backup.is_dir():
        return None
    from ashore.control.backup import BackupHome

    kept = BackupHome(own.root)
    if not kept.has_vault:
        return None
    try:
        return tuple(Path(place) for place in kept.read().places if place.startswith("/"))
    except AshoreError:
        return ()


def _shared(own: Home, nodes: Sequence[Path]) -> tuple[str, ...]:
    """Return the backup nodes that lie on the disk of the home, or of another node."""
    seen: dict[int, str] = {}
    shared = []
    for path in (own.root, *nodes):
        try:
            device = path.stat().st_dev
        except OSError:
            continue
        if device in seen and path != own.root:
            shared.append(str(path))
        seen[device] = str(path)
    return tuple(shared)


def _sqlite(path: Path, running: bool) -> State:
    if not path.is_file() and not running:
        raise NotReady("this home has no state yet")
    return beside.read_sqlite(path)


def _postgres(sources: Sources) -> State:
    from ashore.kit.state import execute

    if sources.open_state is None:
        raise NotReady("nobody opens the state")
    try:
        database = sources.open_state()
    except AshoreError as fault:
        return State(kind="postgres", error=fault.message)
    try:
        with database.read() as connection:
            return beside.read_postgres(lambda query: [tuple(row) for row in execute(connection, query)])
    finally:
        database.close()


def _names(own: Home, topology: TopologyPart, book: Book | None) -> dict[str, str]:
    """Return the names of other machines that this server talks to, with where each stands; an address needs no
    look-up."""
    urls = [("[redis] url", topology.redis.url), ("[state] url", topology.state.url)]
    urls += [("[[access.issuer]]", one.issuer) for one in topology.access.issuers]
    if book is not None:
        urls += [
            (f"release {name}", str(value))
            for name, one in book.releases.items()
            for value in one.plan.options.extra.values()
        ]
    urls += [("an engine node", url) for url in re.findall(r"https?://[^\"]+", text_of(own.fleet_servers))]
    found: dict[str, str] = {}
    for where, url in urls:
        host = (split_url(url).hostname or "") if "://" in url else ""
        if host and not host.replace(".", "").isdigit() and ":" not in host and host != "localhost":
            found.setdefault(host, where)
    return found


def _book(database: Database) -> Book:
    from ashore.data.releases import load_book

    with database.read() as connection:
        return load_book(connection)


def _launches(served: Sequence[ServedPart]) -> dict[str, Mapping[str, object]]:
    """Return what each host was started with, by its socket."""
    found: dict[str, Mapping[str, object]] = {}
    for one in served:
        for socket in one.sockets:
            try:
                found[socket] = json.loads(Path(socket).with_suffix(".json").read_bytes())
            except (OSError, ValueError):
                continue
    return found


def _tuned(database: Database | None, topology: TopologyPart, book: Book | None) -> dict[str, bool]:
    """Return of each alias whether its model was measured here."""
    from ashore.data.engines import card_of
    from ashore.kit.state import load_tuning

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
