"""What the doctor measures. Everything here is a value; nothing looks at the world.

A reading that could not be taken has its neutral value, and its name stands in `Readings.missing`. So a rule never asks
whether a figure is there: a rule whose figure is missing is not judged, and is reported as `unknown`.

Units: `_bytes`, `_s` (seconds), `_share` (0 to 1), `_per_s`. Rates hold for the time between two looks.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ashore.data.engines import DEFAULT, card_of
from ashore.kit.processes import Role


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what is measured."""


class Group(Value, frozen=True, kw_only=True):
    """One control group that bounds the server, of either version."""

    path: str
    quota_cores: float = 0.0
    """0: no quota."""
    throttled_share: float = 0.0
    """Of the periods, those in which the quota was used up."""
    throttled_s_per_s: float = 0.0
    memory_limit_bytes: int = 0
    """0: none."""
    memory_used_bytes: int = 0
    """Without file pages that make room when it is needed."""
    oom_kills: int = 0
    """Since the look before."""
    squeezed: int = 0
    """Times that a limit was hit since the look before: `memory.high` or `failcnt`."""
    processes: int = 0
    processes_most: int = 0
    """0: no limit."""
    disk_bytes_per_s: float = 0.0
    """The least that it lets its processes read or write of a disk; 0: no limit."""
    disk_operations_per_s: float = 0.0


class Cpu(Value, frozen=True, kw_only=True):
    """Processors, and who uses them."""

    cores: int = 8
    """That the server may use, after affinity and quotas."""
    cores_online: int = 8
    flags: tuple[str, ...] = ()
    """As the kernel names them: `avx2`, `amx_bf16`."""
    idle_share: float = 1.0
    stranger: str = ""
    """Busiest process that is not of this home."""
    stranger_pid: int = 0
    stranger_cores: float = 0.0
    """That it uses."""
    strangers_cores: float = 0.0
    """That all programs use which are not of this home."""
    autogroups: bool = False
    """Whether the kernel divides processors between sessions first: a nice value then counts inside of one alone."""


class Memory(Value, frozen=True, kw_only=True):
    """Memory of the machine."""

    total_bytes: int = 64 << 30
    available_bytes: int = 32 << 30
    oom_kills: int = 0
    """Since the look before, on the whole machine."""


class Place(Value, frozen=True, kw_only=True):
    """A folder that the server writes to, and the file system below it."""

    name: str
    """`home`, `audit`, `store`, `shm`, `backup node DIR`."""
    path: str = ""
    device: str = ""
    kind: str = "ext4"
    total_bytes: int = 1 << 40
    free_bytes: int = 1 << 39
    free_files_share: float = 1.0
    read_only: bool = False
    fills_in_s: float = 0.0
    """At the rate between the looks; 0: it does not fill."""


class Disk(Value, frozen=True, kw_only=True):
    """The disk of the home."""

    fsync_ms: float = 1.0
    """Median of several small writes with fsync."""
    write_error: str = ""
    """What the system said of a write."""


class Network(Value, frozen=True, kw_only=True):
    """Counters of the network stack."""

    overflows: int = 0
    """Connections to this server that a full accept queue refused, since the look before; of all programs, where the
    kernel tells none apart."""
    full_ports: tuple[int, ...] = ()
    """Ports of this server whose queue was full."""
    backlog_most: int = 4096


class Lookup(Value, frozen=True, kw_only=True):
    """One name of another machine that the server uses."""

    name: str
    used_by: str = ""
    """Where it stands: `[redis] url`, `release chat-1`."""
    took_s: float = 0.01
    error: str = ""


class Clock(Value, frozen=True, kw_only=True):
    """The wall clock."""

    stepped_s: float = 0.0
    """How much further it went than the monotonic clock between the looks."""
    behind_record_s: float = 0.0
    """How far it is behind the newest record of the audit log."""


