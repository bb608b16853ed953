"""The supervisor's instructions to an API worker: models and their hosts, listeners, admission limits.

The supervisor writes `run/topology.json`; the worker reads it at its start and again on SIGHUP.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from ashore.core.errors import InvalidSpec
from ashore.data.audit import AuditLink
from ashore.data.authority import AccessSection
from ashore.data.cache import CachePolicy, RedisSection
from ashore.data.engines import EngineKind
from ashore.data.jobs import EgressSection, JobsSection
from ashore.data.path.section import AdmissionSection, DispatchSection, Intake, MetricsSection
from ashore.data.privacy import PrivacyPolicy
from ashore.data.releases import ReleasePolicy
from ashore.data.residency import Served
from ashore.kit.processes.launchfiles import read_launch
from ashore.kit.wholefile import write_whole


class ServedModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One alias and the replicas behind it."""

    alias: str
    """Value of `model` in requests."""
    release: str
    """Immutable release that answers, `smollm2-1`; goes out as `x-ashore-release`."""
    kind: EngineKind
    sockets: tuple[str, ...]
    """Unix socket of each engine host, one per replica."""
    text_dir: str = ""
    """Folder with `tokenizer.json` and its companions; empty: bytes are tokens (the fake engine)."""
    adapters: tuple[str, ...] = ()
    """LoRA adapters that the hosts have loaded; clients ask for `ALIAS:NAME`."""
    adapter: str = ""
    """The one that answers; set where a model stands for one of its adapters, never in the file."""
    stands_for: str = ""
    """The alias that the release is meant for, where it answers under another one; set there, never in the file."""
    embedder: bool = False
    slot: int = 0
    """Column of the board with this release's load."""
    created_s: int = 0
    """Seconds since the epoch at which the release was made; `created` of `/v1/models`."""
    content: str = ""
    """Name of what decides the answers: weights, engine, options, adapters. The names of releases begin anew with every
    `ashore up`, and a shared cache outlives it; so kept answers belong to this name too."""
    residence: Served | None = None
    """Set where it is loaded on demand: how it stands. `sockets` is empty while it is not loaded."""


class HttpListen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """HTTP listener: `uds` if it is given, otherwise host and port."""

    host: str = "127.0.0.1"
    port: int = 8080
    uds: str = ""
    """Path of a unix socket, made with mode 0600."""
    identity: str = ""
    """Directory with this machine's fleet certificate: TLS 1.3, and clients must be of that fleet. Empty: no TLS,
    except by an edge in front."""


class GrpcListen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """gRPC listener."""

    host: str = "127.0.0.1"
    port: int = 8081
    uds: str = ""


class WorkerListen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Listeners of one API worker."""

    http: HttpListen
    grpc: GrpcListen | None = None
    inner: str = ""
    """Path of a unix socket for the control process, where `http` is on a port."""


class EdgeAddress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How clients reach the edge in front of the workers."""

    url: str
    ca_file: str = ""
    """Authority of its certificate, where ashore made it."""
    trusted_proxies: int = 0
    """Proxies in front of it whose word about the client's address is taken."""


class Limits(Intake, frozen=True, kw_only=True):
    """Bounds of one HTTP request and connection."""

    max_body_bytes: int = 16 << 20
    body_read_timeout_s: float = 30.0
    """Limit from the first requested byte to the last one received."""
    header_read_timeout_s: float = 10.0
    """Also the longest time that a kept connection stays open without a request."""
    write_stall_timeout_s: float = 60.0
    """A client that reads nothing of its stream for so long is cut off."""
    max_connections: int = 8192


class StateLink(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Location of the state; its writer has migrated it already."""

    url: str = ""
    """`postgresql://…` or `sqlite:///…`; empty: `path`."""
    path: str = ""
    """The SQLite file of the home; empty, with an empty `url`: no state (tests and load generators)."""
    snapshots: str = ""
    secrets_key: str = ""
    """Where the supervisor holds the key of the state's secrets, if they are sealed. Not the key."""


class Topology(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The complete configuration of an API worker."""

    models: tuple[ServedModel, ...] = ()
    """One for each alias: the default unless the state routes the alias elsewhere."""
    beside: tuple[ServedModel, ...] = ()
    """Other releases of these aliases with hosts: candidates and standbys."""
    http: HttpListen = HttpListen()
    grpc: GrpcListen | None = None
    """None: no gRPC."""
    workers: tuple[WorkerListen, ...] = ()
    """Where each API worker listens, by its index; empty: there is one, on `http` and `grpc`."""
    control: str = ""
    """Path of the unix socket of the control process, which administers; empty: there is none."""
    edge: EdgeAddress | None = None
    """None: clients reach the worker itself."""
    board: str = ""
    """File by which several workers share their load; empty: there is one worker."""
    admission: AdmissionSection = AdmissionSection()
    dispatch: DispatchSection = DispatchSection()
    limits: Limits = Limits()
    metrics: MetricsSection = MetricsSection()
    cache: CachePolicy = CachePolicy()
    redis: RedisSection = RedisSection()
    """With an empty `url` every worker has its own answers."""
    state: StateLink = StateLink()
    audit: AuditLink = AuditLink()
    jobs: JobsSection = JobsSection()
    egress: EgressSection = EgressSection()
    privacy: PrivacyPolicy = PrivacyPolicy()
    """Policy of ashore.toml; one in the state takes precedence."""
    release: ReleasePolicy = ReleasePolicy()
    access: AccessSection = AccessSection()
    budgets: str = ""
    """Folder of the ledger that the workers share; empty, or without a state: nothing is limited or counted."""
    internal_token_file: str = ""
    """File with the token of the job worker; empty: delegation is disabled."""
    first_key_file: str = ""
    """File with the first key; empty: requests need no key (tests and load generators only)."""
    home: str = ""
    """Folder with the store and everything else of this installation; empty: there is none (tests)."""
    drain_timeout_s: float = 30.0
    start_timeout_s: float = 300.0
    """How long the hosts of a release may take to load."""
    shared_prefix_cache: bool = False
    """True lets tenants share blocks of the prefix cache."""
    access_log: bool = True
    sections: dict[str, dict[str, Any]] = {}
    """Sections of ashore.toml that rooms bring and that stand in no field above."""

    def told(self, name: str) -> Any:
        """Return a field, or a room's section, by its name; an empty one if it is missing."""
        return getattr(self, name) if name in self.__struct_fields__ else self.sections.get(name, {})

    @property
    def inner_sockets(self) -> list[str]:
        """Return where processes of this machine reach its API workers."""
        return [socket for one in self.workers if (socket := one.inner or one.http.uds)]

    def listens(self, index: int) -> WorkerListen:
        """Return the listeners of worker `index`.

        Raises:
            InvalidSpec: the topology has no such worker.
        """
        workers = self.workers or (WorkerListen(http=self.http, grpc=self.grpc),)
        if not 0 <= index < len(workers):
            raise InvalidSpec(f"the topology has {len(workers)} API workers, and none of index {index}")
        return workers[index]


def write_topology(topology: Topology, path: Path) -> None:
    """Write `topology` to `path` atomically, readable by its owner alone. May be called again; the last one stands."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(topology), indent=1))


def read_topology(path: Path) -> Topology:
    """Return the topology in `path`.

    Raises:
        InvalidSpec: the file is missing, malformed, or names one alias twice.
    """
    topology = read_launch(path, Topology)
    aliases = [model.alias for model in topology.models]
    twice = sorted({alias for alias in aliases if aliases.count(alias) > 1})
    if twice:
        raise InvalidSpec(f"topology {path} has more than one model with the alias {twice[0]!r}")
    return topology
