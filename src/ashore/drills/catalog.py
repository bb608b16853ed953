"""The drills that ship with ashore."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ashore.drills.model import Drill, Twin

_STEADY: Final = "every request is answered for three seconds"
_EDGE: Final = Twin(options=("--edge", "envoy", "--workers", "2"))
_CACHE: Final = Twin(options=("--redis", "embedded"))
_SMALL: Final = Twin(disk_bytes=96 << 20)
_BACKUP: Final = Twin(more="[backup]\nevery_s = 86400\n")
_POSTGRES: Final = Twin(neighbours=("state",))
_ENGINES: Final = Twin(neighbours=("engine-0", "engine-1"))
_ALL: Final = Twin(neighbours=("cache", "state", "engine-0", "engine-1"))

DRILLS: Final[tuple[Drill, ...]] = (
    Drill(
        name="host-killed", title="An engine host is killed", steady=_STEADY, maker="host-killed", spare=1,
        fault="SIGKILL to the oldest engine host", loss="in-flight", recovery_s=15,
        expects="answers that had begun end with an error; all others are given by the other replica; the host comes "
        "back",
    ),
    Drill(
        name="host-hung", title="An engine host hangs", steady=_STEADY, maker="host-hung", spare=1, hold_s=25,
        fault="SIGSTOP to the oldest engine host", loss="in-flight", recovery_s=20,
        expects="the supervisor notices and replaces it; what had no token yet is answered by the other replica",
    ),
    Drill(
        name="worker-killed", title="An API worker is killed", steady=_STEADY, maker="worker-killed", twin=_EDGE,
        fault="SIGKILL to the oldest API worker", loss="in-flight", recovery_s=15,
        expects="its connections are cut, those of the other worker are not; it comes back",
    ),
    Drill(
        name="worker-hung", title="An API worker stands still", steady=_STEADY, maker="worker-hung", twin=_EDGE,
        hold_s=2,
        fault="SIGSTOP to the oldest API worker, for two seconds", loss="none", recovery_s=5,
        expects="requests there are late, and none is lost",
    ),
    Drill(
        name="supervisor-killed", title="The supervisor is killed", steady=_STEADY, maker="supervisor-killed",
        twin_only=True, fault="SIGKILL to the supervisor", loss="any", recovery_s=30,
        expects="no process is left; started again, the server answers, and its audit log goes on",
    ),
    Drill(
        name="edge-killed", title="The edge is killed", steady=_STEADY, maker="edge-killed", twin=_EDGE,
        fault="SIGKILL to Envoy", loss="any", recovery_s=15, expects="connections are cut, and Envoy comes back",
    ),
    Drill(
        name="edge-hung", title="The edge stands still", steady=_STEADY, maker="edge-hung", twin=_EDGE, hold_s=2,
        fault="SIGSTOP to Envoy, for two seconds", loss="none", recovery_s=5, expects="requests are late, and none "
        "is lost",
    ),
    Drill(
        name="cache-killed", title="The shared cache is killed", steady=_STEADY, maker="cache-killed", twin=_CACHE,
        cached=True,
        fault="SIGKILL to Valkey", loss="none", recovery_s=15, expects="no request notices, and Valkey comes back",
    ),
    Drill(
        name="cache-hung", title="The shared cache is slow", steady=_STEADY, maker="cache-hung", twin=_CACHE, hold_s=5,
        cached=True,
        fault="SIGSTOP to Valkey, for five seconds", loss="none", recovery_s=5,
        expects="each worker goes on without it after a few milliseconds",
    ),
    Drill(
        name="jobs-killed", title="The job worker is killed", steady=_STEADY, maker="jobs-killed",
        fault="SIGKILL to the job worker", loss="none", recovery_s=15,
        expects="live requests do not notice, and it comes back",
    ),
    Drill(
        name="state-locked", title="Somebody locks the state", steady=_STEADY, maker="state-locked", hold_s=5,
        twin_only=True, fault="another program holds the write lock of state.db for five seconds", loss="none",
        recovery_s=5, expects="requests are answered from what the workers hold; administration waits",
    ),
    Drill(
        name="disk-full", title="The disk is full", steady=_STEADY, maker="disk-full", hold_s=5, twin_only=True,
        twin=_SMALL, needs=("root", "mount"), fault="the file system of the home is filled to the last byte",
        loss="refused", recovery_s=10,
        expects="what cannot be recorded is refused before an answer; with room again the server goes on by itself, "
        "and "
        "the audit log verifies",
    ),
    Drill(
        name="disk-slow", title="The disk is slow", steady=_STEADY, maker="disk-slow", hold_s=6, twin_only=True,
        needs=("strace",), fault="each fsync of an API worker takes 200 ms longer", loss="none", recovery_s=10,
        expects="answers do not wait for the audit log, and it verifies",
    ),
    Drill(
        name="disk-failing", title="The disk fails now and then", steady=_STEADY, maker="disk-failing", hold_s=5,
        twin_only=True, needs=("strace",), fault="every third fsync of an API worker fails (EIO)", loss="refused",
        recovery_s=20, expects="what cannot be recorded is refused, and the log verifies",
    ),
    Drill(
        name="few-files", title="Open files run out", steady=_STEADY, maker="few-files", hold_s=4, twin_only=True,
        fault="an API worker may open two files more, and 24 clients come", loss="any", recovery_s=10,
        expects="answers that have begun end whole; with the limit back the server goes on by itself",
    ),
    Drill(
        name="processor-stolen", title="Other programs take the processors", steady=_STEADY, maker="processor-stolen",
        hold_s=6, fault="two busy programs for each processor, for six seconds", loss="none", recovery_s=5,
        expects="answers are slower, and none is lost",
    ),
    Drill(
        name="memory-short", title="The kernel kills a host for want of memory", steady=_STEADY,
        maker="memory-short", twin_only=True, twin=Twin(group=True), needs=("root",), hold_s=2,
        fault="another program takes 48 MiB in the server's control group, which has 16 MiB left, for two seconds",
        loss="any", recovery_s=30, expects="the supervisor stays, and starts again what was killed",
    ),
    Drill(
        name="overload", title="Far more clients than the server takes", steady=_STEADY, maker="flood", hold_s=5,
        twin_only=True, twin=Twin(more="[admission]\nmax_running = 4\nmax_waiting = 8\n"), load=2,
        fault="40 clients ask at once, for five seconds", loss="refused", recovery_s=5,
        expects="each request is answered, or refused at once with 429 or 503; then all is as before",
    ),
    Drill(
        name="bad-release", title="A release that cannot load", steady=_STEADY, maker="bad-release", twin_only=True,
        hold_s=1,
        fault="a model whose engine fails at its load is added to ashore.toml and applied", loss="none", recovery_s=10,
        expects="it fails alone; the other models are not touched",
    ),
    Drill(
        name="backup-node-lost", title="A backup node is away", steady=_STEADY, maker="lost-node", twin=_BACKUP,
        twin_only=True, fault="the folder of one of three nodes is moved away", loss="none", recovery_s=30, hold_s=1,
        expects="the backups are there to restore without it; a scrub ends well once it is back",
    ),
    Drill(
        name="corrupt-shard", title="A bit of a backup flips", steady=_STEADY, maker="flipped-bit", twin=_BACKUP,
        twin_only=True, fault="one byte of a shard is another one", loss="none", recovery_s=30, hold_s=1,
        expects="a scrub finds it and writes the right bytes",
    ),
    Drill(
        name="certificate-expired", title="The certificate has ended", steady=_STEADY, maker="certificate-expired",
        twin=_EDGE, twin_only=True, fault="the edge's certificate is replaced by one that ended yesterday", loss="any",
        recovery_s=90, expects="a start makes a new one, under the authority that clients trust",
    ),
    Drill(
        name="postgres-gone", title="Postgres is gone for a minute", steady=_STEADY, maker="postgres-gone",
        twin=_POSTGRES, twin_only=True, needs=("postgres", "initdb"), hold_s=60, recovery_s=15, load=2,
        fault="SIGKILL to Postgres; it is started again a minute later", loss="none",
        expects="requests are answered from what the workers hold, and the audit log goes on",
    ),
    Drill(
        name="network-slow", title="The network is slow", steady=_STEADY, maker="delay", twin=_ALL, twin_only=True,
        cached=True,
        lines=("cache", "state", "engine-0", "engine-1"), needs=("valkey-server", "postgres", "initdb"), hold_s=8,
        fault="40 to 60 ms more each way to Valkey, Postgres and both engine servers", loss="none", recovery_s=10,
        expects="answers are later by the way to the engine, and none is lost",
    ),
    Drill(
        name="network-lossy", title="The network loses packets", steady=_STEADY, maker="loss", twin=_ALL, cached=True,
        twin_only=True, lines=("cache", "state", "engine-0", "engine-1"),
        needs=("valkey-server", "postgres", "initdb"), hold_s=8,
        fault="one piece in twenty waits 200 ms or longer for its retransmission, three in a thousand reset their "
        "connection, to Valkey, Postgres and both engine servers",
        loss="begun", recovery_s=15,
        expects="a request without a token is sent again; an answer that had begun ends with an error that says so",
    ),
    Drill(
        name="cache-cut-off", title="The shared cache is out of reach", steady=_STEADY, maker="cut", cached=True,
        twin=Twin(neighbours=("cache",)), twin_only=True, lines=("cache",), needs=("valkey-server",), hold_s=6,
        fault="nothing passes between the server and Valkey", loss="none", recovery_s=15,
        expects="each worker goes on without it after a few milliseconds",
    ),
    Drill(
        name="postgres-cut-off", title="Postgres is out of reach", steady=_STEADY, maker="cut", twin=_POSTGRES,
        twin_only=True, lines=("state",), needs=("postgres", "initdb"), hold_s=15,
        fault="nothing passes between the server and Postgres: no answer and no refusal", loss="none", recovery_s=15,
        expects="requests are answered from what the workers hold; administration waits",
    ),
    Drill(
        name="bucket-cut-off", title="The bucket is out of reach", steady=_STEADY, maker="cut-bucket",
        twin=Twin(neighbours=("bucket",)), twin_only=True, lines=("bucket",), needs=("weed",), hold_s=8,
        fault="nothing passes between the server and the S3 bucket in which its audit log is anchored", loss="none",
        recovery_s=60, expects="no request notices; the anchor catches up, and the log verifies",
    ),
    Drill(
        name="engine-cut-off", title="An engine server is out of reach", steady=_STEADY, maker="cut", twin=_ENGINES,
        twin_only=True, lines=("engine-0",), hold_s=25, loss="in-flight", recovery_s=20,
        fault="nothing passes between the server and one of two engine servers",
        expects="what waits there for a first token is answered by the other one; what had begun ends with an error",
    ),
    Drill(
        name="servers-cut-off", title="A server is cut off from the others", steady=_STEADY, maker="cut-server",
        twin=Twin(neighbours=("state", "server")), twin_only=True, lines=("state",), needs=("postgres", "initdb"),
        hold_s=8, recovery_s=15, loss="none",
        fault="nothing passes between one of two servers and their state, while a key is revoked at the other",
        expects="it goes on with what it knows, and learns of the revocation once the line is whole",
    ),
    Drill(
        name="clock-stepped", title="The clock steps", steady=_STEADY, maker="clock-stepped",
        twin=Twin(own_clock=True), twin_only=True, needs=("faketime",), hold_s=6, loss="none", recovery_s=10,
        fault="the wall clock of every process of the server goes an hour ahead, then an hour back",
        expects="no request is lost, and the audit log verifies",
    ),
)  # fmt: skip
BY_NAME: Final[Mapping[str, Drill]] = MappingProxyType({one.name: one for one in DRILLS})
