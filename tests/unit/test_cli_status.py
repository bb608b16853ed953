"""`ashore status`, and what commands say that act as the owner of a home."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest

from ashore.cli.backends import BackendShown
from ashore.cli.main import main
from ashore.cli.recorded import acts_as_owner
from ashore.cli.status import Status, accelerators, figures, last_backup, models_of, needs_of, show
from ashore.control.backup import BackupHome
from ashore.control.backup.model import FORMAT, Vault
from ashore.control.doctor import Readings
from ashore.control.doctor.probes.home import failed_of, read_releases
from ashore.control.doctor.probes.serving import read_backup
from ashore.control.doctor.readings import Backup, Cache, Configuration, Releases, Server
from ashore.control.doctor.samples import Samples
from ashore.data.engines import EngineOptions, ModelPlan
from ashore.data.releases.model import Alias, Book, Course, Release
from ashore.kit.metrics import Metrics
from ashore.kit.processes import resident_bytes_of
from ashore.kit.rooms import rooms

RUNNING = Status(running=True, home="/h")


def release(name: str, alias: str, variant: str = "int8") -> Release:
    plan = ModelPlan(
        alias=alias, release=name, name="smollm2", variant=variant, options=EngineOptions(kind="openvino"), replicas=1,
        embedder=False, in_store=True,
    )  # fmt: skip
    return Release(name=name, alias=alias, plan=plan, parts={}, content="c", needed_bytes=5)


def test_what_the_page_of_metrics_tells() -> None:
    metrics = Metrics(metric for room in rooms() for metric in room.metrics)
    metrics.set("ashore_running_sequences", 2, "chat")
    metrics.set("ashore_running_sequences", 1, "embed")
    metrics.set("ashore_waiting_sequences", 0, "chat")
    for result, times in (("miss", 3), ("hit-exact", 4), ("hit-reworded", 1)):
        metrics.add("ashore_cache_lookups", times, "chat", result)
    found = figures(Samples(metrics.page().decode()), RUNNING)
    assert (found.requests_running, found.requests_waiting, found.cache_hit_rate) == (3, 0, 5 / 8)
    empty = figures(Samples(""), RUNNING)
    assert (empty.requests_running, empty.cache_hit_rate) == (None, None)


def test_the_newest_backup_is_that_of_the_home_however_it_was_made(tmp_path: Path) -> None:
    assert last_backup(tmp_path) == (None, [])
    vault = Vault(format=FORMAT, vault_id="v", code="2+1", places=(), node_ids=(), writer="w")
    BackupHome(tmp_path).write(vault)
    assert last_backup(tmp_path) == (None, []), "set up, and none made"
    BackupHome(tmp_path).write(msgspec.structs.replace(vault, backed_up_s=1_700_000_000))
    assert last_backup(tmp_path) == (1_700_000_000, [])


def test_a_damaged_file_of_the_backup_is_something_that_needs_somebody(tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "vault.json").write_text("[]")
    at_s, (need,) = last_backup(tmp_path)
    assert at_s is None and "vault.json cannot be read" in need.what and "recovery key" in need.do


def test_a_server_that_is_well_needs_nobody() -> None:
    assert needs_of(Readings()) == []
    advice = Readings(backup=Backup(set_up=False), server=Server(by_unit=False))
    assert needs_of(advice) == [], "advice is the doctor's; nobody must do it"


def test_a_server_that_needs_nobody_points_to_the_advice_of_the_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    show(RUNNING)
    assert "nothing needs you\n  advice: run `ashore doctor`" in capsys.readouterr().out


def test_what_is_wrong_is_told_the_worst_first_with_a_command() -> None:
    found = needs_of(
        Readings(
            server=Server(answers=False, why_not="a model has no engine host ready"),
            releases=Releases(failed=(("chat-2", "out of memory"),)),
            cache=Cache(used=True, up=False),
            configuration=Configuration(differs=("[cache] ttl_s: 60 -> 90",)),
        )
    )
    assert [one.what.partition(" ")[0] for one in found] == ["not", "release", "the", "ashore.toml"]
    assert [one.do for one in found] == [
        "ashore logs",
        "ashore release show chat-2",
        "ashore status",
        "ashore reload --dry-run",
    ]


PAGE = """
ashore_backup_nodes{what="spare"} -1
ashore_backup_failures{kind="scrub"} 1
ashore_backup_time_seconds{kind="run",what="due"} 92800
"""


def test_what_the_page_says_of_the_backup() -> None:
    found = read_backup(Samples(PAGE), 100_000.0, set_up=True, shared_device=())
    assert found == Backup(spare=-1, failures={"scrub": 1}, late_s={"run": 7200.0})
    assert [one.what for one in needs_of(Readings(backup=found))] == [
        "backup nodes with data are lost",
        "the last scheduled scrub of the backup failed",
        "a run of the backup is 2 h late",
    ]
    assert read_backup(Samples(""), 100_000.0, set_up=True, shared_device=()) == Backup()


def test_a_release_that_failed_needs_somebody_until_another_took_its_place() -> None:
    releases = [release("chat-1", "chat"), release("chat-2", "chat")]
    courses = {
        "chat-1": Course(release="chat-1", state="live"),
        "chat-2": Course(release="chat-2", state="failed", why="x"),
    }
    book = Book(releases={one.name: one for one in releases}, courses=courses, aliases={})
    assert failed_of(book) == (("chat-2", "x"),)
    third = Book(
        releases={**book.releases, "chat-3": release("chat-3", "chat")},
        courses={**courses, "chat-3": Course(release="chat-3", state="live")},
        aliases={},
    )
    assert failed_of(third) == ()


def test_models_that_answer_or_are_on_their_way() -> None:
    releases = [release("chat-1", "chat"), release("chat-2", "chat", "int4"), release("old", "chat"), release("a", "a")]
    states = {"chat-1": "live", "chat-2": "canary", "old": "retired", "a": "live"}
    courses = {name: Course(release=name, state=state, why="x") for name, state in states.items()}  # type: ignore[arg-type]
    found = models_of(Book(releases={one.name: one for one in releases}, courses=courses, aliases={}))
    assert [(one.release, one.model, one.engine, one.state) for one in found] == [
        ("a", "smollm2@int8", "openvino", "live"),
        ("chat-1", "smollm2@int8", "openvino", "live"),
        ("chat-2", "smollm2@int4", "openvino", "canary"),
    ]
    assert {(one.memory_bytes, one.why) for one in found} == {(5, "x")}


def test_aliases_that_were_set_by_hand_are_shown_where_they_lead() -> None:
    releases = [release("chat-1", "chat"), release("chat-2", "chat", "int4")]
    courses = {one.name: Course(release=one.name, state="live", why="x") for one in releases}
    aliases = {
        "chat": Alias(name="chat", weights=(("chat-2", 1000),)),
        "prod": Alias(name="prod", weights=(("chat-2", 1000),)),
        "old": Alias(name="old", weights=(("chat-1", 1000),)),
    }
    found = models_of(Book(releases={one.name: one for one in releases}, courses=courses, aliases=aliases))
    assert [(one.alias, one.release, one.memory_bytes) for one in found] == [
        ("chat", "chat-2", 5),
        ("old", "chat-1", 5),
        ("prod", "chat-2", 0),
    ]


def test_accelerators_are_found_by_what_their_drivers_show(tmp_path: Path) -> None:
    assert accelerators(tmp_path) == []
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidiactl", "davinci1"):
        (tmp_path / "dev" / name).touch()
    assert accelerators(tmp_path) == ["NVIDIA", "Ascend"]
    card = tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0"
    card.mkdir(parents=True)
    (card / "information").write_text("Model: \t NVIDIA H100\nIRQ: 1\n")
    assert accelerators(tmp_path) == ["NVIDIA H100", "Ascend"]


def test_without_a_server_it_says_so_and_how_to_start_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path))
    assert main(["status"]) == 4
    said = capsys.readouterr().out
    assert f"no server is running from {tmp_path}" in said and "ashore up" in said
    assert main(["status", "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["running"] is False
    assert main(["ps"]) == 2 and "ashore model ps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "owner"),
    [
        ("audit search", True), ("job list", False), ("job webhook-secret", True), ("model remove x", True),
        ("access revive", True), ("cache stats", False),
        ("model list", False), ("release list", False), ("access user list", False), ("audit search --help", False),
        ("audit", False), ("audit search --url http://far", False), ("audit status --url=http://far", False),
        ("audit mine", False),
    ],
)  # fmt: skip
def test_which_commands_act_as_the_owner_of_the_home(line: str, owner: bool) -> None:
    assert acts_as_owner(line.split()) == owner


def test_a_key_that_is_not_used_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path))
    purge = ["cache", "purge", "--tenant", "default"]
    assert main(purge) == 0
    assert "acting as the owner" not in capsys.readouterr().err
    monkeypatch.setenv("ASHORE_API_KEY", "ash_x")
    assert main(purge) == 0
    err = capsys.readouterr().err
    assert "acting as the owner of this home (os:" in err and "not with the key in ASHORE_API_KEY" in err
    assert "ash_x" not in err
    main(["status"])
    main(["job", "list"])
    assert "acting as the owner" not in capsys.readouterr().err


def test_a_release_whose_servers_are_all_out_is_named() -> None:
    def server(release: str, state: str) -> BackendShown:
        return BackendShown(
            alias="chat", release=release, url="http://h", state=state, reason="", last_error="", running=0, sent=0,
            times_out=0, prompt_tokens=0, cached_tokens=0,
        )  # fmt: skip

    def found(*servers: BackendShown) -> tuple[tuple[str, ...], tuple[str, ...]]:
        told = read_releases(Book(releases={}, courses={}, aliases={}), 0.0, servers)
        return told.without_servers, told.out

    assert found() == ((), ())
    assert found(server("a-1", "ready"), server("b-1", "new")) == ((), ())
    assert found(server("a-1", "out"), server("a-1", "out"), server("b-1", "ready"))[0] == ("a-1",)
    (other,) = found(server("a-1", "out"), server("a-1", "ready"))[1]
    assert other.startswith("http"), "one that is out beside others is named by its address"


def test_planned_and_resident_memory_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    book = Book(
        releases={"chat-1": release("chat-1", "chat")},
        courses={"chat-1": Course(release="chat-1", state="live")},
        aliases={},
    )
    (model,) = models_of(book, {"chat-1": {"state": "loaded", "resident_bytes": 3 << 20}})
    assert (model.memory_bytes, model.resident_bytes) == (5, 3 << 20)
    show(Status(running=True, home="/h", models=[model]))
    show(Status(running=True, home="/h", models=[msgspec.structs.replace(model, residence="cold")]))
    head, row, _, cold = (
        line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(("chat", "alias"))
    )
    assert head[5:7] == ["planned", "resident"] and row[5:9] == ["5", "B", "3", "MiB"]
    assert row[4] == "live" and cold[4:6] == ["live,", "cold"]


def test_what_a_process_and_its_children_hold() -> None:
    assert resident_bytes_of(os.getpid()) > 1 << 20
    assert resident_bytes_of(2**22 + 1) == 0