class Process(Value, frozen=True, kw_only=True):
    """One process of this home."""

    name: str
    """`host m-0`, `api 1`, `supervisor`."""
    role: Role
    pid: int = 0
    orphan: bool = False
    """Whether no supervisor looks after it."""
    state: str = "S"
    """As in `ps`: R, S, D, T, Z."""
    tracer: str = ""
    """Program that traces it, `strace (process 9)`; empty: none."""
    cores: int = 8
    """That it may run on."""
    cpu_cores: float = 0.0
    """That it uses."""
    busiest_thread_share: float = 0.0
    age_s: float = 3600.0
    files: int = 20
    files_soft: int = 65_536
    files_hard: int = 65_536
    waits_share: float = 0.0
    """Of the time, in which the thread that waited most was ready to run and had no processor."""
    idle_class: bool = False
    """Whether it runs with what the others leave (SCHED_IDLE)."""
    variables: dict[str, str] = {}
    """Of its environment, those that slow an engine down or send requests through a proxy. No secret is among them."""
    eager: bool = False
    """Whether it was told to run a GPU without CUDA graphs (`--enforce-eager`)."""
    stale: bool = False
    """Whether it runs code that has been replaced on the disk since."""


class Host(Value, frozen=True, kw_only=True):
    """One replica of a model."""

    alias: str
    release: str = ""
    replica: int = 0
    kind: str = DEFAULT.kind
    pid: int = 0
    """0: no process has its socket open."""
    threads: int = 0
    """That its engine computes with; 0: the engine chooses."""
    slower: tuple[str, ...] = ()
    """Of its options, those that give speed away for exactness: `full_precision = true`."""
    stall: str = ""
    """Its option that bounds how long prompts may keep the answers of others waiting; empty: it has none."""
    stall_s: float = 0.0
    """What that says."""
    name: str = ""
    """Of its model in the store, `smollm2@int8`."""
    weights: str = ""
    """Precision of the weights by the name of the variant: `fp16`, `int8`."""
    running: int = 0
    steps: int = 0
    """Since the look before."""
    kv_tokens: int = 1 << 16
    """0: it has no such cache."""
    prompt_tokens: int = 0
    cached_tokens: int = 0

    @property
    def computes_here(self) -> bool:
        """Whether this machine's processors compute for it."""
        return card_of(self.kind).memory.ours

    @property
    def is_a_server(self) -> bool:
        """Whether a server of another maker computes, on a GPU or another machine."""
        return "remote" in card_of(self.kind).formats

    @property
    def is_made_up(self) -> bool:
        """Whether nothing computes: its answers are for trials."""
        return bool(card_of(self.kind).prefix)


class Model(Value, frozen=True, kw_only=True):
    """What clients call a model, and how its requests went since the look before."""

    alias: str
    replicas: int = 1
    replicas_ready: int = 1
    answers: int = 0
    ended_by_length: int = 0
    cancelled: int = 0
    refused: int = 0
    refused_why: str = ""
    waiting: int = 0
    running: int = 0
    first_token_s: float = 0.0
    """Mean."""
    queue_s: float = 0.0
    """Mean."""
    token_s: float = 0.0
    """Median time per token."""
    token_slow_s: float = 0.0
    """95th percentile of it."""
    lookups: int = 0
    """In the answer cache."""
    hits: int = 0
    failed_loads: int = 0
    tuned: bool = True
    """Whether `ashore engine tune` measured it on this machine, or its engine has nothing to tune."""


class Server(Value, frozen=True, kw_only=True):
    """The running server as a whole."""

    running: bool = True
    answers: bool = True
    why_not: str = ""
    is_silent: bool = False
    """Whether a worker gave no answer at all."""
    requests: int = 0
    """Since the look before, administration aside."""
    failed: int = 0
    """Of these, with a status of 500 or more, but 503 for want of capacity."""
    errors: dict[str, int] = {}
    """By error code, since the look before."""
    ignored_fields: int = 0
    spans_failed: int = 0
    by_unit: bool = True
    """Whether a service manager started it, and starts it again after a boot."""
    restarts: dict[str, int] = {}
    """Of each child that was started again since the server's start, how often in the last ten minutes."""
    endings: dict[str, str] = {}
    """How each of them ended the last time: `was killed by SIGSEGV`."""

    def restarted(self, alias: str, hosts: tuple[Host, ...]) -> int:
        """Return how often hosts of a model were started again in the last ten minutes."""
        replicas = {f"{one.release}/{one.replica}" for one in hosts if one.alias == alias}
        return sum(times for name, times in self.restarts.items() if name.rpartition(" ")[2] in replicas)


