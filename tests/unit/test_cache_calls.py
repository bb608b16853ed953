"""The cache as whoever looks after it sees it: who may purge what, what the audit log says, figures of all workers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from admin_app import AdminApp, run_command
from scratch import FewNames

from ashore.cli.cache import app as command
from ashore.cli.main import main
from ashore.core.clock import ManualClock
from ashore.data.authority import Role, parse_rule
from ashore.data.cache import AnswerCache, CachePolicy, CuratedAnswers, FixedEpochs
from ashore.data.cache.calls import CacheDesk
from ashore.kit.state import Database, open_database

PATH = "/admin/v1/cache"
ENTRY = "0a1b2c3d4e5f6071"


class Beside:
    """Another worker, which answers what it was told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer = b""

    async def ask(self, path: str, *, timeout_s: float = 1.0) -> list[bytes]:
        self.asked.append(path)
        return [self.answer]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Database]:
    database = open_database(tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=ManualClock())
    yield database
    database.close()


def desk_of(state: Database | None, *roles: str, own: tuple[Role, ...] = (), beside: Beside | None = None) -> AdminApp:
    app = AdminApp(*roles, own=own)
    cache = AnswerCache(
        CachePolicy(), secret=b"x" * 32, epochs=FixedEpochs(), clock=ManualClock(), curated=CuratedAnswers(())
    )
    app.desks["cache"] = CacheDesk(
        rights=app.authority,
        recorder=app.recorder,
        database=state,
        cache=cache,
        workers=beside,
        names=FewNames({"tenant": ["acme", "default"], "model": ["chat"]}),
    )
    return app


@pytest.mark.parametrize(
    "asked, detail",
    [
        ({"tenant": "acme"}, {"tenant": "acme"}),
        ({"tenant": "acme", "model": "chat"}, {"tenant": "acme", "model": "chat"}),
        ({"entry": ENTRY}, {"entry": ENTRY}),
        ({"all": True}, {"all": 1}),
    ],
)
def test_the_audit_log_says_what_was_purged(state: Database, asked: dict[str, Any], detail: dict[str, Any]) -> None:
    app = desk_of(state, "system-administrator")
    assert app.ask("POST", f"{PATH}/purge", asked)["purged"]
    (act,) = app.recorder.acts
    assert (act.action, act.resource, act.origin, act.detail) == ("cache:purge", "cache", "10.0.0.9", detail)


@pytest.mark.parametrize("asked", [{}, {"all": True, "tenant": "acme"}, {"entry": "x"}, {"alles": True}])
def test_a_purge_that_makes_no_sense_is_refused(state: Database, asked: dict[str, Any]) -> None:
    app = desk_of(state, "system-administrator")
    assert app.ask("POST", f"{PATH}/purge", asked)["status"] == 400 and not app.recorder.acts


def test_a_right_on_one_tenant_purges_that_one_alone(state: Database) -> None:
    app = desk_of(state, own=(Role(name="own", title="", rules=(parse_rule("allow cache:purge on tenant/acme"),)),))
    assert "purged" in app.ask("POST", f"{PATH}/purge", {"tenant": "acme"})
    for more in ({"tenant": "beta"}, {"tenant": "acme", "model": "chat"}, {"entry": ENTRY}, {"all": True}):
        assert app.ask("POST", f"{PATH}/purge", more)["status"] == 403
    assert len([act for act in app.recorder.acts if act.action == "cache:purge" and act.outcome == "done"]) == 1
    assert desk_of(state, "developer").ask("POST", f"{PATH}/purge", {"all": True})["status"] == 403
    assert desk_of(None, "system-administrator").ask("POST", f"{PATH}/purge", {"all": True})["status"] == 503


