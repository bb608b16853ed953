"""`ashore status`, and what commands say that act as the owner of a home."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ashore.cli.main import main
from ashore.cli.needs import Need, Samples, needs_of
from ashore.cli.recorded import acts_as_owner
from ashore.cli.status import BackendShown, Status, accelerators, failed_of, figures, models_of, without_servers
from ashore.engines import EngineOptions
from ashore.metrics import Metrics
from ashore.planning import ModelPlan
from ashore.releases.model import Alias, Book, Course, Release
from ashore.rooms import rooms

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
    metrics.set("ashore_backup_time_seconds", 1_700_000_000, "run", "good")
    metrics.set("ashore_backup_time_seconds", 1_800_000_000, "run", "due")
    found = figures(Samples(metrics.page().decode()), RUNNING)
    assert (found.requests_running, found.requests_waiting, found.cache_hit_rate) == (3, 0, 5 / 8)
    assert found.last_backup_at == 1_700_000_000
    empty = figures(Samples(""), RUNNING)
    assert (empty.requests_running, empty.cache_hit_rate, empty.last_backup_at) == (None, None, None)


def fresh() -> Metrics:
    metrics = Metrics(metric for room in rooms() for metric in room.metrics)
    metrics.drop("ashore_shared_cache_up")  # as a server without one
    return metrics


def needs(metrics: Metrics, **others: Any) -> list[tuple[str, str]]:
    """Return what needs the operator of a server that is well but for what is given."""
    well: dict[str, Any] = {"why_not": "", "failed": (), "silent": (), "more": (), "now_s": 100_000.0}
    well |= {"free_bytes": 50 << 30, "disk_bytes": 100 << 30}
    return [(one.what, one.do) for one in needs_of(Samples(metrics.page().decode()), **{**well, **others})]


def test_a_server_that_is_well_needs_nobody() -> None:
    metrics = fresh()
    assert needs(metrics) == []
    metrics.set("ashore_shared_cache_up", 1)
    metrics.set("ashore_jobs", 3, "batch", "queued")
    metrics.set("ashore_backup_nodes", 1, "spare")
    metrics.set("ashore_backup_failures", 0, "run")
    metrics.set("ashore_backup_time_seconds", 99_000, "run", "due")
    assert needs(metrics) == []


@pytest.mark.parametrize(
    ("name", "value", "labels", "said"),
    [
        ("ashore_shared_cache_up", 0, (), "the shared cache"),
        ("ashore_jobs", 2, ("batch", "dead"), "2 jobs failed for good"),
        ("ashore_backup_nodes", 0, ("spare",), "no further node of the backup"),
        ("ashore_backup_nodes", -1, ("spare",), "are lost"),
        ("ashore_backup_failures", 1, ("scrub",), "the last scheduled scrub"),
        ("ashore_backup_time_seconds", 100_000 - 2 * 3600, ("run", "due"), "2 h late"),
        ("ashore_audit_archive_failures", 1, (), "cannot be archived"),
    ],
)
def test_a_figure_that_is_bad_is_told_with_a_command(
    name: str, value: float, labels: tuple[str, ...], said: str
) -> None:
    metrics = fresh()
    metrics.set(name, value, *labels)
    ((what, do),) = needs(metrics)
    assert said in what and do


def test_what_no_figure_says_is_told_too_the_worst_first() -> None:
    found = needs(
        fresh(),
        why_not="a model has no engine host ready",
        failed=[("chat-2", "out of memory")],
        free_bytes=1 << 30,
        silent=[("/mnt/worm", "Permission denied")],
        more=[Need(what="ashore.toml differs from what runs: [cache] ttl_s: 60 -> 90", do="ashore reload")],
    )
    assert [what.partition(" ")[0] for what, _ in found] == ["not", "release", "the", "the", "ashore.toml"]
    assert found[1][1] == "ashore release show chat-2" and found[2][1] == "ashore model gc"
    assert found[4][1] == "ashore reload"


def test_a_release_that_failed_needs_somebody_until_another_took_its_place() -> None:
    releases = [release("chat-1", "chat"), release("chat-2", "chat")]
    courses = {
        "chat-1": Course(release="chat-1", state="live"),
        "chat-2": Course(release="chat-2", state="failed", why="x"),
    }
    book = Book(releases={one.name: one for one in releases}, courses=courses, aliases={})
    assert failed_of(book) == [("chat-2", "x")]
    third = Book(
        releases={**book.releases, "chat-3": release("chat-3", "chat")},
        courses={**courses, "chat-3": Course(release="chat-3", state="live")},
        aliases={},
    )
    assert failed_of(third) == []


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
        ("audit", False),
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
            times_out=0,
        )  # fmt: skip

    assert without_servers([]) == []
    assert without_servers([server("a-1", "out"), server("a-1", "ready"), server("b-1", "new")]) == []
    found = without_servers([server("a-1", "out"), server("a-1", "out"), server("b-1", "ready")])
    assert [one.what for one in found] == ["no server of a-1 can be used"]
