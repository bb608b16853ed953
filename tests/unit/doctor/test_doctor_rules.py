"""Each rule of the doctor on readings that it is about, and all of them on those of a healthy server."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
import pytest
from msgspec.structs import replace

from ashore.control.doctor import Readings, diagnose, load_rules
from ashore.control.doctor.readings import (
    Access,
    Audit,
    Backup,
    Cache,
    Clock,
    Configuration,
    Cpu,
    Disk,
    Edge,
    Gpu,
    Group,
    Host,
    Log,
    Lookup,
    Memory,
    Model,
    Network,
    Note,
    Place,
    Process,
    Releases,
    Server,
    Signature,
    Sites,
    State,
    Stored,
    ToolServer,
    Waiting,
)
from ashore.kit.sentences import sentences_in

GIB = 1 << 30
BY_ID = {one.id: one for one in load_rules()}
HOST = Host(alias="chat", pid=7, threads=8)
SEEN_HOST = Process(name="host chat-0", role="host", pid=7)
WORKER = Process(name="api 0", role="api", pid=8)
CHAT = Model(alias="chat", answers=100)
H100 = Gpu(name="NVIDIA H100", memory_used_bytes=60 * GIB, busy_share=0.8)


def hosts(**fields: Any) -> dict[str, Any]:
    return {"hosts": (replace(HOST, **fields),)}


def models(**fields: Any) -> dict[str, Any]:
    return {"models": (replace(CHAT, **fields),)}


def process(one: Process = SEEN_HOST, **fields: Any) -> dict[str, Any]:
    return {"processes": (replace(one, **fields),)}


def gpu(**fields: Any) -> dict[str, Any]:
    return {"gpus": (replace(H100, **fields),)}


def place(**fields: Any) -> dict[str, Any]:
    return {"places": (Place(name="home", path="/h", device="8:1", **fields),)}


def group(**fields: Any) -> dict[str, Any]:
    return {"groups": (Group(path="/a.service", **fields),)}


BUSY = Cpu(idle_share=0.02)

CASES: dict[str, list[dict[str, Any]]] = {
    "D101": [hosts(threads=9)],
    "D102": [group(quota_cores=1.5, throttled_share=0.4, throttled_s_per_s=0.3)],
    "D107": [
        process(variables={"PYTHONMALLOC": "debug"}),
        {**process(variables={"CUDA_VISIBLE_DEVICES": "-1"}), **gpu()},
    ],
    "D111": [{"cpu": Cpu(stranger="yes", stranger_pid=9, stranger_cores=4, strangers_cores=5, idle_share=0.0)}],
    "D113": [{**hosts(), **process(cores=1)}],
    "D114": [process(WORKER, idle_class=True)],
    "D116": [{**process(WORKER, cores=1, waits_share=0.8), "cpu": Cpu(cores_online=2, idle_share=0.4)}],
    "D201": [{"memory": Memory(available_bytes=100 << 20)}],
    "D202": [{"memory": Memory(oom_kills=1)}, group(memory_limit_bytes=GIB, oom_kills=1)],
    "D208": [{"places": (Place(name="shm", path="/dev/shm", kind="tmpfs", total_bytes=GIB, free_bytes=GIB // 10),)}],
    "D212": [group(memory_limit_bytes=GIB, memory_used_bytes=GIB - 1)],
    "D301": [place(free_bytes=GIB), place(total_bytes=64 << 20, free_bytes=0)],
    "D302": [{"disk": Disk(fsync_ms=250)}],
    "D304": [place(kind="nfs4"), place(kind="overlay")],
    "D305": [{"log": Log(disk_faults=("I/O error, dev sda, sector 9",))}],
    "D306": [place(read_only=True)],
    "D308": [{"stored": Stored(garbage_bytes=9 * GIB, store_bytes=20 * GIB)}],
    "D309": [
        {"stored": Stored(missing=("smollm2@int8: model.bin",))},
        {"stored": Stored(broken=("smollm2@int8: its manifest is missing",))},
    ],
    "D310": [{"stored": Stored(unfinished_bytes=2 * GIB)}],
    "D312": [place(free_files_share=0.02)],
    "D313": [{"stored": Stored(logs_bytes=3 * GIB)}],
    "D315": [{"disk": Disk(write_error="No space left on device")}],
    "D316": [group(disk_operations_per_s=3.0), group(disk_bytes_per_s=1e6)],
    "D402": [{"clock": Clock(stepped_s=-30)}, {"clock": Clock(behind_record_s=60)}],
    "D403": [{"lookups": (Lookup(name="gpu1", took_s=2.0),)}, {"lookups": (Lookup(name="gpu1", error="unknown"),)}],
    "D405": [{"network": Network(overflows=3, backlog_most=128)}],
    "D407": [
        {"edge": Edge(used=True, certificate="/h/edge/c.pem", certificate_ends_s=-5)},
        {"edge": Edge(used=True, certificate="/h/c.pem", certificate_ends_s=600_000, generated=False)},
    ],
    "D409": [process(role="supervisor", name="supervisor", variables={"https_proxy": "set"})],
    "D501": [process(files=60_000), process(files=60, files_soft=64, files_hard=64)],
    "D502": [group(processes=95, processes_most=100)],
    "D503": [{"server": Server(restarts={"host m": 5})}],
    "D506": [{"server": Server(by_unit=False)}],
    "D507": [process(stale=True)],
    "D508": [
        {**hosts(running=3), **process(state="S")},
        {**hosts(), **process(state="T")},
    ],
    "D509": [process(WORKER, state="T"), process(WORKER, tracer="strace (process 9)")],
    "D512": [process(orphan=True)],
    "D513": [
        {**process(role="supervisor", name="supervisor", state="T"), "server": Server(running=False, answers=False)}
    ],
    "D514": [process(WORKER, files_soft=1024, files_hard=65_536)],
    "D515": [{"log": Log(tracebacks={"api.log": 2})}],
    "D600": [{"server": Server(answers=False, why_not="chat is not ready")}],
    "D602": [models(tuned=False)],
    "D603": [hosts(prompt_tokens=90_000, cached_tokens=100)],
    "D605": [hosts(kv_tokens=256)],
    "D607": [
        models(token_s=0.01, token_slow_s=0.5),
        {**models(token_s=0.01, token_slow_s=0.5), **gpu(reasons=("idle",))},
    ],
    "D608": [models(queue_s=3.0, first_token_s=3.2)],
    "D609": [models(refused=20, refused_why="queue")],
    "D611": [
        {**hosts(weights="fp16"), "cpu": Cpu(flags=("avx2", "avx512f"))},
        {**hosts(weights="fp16", name="chat@fp16"), "stored": Stored(references=("chat", "chat@int8"))},
        hosts(slower=("full_precision = true",)),
    ],
    "D612": [models(ended_by_length=90)],
    "D627": [{**hosts(stall="max_stall_ms", stall_s=60.0), **models(running=4)}],
    "D613": [{"server": Server(requests=100, failed=9, errors={"audit_unavailable": 9})}],
    "D614": [models(cancelled=90)],
    "D616": [models(replicas=2), models(replicas_ready=0)],
    "D617": [{"server": Server(requests=100, errors={"context_too_long": 9})}],
    "D619": [models(failed_loads=1)],
    "D620": [{"server": Server(requests=100, ignored_fields=90)}],
    "D621": [{"hosts": (HOST, Host(alias="toy", kind="fake", pid=9))}],
    "D624": [models(lookups=5000, hits=3)],
    "D701": [{**gpu(busy_share=0.2), **process(eager=True), **models(running=4)}],
    "D702": [
        {**gpu(busy_share=0.1), **models()},
        {**gpu(busy_share=0.1), **process(busiest_thread_share=0.99), **models(waiting=9)},
    ],
    "D703": [{"log": Log(out_of_memory=("host chat-0: CUDA out of memory",))}],
    "D704": [{"log": Log(training_out_of_memory=("run-1: OutOfMemoryError",))}],
    "D705": [gpu(reasons=("thermal",), clock_mhz=900), gpu(reasons=("locked",), clock_mhz=1350)],
    "D706": [{**hosts(), **gpu(memory_used_bytes=0, busy_share=0.0)}],
    "D707": [{"log": Log(gpu_faults=("Xid (PCI:0000:01:00): 79",))}],
    "D708": [gpu(lost_bits=1), gpu(bad_rows=True)],
    "D709": [gpu(link_width=8)],
    "D711": [gpu(persistent=False)],
    "D712": [gpu(ill="Warning"), gpu(ill="Alarm")],
    "D801": [{"cache": Cache(used=True, up=False)}, {"cache": Cache(used=True, ping_ms=80)}],
    "D802": [
        {"cache": Cache(used=True, memory_most_bytes=0)},
        {"cache": Cache(used=True, evicted=900, written=100)},
    ],
    "D803": [{"cache": Cache(used=True, rejected=4)}],
    "D804": [
        {"state": State(lock_ms=1000)},
        {"state": State(wal_bytes=200 << 20, path="/h/state.db")},
        {"state": State(answer_ms=900)},
    ],
    "D806": [{"state": State(error="connection refused")}],
    "D811": [{"edge": Edge(used=True, answers=False)}],
    "D902": [{"audit": Audit(broken="api-0 line 3: the hash is another one")}],
    "D903": [{"backup": Backup(spare=0)}, {"backup": Backup(spare=-1)}],
    "D904": [{"backup": Backup(failures={"run": 1})}],
    "D905": [{"backup": Backup(late_s={"scrub": 7300.0})}],
    "D906": [{"backup": Backup(set_up=False)}],
    "D907": [{"backup": Backup(shared_device=("/mnt/b",))}],
    "D914": [
        {"audit": Audit(waiting_feeds=(Waiting(name="siem", silent_s=300, error="refused"),))},
        {"audit": Audit(waiting_feeds=(Waiting(name="siem", silent_s=90_000, error="refused"),))},
    ],
    "D912": [{"audit": Audit(silent_anchors=("/mnt/worm: Permission denied",))}],
    "D913": [{"audit": Audit(anchors=0)}],
    "D920": [{"access": Access(open_paths=("0644 /h/first-key",))}],
    "D921": [{"access": Access(first_key_left=True)}],
    "D922": [{"access": Access(ending_keys=("ash_1 of app in 3 days",))}],
    "D923": [{"access": Access(missing_offices=("auditor",))}],
    "D924": [{"access": Access(full_budgets=("tokens per day of app: 97%",))}],
    "D926": [{"access": Access(lost_directories=(Waiting(name="ad", silent_s=300, error="no answer"),))}],
    "D927": [{"access": Access(dead_channels=(Waiting(name="ops", silent_s=300, error="no answer"),))}],
    "D925": [{"access": Access(unsealed=("state: content",))}],
    "D930": [{"releases": Releases(failed=(("chat-2", "out of memory"),))}],
    "D931": [{"releases": Releases(cold_way_back=("chat",))}],
    "D932": [{"releases": Releases(stuck=("chat-2 (canary for 3 days)",))}],
    "D934": [
        {"releases": Releases(out=("http://gpu1:8000: refused",))},
        {"releases": Releases(without_servers=("v-1",))},
    ],
    "D935": [
        {"tools": (ToolServer(name="bank", withheld=("balance changed",)),)},
        {"tools": (ToolServer(name="bank", fault="the tool server bank cannot be reached: ConnectError"),)},
    ],
    "D940": [
        {"configuration": Configuration(unreadable="/e/ashore.toml: unknown key")},
        {"configuration": Configuration(needs_restart=("[http] port: 1 -> 2",))},
        {"configuration": Configuration(differs=("[cache] ttl_s: 60 -> 90",))},
    ],
    "D941": [{"configuration": Configuration(notes=(Note(what="no TLS", do="run the edge"),))}],
    "D942": [{"configuration": Configuration(unknown_variables=("ASHORE_HOEM is not known",))}],
    "D943": [{"stored": Stored(restoring=True)}],
    "D944": [{"server": Server(spans_failed=3)}],
    "D945": [
        {"sites": Sites(signatures=(Signature(role="timestamp", left_s=3600),))},
        {"sites": Sites(signatures=(Signature(role="root", left_s=-5),))},
        {"sites": Sites(centre="https://c", signatures=(Signature(role="timestamp", left_s=-5),))},
        {"sites": Sites(centre="https://c", silent_s=40 * 86_400, serves_s=40_000, note="the link is cut")},
    ],
}
"""By rule: changes to a healthy server on which it must fire."""

ROWS = [pytest.param(rule, fields, id=f"{rule}-{n}") for rule, rows in CASES.items() for n, fields in enumerate(rows)]
HEALTHY = Readings(
    hosts=(HOST,), processes=(SEEN_HOST, WORKER), models=(CHAT,), gpus=(H100,), groups=(Group(path="/"),)
)


def test_every_rule_has_a_case_and_every_case_a_rule() -> None:
    assert set(CASES) == set(BY_ID)
    assert len(load_rules()) == len(BY_ID) >= 60, "two rules share an id"


def test_a_healthy_server_gets_no_finding() -> None:
    loaded = replace(
        HEALTHY,
        models=(replace(CHAT, running=4, first_token_s=0.2, token_s=0.02, token_slow_s=0.03, lookups=900, hits=300),),
        hosts=(replace(HOST, running=4, steps=90, kind="vllm"),),
        cpu=Cpu(idle_share=0.1),
        server=Server(requests=400),
    )
    for seen in (Readings(), loaded):
        assert diagnose(seen, load_rules()).findings == ()
        assert diagnose(seen, load_rules()).worst is None


@pytest.mark.parametrize(("rule", "fields"), ROWS)
def test_a_rule_fires_on_what_it_is_about_and_says_what_to_do(rule: str, fields: dict[str, Any]) -> None:
    seen = replace(Readings(), **fields)
    found = [one for one in diagnose(seen, load_rules()).findings if one.rule == rule]
    assert found, f"{rule} is silent"
    for one in found:
        assert one.area == BY_ID[rule].area
        assert one.what and one.cause and one.remedy and one.evidence
        assert len(one.what) < 200
        assert any(sentences_in("zh").find(text) for text in (one.what, one.cause, one.remedy))
        assert all(figure.name and figure.seen for figure in one.evidence)
        assert msgspec.json.decode(msgspec.json.encode(one), type=type(one)) == one


@pytest.mark.parametrize("rule", sorted(BY_ID))
def test_every_row_of_a_rule_has_a_case(rule: str) -> None:
    """The names in conditions and texts are checked where they are read, so each must be read once."""
    for row in BY_ID[rule].finds:
        alone = replace(BY_ID[rule], finds=(row,))
        assert any(list(alone.judge(replace(Readings(), **fields))) for fields in CASES[rule]), row.what


REFERENCE = Path(__file__).parents[3] / "docs/reference"
KEY = re.compile(r"\[\[?([a-z.]+)\]\]? (?:of \S+: (?:leave out )?)?([a-z]+_[a-z_]+)")
COMMAND = re.compile(r"(?:^|`)ashore ([a-z]+(?: [a-z]+){0,2})([^`#;|]*)")


def sections(page: str) -> dict[str, str]:
    """Return what stands below each heading of a page, by the code in it: `ashore doctor`, `[redis]`."""
    text = (REFERENCE / page).read_text(encoding="utf-8")
    return {
        name.strip("[]"): body
        for name, body in re.findall(r"^##+ `([^`]+)`$(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    }


@pytest.mark.parametrize(("rule", "fields"), ROWS)
def test_a_remedy_can_be_typed(rule: str, fields: dict[str, Any]) -> None:
    """Every key of ashore.toml that a finding names is one, and every command with its options."""
    keys, commands = sections("ashore-toml.md"), sections("commands.md")
    for one in diagnose(replace(Readings(), **fields), load_rules()).findings:
        for text in (one.what, one.cause, one.remedy, one.wrong_remedy, *one.commands):
            for section, key in KEY.findall(text):
                assert f"| `{key}` |" in keys[section], f"{one.rule}: [{section}] {key}"
        for command in one.commands:
            for said, rest in COMMAND.findall(command):
                words = said.split()
                told = next(
                    (commands[name] for n in (3, 2, 1) if (name := f"ashore {' '.join(words[:n])}") in commands), ""
                )
                assert told, f"{one.rule}: ashore {said}"
                for option in set(re.findall(r"--[a-z-]+", rest)) - {"--help"}:
                    assert f"`{option}" in told, f"{one.rule}: ashore {said} {option}"


def test_a_worker_that_gets_no_processor_is_slow_and_not_gone() -> None:
    server = Server(answers=False, is_silent=True, why_not="API worker 0 says nothing within 1 s")
    for waits_share, severity in ((0.0, "critical"), (0.8, "warning")):
        seen = replace(HEALTHY, server=server, processes=(replace(WORKER, waits_share=waits_share),))
        assert [one.severity for one in diagnose(seen, load_rules()).findings if one.rule == "D600"] == [severity]


def test_a_replica_that_loads_again_says_why() -> None:
    seen = replace(
        HEALTHY,
        hosts=(replace(HOST, release="chat-3"),),
        models=(replace(CHAT, replicas_ready=0),),
        server=Server(answers=False, why_not="loading", restarts={"engine host chat-3/0": 2, "API worker 0": 5}),
    )
    found = {one.rule: one for one in diagnose(seen, load_rules()).findings}
    assert "2 times" in found["D616"].cause and found["D600"].because_of == "D616"


@pytest.mark.parametrize("rule", sorted(BY_ID))
def test_a_rule_without_its_readings_is_unknown_and_silent(rule: str) -> None:
    needs = BY_ID[rule].needs
    assert needs, "what it reads is not said"
    for name in needs:
        seen = replace(Readings(), **CASES[rule][0], missing={name: "not here"})
        diagnosis = diagnose(seen, [BY_ID[rule]])
        assert diagnosis.findings == ()
        assert [(one.rule, one.missing) for one in diagnosis.unknown] == [(rule, f"{name}: not here")]


def test_what_a_rule_needs_is_a_reading() -> None:
    known = {field.name: field.type for field in msgspec.structs.fields(Readings)}
    for rule in load_rules():
        for name in rule.needs:
            part, _, field = name.partition(".")
            assert part in known, f"{rule.id} needs {name}"
            if field:
                kind = known[part]
                of_each = get_args(kind)[0] if get_origin(kind) is tuple else kind
                assert field in {one.name for one in msgspec.structs.fields(of_each)}, f"{rule.id} needs {name}"


def test_causes_have_no_circles_and_name_rules() -> None:
    graph = {rule.id: rule.explains for rule in load_rules()}
    TopologicalSorter(graph).prepare()
    assert {one for rule in load_rules() for one in rule.explains} <= set(BY_ID)


def test_a_consequence_stands_below_its_cause_and_the_worst_first() -> None:
    seen = replace(
        Readings(),
        **group(quota_cores=1.0, throttled_share=0.5),
        models=(replace(CHAT, queue_s=3.0, first_token_s=3.1, token_s=0.01, token_slow_s=0.5),),
        stored=Stored(restoring=True),
        backup=Backup(set_up=False),
    )
    found = diagnose(seen, load_rules()).findings
    assert [one.rule for one in found] == ["D943", "D102", "D608", "D607", "D906"]
    assert [one.because_of for one in found] == ["", "", "D102", "D102", ""]


def test_without_a_server_only_what_lies_on_the_disk_is_judged() -> None:
    seen = replace(
        Readings(),
        server=Server(running=False, answers=False, why_not="no server runs from this home"),
        **place(free_bytes=GIB),
    )
    assert [one.rule for one in diagnose(seen, load_rules()).findings] == ["D301"]


HANDBOOK = {
    "CUDA graphs at low utilisation": ("D702", {**gpu(busy_share=0.1), **models()}, "CUDA graphs"),
    "gradient checkpointing at out of memory": (
        "D703",
        {"log": Log(out_of_memory=("host chat-0: CUDA out of memory",))},
        "gradient checkpointing",
    ),
    "locking clocks at jitter": ("D607", {**models(token_s=0.01, token_slow_s=0.5), **gpu()}, "1350"),
}


@pytest.mark.parametrize(("rule", "fields", "remedy"), HANDBOOK.values(), ids=HANDBOOK)
def test_the_three_rows_of_the_handbook_say_where_their_remedy_is_wrong(
    rule: str, fields: dict[str, Any], remedy: str
) -> None:
    found = next(one for one in diagnose(replace(Readings(), **fields), load_rules()).findings if one.rule == rule)
    assert remedy in found.wrong_remedy and remedy not in found.remedy


def test_graphs_are_the_remedy_where_kernels_are_launched_one_by_one_under_load() -> None:
    seen = replace(Readings(), **gpu(busy_share=0.2), **process(eager=True), **models(running=4))
    (found,) = (one for one in diagnose(seen, load_rules()).findings if one.area == "gpu")
    assert found.rule == "D701" and "enforce-eager" in " ".join(found.commands) and not found.wrong_remedy


def test_checkpointing_is_the_remedy_in_training() -> None:
    seen = replace(Readings(), log=Log(training_out_of_memory=("run-1: OutOfMemoryError",)))
    (found,) = diagnose(seen, load_rules()).findings
    assert "gradient checkpointing is right" in found.remedy and not found.wrong_remedy