def test_figures_of_all_workers_are_added_up(state: Database) -> None:
    share = dict.fromkeys(("entries", "num_bytes", "lookups", "misses", "hits_exact", "hits_reworded", "stored"), 1)
    share |= {"tenant": "acme", "model": "chat", "refused": 0, "evictions": 0}
    beside = Beside()
    app = desk_of(state, "system-administrator", beside=beside)
    beside.answer = json.dumps({"items": [], "shares": [share, share], "held": []}).encode()
    told = app.ask("GET", PATH, query="model=chat&tenant=acme")
    assert [one["worker"] for one in told["items"]] == [0] and told["shares"][0]["entries"] == 2
    assert beside.asked == ["/internal/cache?tenant=acme&model=chat"]
    assert app.ask("GET", PATH, query="model=" + "x" * 201)["status"] == 400


def test_the_command_purges_with_the_key_that_is_named(
    state: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = desk_of(state, "system-administrator")
    app.answer_commands(monkeypatch)
    run_command(command, "purge", "--tenant", "acme", "--key", "ash_x")
    assert capsys.readouterr().out == "purged: tenant acme\n"
    monkeypatch.setenv("ASHORE_API_KEY", "ash_x")
    run_command(command, "purge", "--all", "--yes", "--json")
    assert json.loads(capsys.readouterr().out)["purged"]
    assert [act.detail for act in app.recorder.acts] == [{"tenant": "acme"}, {"all": 1}]
    run_command(command, "stats")
    assert "worker 0: 0 asked" in capsys.readouterr().out


def test_without_a_server_the_owner_purges_and_the_audit_log_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"question": "Hello?", "answer": "Good day."}\n')
    for words in (
        ("purge", "--tenant", "default"),
        ("purge", "--all", "--yes"),
        ("import", str(pairs)),
        ("purge", "--curated", "--tenant", "default"),
    ):
        assert main(["cache", *words]) == 0
    assert main(["cache", "import", str(tmp_path / "none")]) == 2
    assert main(["cache", "purge", "--all", "--tenant", "acme"]) == 2
    capsys.readouterr()
    assert main(["audit", "search", "--action", "cache:*", "--json"]) == 0
    items = json.loads(capsys.readouterr().out)["items"]
    assert [(one["action"], one["outcome"], one.get("detail", {})) for one in reversed(items)] == [
        ("cache:purge", "done", {"tenant": "default"}),
        ("cache:purge", "done", {"all": 1}),
        ("cache:import", "done", {"curated": 1}),
        ("cache:purge", "done", {"tenant": "default", "curated": 0}),
        ("cache:import", "failed", {}),
    ]
    assert {one["actor"][:3] for one in items} == {"os:"}


@pytest.mark.parametrize(
    ("asked", "noun", "near"), [({"tenant": "acne"}, "tenant", "acme"), ({"model": "chta"}, "model", "chat")]
)
def test_a_name_that_was_mistyped_is_no_purge(state: Database, asked: dict[str, Any], noun: str, near: str) -> None:
    app = desk_of(state, "system-administrator")
    refused = app.ask("POST", f"{PATH}/purge", asked)
    assert (refused["status"], refused["param"]) == (404, noun) and f"did you mean '{near}'" in refused["hint"]
    assert not app.recorder.acts
    (name,) = asked.items()
    assert app.ask("GET", PATH, query="=".join(name))["status"] == 404, "nor are its figures zero"


def test_the_owner_of_a_home_purges_and_imports_for_who_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    for words in (["--tenant", "acne"], ["--model", "chta"], ["--curated", "--tenant", "acne"]):
        assert main(["cache", "purge", *words]) == 2
        assert f"there is no {words[-2].removeprefix('--')} '{words[-1]}'" in capsys.readouterr().err
    assert main(["cache", "purge", "--tenant", "default"]) == 0
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"question": "a", "answer": "b", "tenant": "acne"}\n')
    assert main(["cache", "import", str(pairs), "--dry-run"]) == 2, "a dry run refuses what the import refuses"
    assert "there is no tenant" in capsys.readouterr().err
    assert main(["cache", "import", str(pairs)]) == 2
    assert "there is no tenant 'acne'" in capsys.readouterr().err
    pairs.write_text('{"question": "a", "answer": "b"}\n')
    assert main(["cache", "import", str(pairs)]) == 0
