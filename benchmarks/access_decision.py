"""How long a decision takes at 10,000 rules, casbin beside it; a key among 100,000; how soon a revocation holds.

python -m benchmarks.access_decision [--report FILE]
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.row import Row

from ashore.control.access import AccountWish, Keyring, KeyWish, People
from ashore.core.clock import SystemClock
from ashore.core.ids import TenantId
from ashore.data.authority import (
    SYSTEM,
    Acts,
    Binding,
    Compiled,
    Directory,
    Doorkeeper,
    KeyRecord,
    Policy,
    Principal,
    Role,
    Rule,
    Tenant,
    digest_of,
    make_first_key,
    new_key,
)
from ashore.data.path import HttpListen, StateLink, Topology, write_topology
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import open_database

RULES, ROLES, USERS, KEYS = 10_000, 100, 1_000, 100_000
ROUNDS = 200_000
CASBIN_ROUNDS = 100
REVOCATIONS = 20
WORKERS = 2
KNOWN_AFTER_S = 0.5

CASBIN = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act, eft
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = g(r.sub, p.sub) && keyMatch(r.obj, p.obj) && keyMatch(r.act, p.act)
"""


def us(samples: list[int]) -> dict[str, float]:
    """Return the middle and the far end of samples in nanoseconds, in microseconds."""
    ordered = sorted(samples)
    return {"p50": ordered[len(ordered) // 2] / 1000, "p99": ordered[len(ordered) * 99 // 100] / 1000}


def timed(work: Callable[[int], object], rounds: int) -> dict[str, float]:
    """Return how long each of `rounds` calls took, the clock's own cost taken off."""
    clock = time.perf_counter_ns
    empty = [-(clock() - clock()) for _ in range(10_000)]
    cost = int(statistics.median(empty))
    samples = []
    for number in range(rounds):
        began = clock()
        work(number)
        samples.append(clock() - began - cost)
    return us(samples)


def policy(rng: random.Random) -> tuple[Policy, list[Principal]]:
    """Return 100 roles of 100 rules each, a tenth of them denials, and 1,000 users with five roles each."""
    roles = []
    for number in range(ROLES):
        rules = []
        for at in range(RULES // ROLES):
            resource = f"model/m{number}-{at}" + ("*" if at % 4 == 0 else "")
            rules.append(Rule("deny" if at % 10 == 9 else "allow", "infer" if at % 2 else "cache:read", resource))
        roles.append(Role(name=f"role-{number}", rules=tuple(rules)))
    users = [
        Principal(id=f"user-{n}", tenant=TenantId(f"tenant-{n % 10}"), groups=frozenset((f"group-{n % 20}",)))
        for n in range(USERS)
    ]
    bindings = [Binding(f"user/{u.id}", f"role-{rng.randrange(ROLES)}") for u in users for _ in range(4)]
    bindings += [Binding(f"group/group-{n}", f"role-{rng.randrange(ROLES)}") for n in range(20)]
    return Policy(roles=tuple(roles), bindings=tuple(dict.fromkeys(bindings))), users


def decisions() -> list[Row]:
    rng = random.Random(7)
    made, users = policy(rng)
    began = time.perf_counter()
    compiled = Compiled(made, built_in=())
    compile_ms = (time.perf_counter() - began) * 1000
    questions = [
        (rng.choice(users), rng.choice(("infer", "cache:read")), f"model/m{rng.randrange(ROLES)}-{rng.randrange(100)}")
        for _ in range(ROUNDS)
    ]
    first = timed(lambda n: compiled.decide(users[n], "infer", f"model/none-{n}"), USERS)
    for user in users:
        compiled.decide(user, "cache:read", "model/none")
    cold = timed(lambda n: compiled.decide(*questions[n]), ROUNDS)
    warm_questions = questions[:1000]
    for one in warm_questions:
        compiled.decide(*one)
    warm = timed(lambda n: compiled.decide(*warm_questions[n % 1000]), ROUNDS)

    import casbin

    model = casbin.Model()
    model.load_model_from_text(CASBIN)
    peer = casbin.Enforcer(model)
    peer.add_policies([[role.name, r.resource, r.action, r.effect] for role in made.roles for r in role.rules])
    links = [[binding.subject, binding.role] for binding in made.bindings]
    links += [[user.subjects[0], subject] for user in users for subject in user.subjects[1:]]
    peer.add_grouping_policies(links)
    asked = questions[:CASBIN_ROUNDS]
    theirs = timed(lambda n: peer.enforce(asked[n][0].subjects[0], asked[n][2], asked[n][1]), CASBIN_ROUNDS)
    differ = sum(
        peer.enforce(user.subjects[0], resource, action) != compiled.decide(user, action, resource).allowed
        for user, action, resource in questions[CASBIN_ROUNDS : CASBIN_ROUNDS + 50]
    )
    detail = f"p99 {warm['p99']:.2f} µs; {RULES:,} rules, {USERS:,} users, the question was asked before"
    return [
        Row(what="decision, asked before", value=warm["p50"], unit="µs p50", bar=5, aim=2, lower_is_better=True,
            detail=detail, readings=warm),
        Row(what="decision, never asked before", value=cold["p50"], unit="µs p50", bar=5, aim=2, lower_is_better=True,
            detail=f"p99 {cold['p99']:.2f} µs; another user, action or resource each time", readings=cold),
        Row(what="the first decision about a user", value=first["p50"], unit="µs p50", bar=None, lower_is_better=True,
            detail=f"p99 {first['p99']:.1f} µs; its rules are gathered then. Compiling the policy took "
            f"{compile_ms:.1f} ms", readings=first),
        Row(what="casbin, the same questions", value=theirs["p50"], unit="µs p50", bar=None,
            detail=f"p99 {theirs['p99']:.0f} µs, {CASBIN_ROUNDS} questions; of 50 others {differ} decided otherwise "
            f"than ashore; ashore is {theirs['p50'] / cold['p50']:,.0f} times faster", readings=theirs),
    ]  # fmt: skip


def keys() -> list[Row]:
    directory, clock = Directory(), SystemClock()
    secrets: list[str] = []
    names: set[str] = set()
    while len(secrets) < KEYS:  # as the key ring does, which gives no name twice
        key = new_key()
        if key[:12] not in names:
            names.add(key[:12])
            secrets.append(key)
    records = [
        KeyRecord(key_id=s[:12], prefix=s[:12], digest=digest_of(s).sha256.hex(), owner=f"app-{n}", tenant="t")
        for n, s in enumerate(secrets)
    ]
    directory.take(tenants=[Tenant(name="t")], keys=records, whole=True)
    keeper = Doorkeeper(directory, clock, MemoryRecorder())
    random.Random(3).shuffle(secrets)
    cold = timed(lambda n: keeper.authenticate(secrets[n], "10.0.0.1"), 50_000)
    warm = timed(lambda n: keeper.authenticate(secrets[n % 1000], "10.0.0.1"), 50_000)
    one = Directory()
    one.take(tenants=[Tenant(name="t")], keys=records[:1], whole=True)
    digest = hashlib.sha256(secrets[0].encode()).hexdigest()
    found = directory.of_key
    alone = timed(lambda n: found(secrets[0], digest, "", 0.0), 20_000)
    return [
        Row(what=f"a key among {KEYS:,}, seen before", value=warm["p50"], unit="µs p50", bar=None, lower_is_better=True,
            detail=f"p99 {warm['p99']:.2f} µs", readings=warm),
        Row(what=f"a key among {KEYS:,}, for the first time", value=cold["p50"], unit="µs p50", bar=None,
            lower_is_better=True, detail=f"p99 {cold['p99']:.2f} µs; the look-up alone {alone['p50']:.2f} µs",
            readings=cold),
    ]  # fmt: skip


@contextmanager
def workers(run: Path) -> Iterator[tuple[list[int], StateLink]]:
    """Run API workers on one state, without an edge, each on a port of its own."""
    link = StateLink(path=str(run / "state.db"), snapshots=str(run / "snapshots"))
    ports, processes = [], []
    make_first_key(run / "first-key")
    open_database(Path(link.path), snapshots=Path(link.snapshots), clock=SystemClock()).close()
    import socket

    for number in range(WORKERS):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(int(probe.getsockname()[1]))
        folder = run / f"worker-{number}"
        folder.mkdir()
        topology = Topology(
            http=HttpListen(port=ports[-1]), state=link, first_key_file=str(run / "first-key"), access_log=False
        )
        write_topology(topology, folder / "topology.json")
        command = [sys.executable, "-m", "ashore.data.worker", "--run", str(folder)]
        with open(folder / "worker.log", "wb") as log:
            processes.append(subprocess.Popen(command, stdout=log, stderr=log))
    try:
        for port in ports:
            end = time.monotonic() + 30
            while status(port, "x", "/readyz") == 0:
                if time.monotonic() > end:
                    raise SystemExit("a worker was not ready")
                time.sleep(0.05)
        yield ports, link
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)


def status(port: int, key: str, path: str = "/v1/models") -> int:
    """Return what one worker answers to a key; 0 where it does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers={"authorization": f"Bearer {key}"})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def revocations() -> list[Row]:
    seconds = []
    with tempfile.TemporaryDirectory() as folder, workers(Path(folder)) as (ports, link):
        database = open_database(Path(link.path), snapshots=Path(link.snapshots), clock=SystemClock())
        acts = Acts(database, MemoryRecorder(), SystemClock())
        People(acts).create_account(SYSTEM, AccountWish(id="app", kind="service", roles=("developer",)))
        ring = Keyring(acts)
        for _ in range(REVOCATIONS):
            new = ring.create(SYSTEM, "app", KeyWish())
            time.sleep(KNOWN_AFTER_S)  # a key that is asked about before it is known counts as a guess
            if any(status(port, new.secret) != 200 for port in ports):
                raise SystemExit(f"a new key is not known after {KNOWN_AFTER_S} s")
            ring.revoke(SYSTEM, new.record.key_id)
            began = time.perf_counter()
            last = began
            open_still = set(ports)
            while open_still:
                for port in list(open_still):
                    if status(port, new.secret) == 200:
                        last = time.perf_counter()
                    else:
                        open_still.discard(port)
            seconds.append(last - began)
        database.close()
    return [
        Row(what="a revoked key is refused everywhere after", value=max(seconds), unit="s, the longest", bar=1, aim=0.2,
            lower_is_better=True,
            detail=f"median {statistics.median(seconds):.3f} s of {REVOCATIONS} revocations, committed by a third "
            f"process, {WORKERS} workers asked without a pause",
            readings={"seconds": [round(one, 4) for one in seconds]}),
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, help="write the table to this file")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    given = parser.parse_args()
    rows = [*decisions(), *keys(), *revocations()]
    head = ["what", "measured", "bar", "aim", "verdict", "made of"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row.cells()) + " |" for row in rows]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    facts = {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": commit.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {cpu_model()}",
        "python": platform.python_version(),
        "command": "python -m benchmarks.access_decision",
    }
    text = "# Access: decisions, keys, revocation\n\n" + "\n".join(lines) + "\n\n"
    text += "\n".join(f"- {name}: {value}" for name, value in facts.items()) + "\n"
    print(json.dumps([row.plain() for row in rows]) if given.json else text)
    if given.report:
        given.report.write_text(text)
    return 1 if any(row.verdict == "MISSED" for row in rows) else 0


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return platform.processor()


if __name__ == "__main__":
    raise SystemExit(main())
