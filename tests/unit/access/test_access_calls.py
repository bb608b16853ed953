"""The declared calls of the access room on a real state, over HTTP without a socket and on the command line."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from admin_app import AdminApp

from ashore.cli.access import app as command
from ashore.cli.target import ServerTarget
from ashore.control.access import AccountWish, KeyWish, People
from ashore.control.access.calls import open_desk
from ashore.control.access.calls.desk import AccessDesk
from ashore.control.drills.calls import subject_of
from ashore.core.clock import ManualClock
from ashore.core.errors import AshoreError, InvalidRequest, NotFound
from ashore.data.authority import BUILT_IN, DEFAULT_TENANT, SYSTEM, Acts, Principal
from ashore.data.authority.names import SqlNames
from ashore.data.authority.policy import check_resource
from ashore.kit.state import open_database

DAY_S = 86_400


class Officer:
    """Takes everybody for the security officer sec."""

    def authenticate(self, token: str | None, origin: str = "") -> Principal:
        return Principal(id="sec", tenant=DEFAULT_TENANT)


class Site(AdminApp):
    """An application with a state, that a security officer administers."""

    def __init__(self, folder: Path) -> None:
        super().__init__("security-officer", door=Officer(), settle=self._settled)
        clock = ManualClock()
        self.database = open_database(folder / "state.db", snapshots=folder / "snapshots", clock=clock)
        self.settled = 0
        people = People(Acts(self.database, self.recorder, clock))
        people.create_account(SYSTEM, AccountWish(id="sec", roles=("security-officer",), key=KeyWish()))
        self.desks["access"] = open_desk(self.database, clock, self.recorder)

    async def _settled(self) -> None:
        self.settled += 1

    def command(self, *words: str) -> None:
        command(list(words), exit_on_error=False, result_action="return_value")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    made = Site(tmp_path)

    def ask_server(target: object, method: str, path: str, *, body: bytes | None = None) -> bytes:
        where, _, query = path.partition("?")
        status, answer = made.send(method, where, body or b"", query)
        if status != 200:
            raise AshoreError(json.loads(answer)["error"]["message"])
        return answer

    monkeypatch.setattr("ashore.cli.target.ask_server", ask_server)
    monkeypatch.setattr("ashore.cli.target.find_target", lambda url, *, key=None: ServerTarget(url=url or ""))
    yield made
    made.database.close()


def test_a_change_is_answered_when_every_process_goes_by_it_and_a_list_waits_for_nobody(site: Site) -> None:
    assert site.ask("POST", "/admin/v1/tenants", {"name": "acme"})["name"] == "acme" and site.settled == 1
    assert site.ask("POST", "/admin/v1/tenants", {"name": "acme"})["status"] == 409
    assert [one["name"] for one in site.ask("GET", "/admin/v1/tenants")["items"]] == ["acme", "default"]
    assert site.settled == 1, "a refusal and a list change nothing"


def test_users_and_service_accounts_are_two_nouns_of_the_same_calls(site: Site) -> None:
    for path, kind, name in (("users", "user", "alice"), ("service-accounts", "service", "app")):
        made = site.ask("POST", f"/admin/v1/{path}", {"id": name, "key": {"models": ["chat"]}})
        assert made["account"]["kind"] == kind and made["key"]["record"]["models"] == ["chat"]
        assert name in [one["id"] for one in site.ask("GET", f"/admin/v1/{path}")["items"]]
        assert site.ask("PATCH", f"/admin/v1/{path}/{name}", {"disabled": True})["disabled"] is True
        assert site.ask("DELETE", f"/admin/v1/{path}/{name}") == {"removed": f"{kind}/{name}"}
    acts = [act.action for act in site.recorder.acts if act.actor == "sec"]
    for kind in ("user", "service"):
        assert [act for act in acts if act.startswith(f"{kind}:")] == [
            f"{kind}:create", f"{kind}:change", f"{kind}:remove",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "query", "said"),
    [
        ("users", "limit=0", "limit"),
        ("users", "limit=1001", "limit"),
        ("keys", "ownr=alice", "did you mean 'owner'"),
        ("policy", "version=0", "version"),
        ("policy/history", "limit=x", "limit"),
        ("can", "action=infer", "resource"),
    ],
)
def test_a_wrong_query_is_refused_by_name(site: Site, path: str, query: str, said: str) -> None:
    refused = site.ask("GET", f"/admin/v1/{path}", query=query)
    assert refused["status"] == 400 and said in refused["message"] + refused.get("hint", "")


def test_a_server_without_a_state_says_so() -> None:
    refused = AdminApp("security-officer").ask("GET", "/admin/v1/users")
    assert refused["status"] == 503 and "access needs a state" in refused["message"]


def test_a_new_key_is_alone_on_stdout_and_has_what_was_asked(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.command("user", "create", "alice", "--title", "Alice")
    told = capsys.readouterr()
    assert told.out.startswith("ash_") and told.out.count("\n") == 1
    assert "created user/alice" in told.err and "shown only once" in told.err and told.out.strip() not in told.err
    site.command("user", "create", "ben", "--no-key")
    assert capsys.readouterr().out == "created user/ben\n"
    site.command("key", "create", "ben", "--model", "chat", "deepseek-*", "--network", "10.0.0.0/8", "--expires", "90d")
    told = capsys.readouterr()
    (key,) = site.ask("GET", "/admin/v1/keys", query="owner=ben")["items"]
    assert key["models"] == ["chat", "deepseek-*"] and key["networks"] == ["10.0.0.0/8"]
    assert key["expires_at"] - key["created_at"] == 90 * DAY_S and "until" in told.err
    site.command("key", "rotate", key["id"], "--overlap", "1h")
    capsys.readouterr()
    old = next(one for one in site.ask("GET", "/admin/v1/keys", query="owner=ben")["items"] if one["id"] == key["id"])
    assert old["expires_at"] - old["created_at"] == 3600
    for wrong in ("90x", "90"):
        with pytest.raises(InvalidRequest, match=f"'{wrong}' is not a duration"):
            site.command("key", "create", "ben", "--expires", wrong)


def test_a_key_for_a_model_that_is_not_there_is_made_with_a_note(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = site.desks["access"]
    assert isinstance(desk, AccessDesk)
    site.desks["access"] = replace(desk, names=SqlNames(site.database, lambda: ("chat", "deepseek-v2")))
    site.command("user", "create", "alice", "--no-key")
    site.command("key", "create", "alice", "--model", "chat", "deepseek-*", "chta", "qwen*")
    told = capsys.readouterr()
    assert [line for line in told.err.splitlines() if line.startswith("note:")] == [
        "note: 'chta', which the key is limited to, matches no alias now",
        "note: 'qwen*', which the key is limited to, matches no alias now",
    ]


def test_a_whole_key_names_its_key_and_is_repeated_nowhere(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    site.command("user", "create", "alice", "--no-key")
    capsys.readouterr()
    site.command("key", "create", "alice")
    secret = capsys.readouterr().out.strip()
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(InvalidRequest, match=f"revoke the key {secret[:12]} for good$"):
        site.command("key", "revoke", secret)
    stranger = f"ash_00000000_{secret[13:]}"
    assert "no key 'ash_00000000'" in site.ask("DELETE", f"/admin/v1/keys/{stranger}")["message"]
    assert site.ask("DELETE", f"/admin/v1/keys/{secret}")["revoked_at"]
    assert secret[13:] not in repr([(act.resource, act.reason, act.detail) for act in site.recorder.acts])


@pytest.mark.parametrize(
    ("rule", "meant"),
    [
        ("deny infer on modle/smollm2", "model/smollm2"),
        ("infer on smollm2", "model/smollm2"),
        ("budget:write on tennant/bank-a", "tenant/bank-a"),
        ("access:read on user/alice", "tenant/NAME/user/alice"),
        ("infer on model", "model/*"),
        ("infer on model/", "model/*"),
        ("budget:write on servr", "server"),
        ("budget:write on server/*", "server"),
        ("infer on smol*", "model/smol*"),
    ],
)
def test_a_resource_of_no_kind_is_refused_with_what_was_meant(site: Site, rule: str, meant: str) -> None:
    resource = rule.rpartition(" ")[2]
    role = {"name": "r", "rules": [rule]}
    for method, path, body, query in (
        ("PUT", "roles/r", {"rules": [rule]}, ""),
        ("PUT", "policy", {"base_version": 0, "roles": [role]}, ""),
        ("GET", "can", None, f"action=infer&resource={resource}"),
    ):
        refused = site.ask(method, f"/admin/v1/{path}", body, query=query)
        assert refused["status"] == 400 and refused["message"].startswith(f"{resource!r} is not a resource")
        assert f"did you mean {meant!r}?" in refused["message"] + refused.get("hint", "")


def test_every_resource_of_a_built_in_role_is_one() -> None:
    resources = {rule.resource for role in BUILT_IN for rule in role.rules}
    for resource in (*resources, "model/*", "mod*", "policy", "tenant/acme/job/j", "release/chat-*", "serv*"):
        assert check_resource(resource) == resource


def test_a_rule_may_name_a_dataset_and_a_drill() -> None:
    for resource in ("dataset/acme/calls", "dataset/acme/*", subject_of("kill-a-host")):
        assert check_resource(resource) == resource


def test_every_page_of_a_long_list_is_shown(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    for at in range(3):
        site.ask("POST", "/admin/v1/users", {"id": f"u{at}"})
    first = site.ask("GET", "/admin/v1/users", query="limit=2")
    assert [one["id"] for one in first["items"]] == ["sec", "u0"] and first["next"] == "u0"
    site.command("user", "list", "--json")
    listed = json.loads(capsys.readouterr().out)
    assert [one["id"] for one in listed["items"]] == ["sec", "u0", "u1", "u2"] and listed["next"] is None


def test_groups_and_roles_in_the_words_of_the_command_line(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.command("user", "create", "alice", "--no-key")
    site.command("group", "create", "quants")
    capsys.readouterr()
    site.command("group", "add", "quants", "alice")
    assert capsys.readouterr().out == "alice\n"
    site.command("role", "grant", "group/quants", "viewer")
    assert "+ group/quants has viewer" in capsys.readouterr().out
    site.command("role", "revoke", "group/quants", "viewer")
    assert "- group/quants has viewer" in capsys.readouterr().out
    site.command("group", "drop", "quants", "alice")
    assert capsys.readouterr().out == "none\n"


def test_a_dry_run_of_a_policy_file_changes_nothing(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = site.ask("GET", "/admin/v1/policy")
    site.command("policy", "show")
    file = tmp_path / "policy.toml"
    file.write_text(capsys.readouterr().out + '[[role]]\nname = "reader"\nrules = ["infer on model/chat"]\n')
    site.command("policy", "apply", str(file), "--dry-run")
    said = capsys.readouterr().out
    assert "+ role reader: infer on model/chat" in said and "dry run" in said
    assert site.ask("GET", "/admin/v1/policy") == before
    file.write_text("[[role]]\nname = 7\nrules = []\n")
    with pytest.raises(InvalidRequest, match=r"roles\[0\].name|roles\[...\].name"):
        site.command("policy", "apply", str(file))


def test_a_dry_run_says_whose_key_it_is_and_knows_who_need_not_have_an_account(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    key = site.ask("GET", "/admin/v1/keys")["items"][0]["id"]
    site.command("key", "revoke", key, "--dry-run")
    assert capsys.readouterr().out == f"dry run: would revoke the key {key} for good, of sec\n"
    site.command("user", "disable", "corp:alice", "--dry-run")
    assert "would disable corp:alice" in capsys.readouterr().out
    for words in (("user", "remove", "corp:alice"), ("user", "disable", "alice"), ("group", "remove", "quants")):
        with pytest.raises(NotFound):
            site.command(*words, "--dry-run")
    assert site.settled == 0, "nothing was sent"


def test_whoami_names_the_account_its_roles_and_what_they_allow(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.command("whoami", "--json")
    me = json.loads(capsys.readouterr().out)
    assert (me["account"], me["tenant"], me["limits"]) == ("user/sec", "default", {})
    assert me["roles"] == [{"role": "security-officer", "by": "user/sec"}]
    assert "role:grant" in me["may"] and "model:pull" not in me["may"]
    site.command("whoami")
    shown = capsys.readouterr().out
    assert "user/sec of tenant default" in shown and "security-officer (by user/sec)" in shown
    assert f"may       {', '.join(me['may'])}\n" in shown