class Gpu(Value, frozen=True, kw_only=True):
    """One GPU or other accelerator, as its driver describes it."""

    index: int = 0
    name: str = ""
    busy_share: float = 0.0
    """Of the last second, in which some kernel ran: it says nothing of how much of the GPU that used."""
    divided: bool = False
    """Whether it is split into instances (MIG): the driver then tells no utilisation."""
    passed_through: bool = False
    """Whether this machine is a virtual one that was given the GPU: its slot is another's business."""
    memory_used_bytes: int = 0
    celsius: int = 40
    clock_mhz: int = 1980
    clock_most_mhz: int = 1980
    reasons: tuple[str, ...] = ()
    """Why the clock is not higher: `idle`, `power-cap`, `thermal`, `hardware`, `locked`."""
    power_w: float = 0.0
    power_most_w: float = 0.0
    ill: str = ""
    """What its driver says of its health, where that is not well: `Warning`, `Alarm`."""
    lost_bits: int = 0
    """Uncorrectable ECC errors since the driver was loaded."""
    bad_rows: bool = False
    """Whether rows of its memory wait for a remap, or could not be remapped."""
    link_width: int = 16
    link_width_most: int = 16
    link_generation: int = 5
    link_generation_most: int = 5
    persistent: bool = True


class Cache(Value, frozen=True, kw_only=True):
    """The shared answer cache (Valkey)."""

    used: bool = False
    up: bool = True
    address: str = ""
    """Host and port, or path, without a password."""
    ping_ms: float = 0.2
    memory_bytes: int = 0
    memory_most_bytes: int = 1 << 28
    """0: no limit."""
    evicted: int = 0
    """Since the look before."""
    written: int = 1
    rejected: int = 0


class State(Value, frozen=True, kw_only=True):
    """The SQL state."""

    kind: Literal["sqlite", "postgres"] = "sqlite"
    error: str = ""
    """Why it cannot be read."""
    answer_ms: float = 1.0
    lock_ms: float = 1.0
    """Wait for the write lock."""
    wal_bytes: int = 0
    path: str = ""


class Edge(Value, frozen=True, kw_only=True):
    """Envoy in front of the workers."""

    used: bool = False
    answers: bool = True
    certificate_ends_s: float = 90 * 86_400.0
    """How long its certificate is still valid."""
    certificate: str = ""
    generated: bool = True
    """Whether ashore made the certificate, and renews it."""


class Waiting(Value, frozen=True, kw_only=True):
    """A feed, channel or directory whose other side does not work."""

    name: str
    silent_s: float
    error: str
    """What it last said."""


class Audit(Value, frozen=True, kw_only=True):
    """The audit log."""

    broken: str = ""
    """What the verification of its newest part found."""
    anchors: int = 1
    silent_anchors: tuple[str, ...] = ()
    """`PLACE: what it said`."""
    waiting_feeds: tuple[Waiting, ...] = ()


class Backup(Value, frozen=True, kw_only=True):
    """Coded copies of the home."""

    set_up: bool = True
    spare: int = 1
    """Nodes that may still be lost; below 0: something is lost."""
    failures: dict[str, int] = {}
    """In a row, by kind of turn."""
    late_s: dict[str, float] = {}
    """How late a turn is, by its kind."""
    shared_device: tuple[str, ...] = ()
    """Nodes that lie on the same disk as another one, or as the home."""


class Access(Value, frozen=True, kw_only=True):
    """Keys, accounts, budgets."""

    open_paths: tuple[str, ...] = ()
    """Files of the home that others may read, with the mode: `0644 PATH`."""
    first_key_left: bool = False
    """Whether the file with the first key is still there though the key opens nothing."""
    ending_keys: tuple[str, ...] = ()
    """Keys that end within a week, and were used in the last one: `ID of OWNER in 3 days`."""
    missing_offices: tuple[str, ...] = ()
    full_budgets: tuple[str, ...] = ()
    """Budgets of which 95 % or more are used: `RULE: 97 % until 12:00`."""
    unsealed: tuple[str, ...] = ()
    """Secrets that lie in clear although a sealing key is set."""
    lost_directories: tuple[Waiting, ...] = ()
    """Directories whose last sync or look failed."""
    dead_channels: tuple[Waiting, ...] = ()
    """Channels of alerts that took nothing twice in a row."""


class Stored(Value, frozen=True, kw_only=True):
    """Models on the disk."""

    garbage_bytes: int = 0
    store_bytes: int = 0
    unfinished_bytes: int = 0
    """Of downloads that nobody touched for a day."""
    logs_bytes: int = 0
    restoring: bool = False
    references: tuple[str, ...] = ()
    """Every model and variant."""
    missing: tuple[str, ...] = ()
    """Files of live models that are not there, or have another size: `MODEL: FILE`."""
    broken: tuple[str, ...] = ()
    """Models whose manifest is missing or altered, and how it was seen."""


class Releases(Value, frozen=True, kw_only=True):
    """Releases of the models."""

    failed: tuple[tuple[str, str], ...] = ()
    """Name and reason of those that failed and that nothing has replaced."""
    cold_way_back: tuple[str, ...] = ()
    """Aliases whose release before must load before it answers again."""
    stuck: tuple[str, ...] = ()
    """Candidates that have got no further for a day: `NAME (canary since …)`."""
    out: tuple[str, ...] = ()
    """Servers of other machines that are not used now, beside others that are: `URL: why`."""
    without_servers: tuple[str, ...] = ()
    """Releases of which no server of another machine can be used."""


class Note(Value, frozen=True, kw_only=True):
    """What a check elsewhere found: of the file and of the start."""

    what: str
    do: str


class Configuration(Value, frozen=True, kw_only=True):
    """ashore.toml, against the machine and against what runs."""

    config: str = ""
    """The ashore.toml that the server reads; empty: none."""
    notes: tuple[Note, ...] = ()
    """What a start with this file would warn of."""
    unreadable: str = ""
    differs: tuple[str, ...] = ()
    """Keys that a reload would take."""
    needs_restart: tuple[str, ...] = ()
    unknown_variables: tuple[str, ...] = ()


class Log(Value, frozen=True, kw_only=True):
    """What the logs of the home hold, since the look before or `--since`."""

    out_of_memory: tuple[str, ...] = ()
    """Processes of which the log says that memory ran out, `host m-0: CUDA out of memory`. No prompt is in it."""
    training_out_of_memory: tuple[str, ...] = ()
    tracebacks: dict[str, int] = {}
    """By log."""
    gpu_faults: tuple[str, ...] = ()
    """Xid messages of the kernel."""
    disk_faults: tuple[str, ...] = ()


class Signature(Value, frozen=True, kw_only=True):
    """A signed file of a centre that ends."""

    role: str
    left_s: float


class Sites(Value, frozen=True, kw_only=True):
    """What this home is to sites or to its centre."""

    signatures: tuple[Signature, ...] = ()
    """What a centre has published, or a site trusts; the newest of each role."""
    centre: str = ""
    """Of a site; empty: this home is none."""
    silent_s: float = 0.0
    """How long this site has had no news of its centre."""
    serves_s: float = 1e9
    """How much longer it may serve without."""
    note: str = ""
    """What keeps it from news."""


class ToolServer(Value, frozen=True, kw_only=True):
    """A server of tools of which some are approved."""

    name: str
    withheld: tuple[str, ...] = ()
    """Approved tools that agents do not get now, and why: `balance changed`."""
    fault: str = ""
    """Why it cannot be asked."""


class Readings(Value, frozen=True, kw_only=True):
    """Everything that was measured. The defaults are those of a healthy server."""

    at_s: float = 0.0
    """Seconds since 1970."""
    span_s: float = 2.0
    """Between the two looks."""
    missing: dict[str, str] = {}
    """What could not be measured, `gpu` or `cpu.stranger_cores`, and why."""
    cpu: Cpu = Cpu()
    memory: Memory = Memory()
    groups: tuple[Group, ...] = ()
    places: tuple[Place, ...] = ()
    disk: Disk = Disk()
    network: Network = Network()
    lookups: tuple[Lookup, ...] = ()
    clock: Clock = Clock()
    processes: tuple[Process, ...] = ()
    hosts: tuple[Host, ...] = ()
    models: tuple[Model, ...] = ()
    server: Server = Server()
    gpus: tuple[Gpu, ...] = ()
    cache: Cache = Cache()
    state: State = State()
    edge: Edge = Edge()
    audit: Audit = Audit()
    backup: Backup = Backup()
    access: Access = Access()
    stored: Stored = Stored()
    releases: Releases = Releases()
    configuration: Configuration = Configuration()
    log: Log = Log()
    sites: Sites = Sites()
    tools: tuple[ToolServer, ...] = ()

    def lacks(self, name: str) -> str:
        """Return which part of `name` could not be measured, with the reason; empty where all of it was."""
        parts = name.split(".")
        for number in range(1, len(parts) + 1):
            if why := self.missing.get(".".join(parts[:number])):
                return f"{'.'.join(parts[:number])}: {why}"
        return ""
