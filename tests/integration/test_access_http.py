"""Administration over HTTP and the command line, and what a change does to running requests, against a real worker."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from http_worker import Worker, http_worker, state_link

from ashore.cli.main import main
from ashore.data.authority import OFFICERS, make_internal_token, new_key, read_internal_token

CHAT = "/v1/chat/completions"
NAMES = ("sam", "sec", "ann")


class Site:
    """A worker, and the keys of its three administrators."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.lena = ""
        self.keys = {
            name: self.made("POST", "/users", {"id": name, "roles": [role], "key": {}}, key=worker.key)["key"]["key"]
            for name, role in zip(NAMES, OFFICERS, strict=True)
        }

    def ask(
        self, method: str, path: str, body: object = None, *, key: str, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Return status and answer of an admin call (`/users`) or any other (`/v1/…`)."""
        full = path if path.startswith(("/v1", "/openapi", "/metrics")) else "/admin/v1" + path
        sent = None if body is None else json.dumps(body)
        status, _, answer = self.worker.request(
            method, full, sent, {"authorization": f"Bearer {key}", **(headers or {})}
        )
        return status, json.loads(answer) if answer else None

    def made(self, method: str, path: str, body: object = None, *, key: str = "") -> Any:
        status, answer = self.ask(method, path, body, key=key or self.keys["sec"])
        assert status == 200, answer
        return answer

    def chat(self, key: str, model: str = "echo", text: str = "hi") -> int:
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        return self.ask("POST", CHAT, body, key=key)[0]

    def user(self, name: str, *roles: str, **wish: object) -> str:
        made = self.made("POST", "/users", {"id": name, "roles": list(roles), "key": {}, **wish})
        return str(made["key"]["key"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    run = tmp_path_factory.mktemp("worker")
    make_internal_token(run / "internal-token")
    with http_worker(run, state=state_link(run), internal_token_file=str(run / "internal-token")) as worker:
        yield Site(worker)


def within(seconds: float, what: Callable[[], bool]) -> float:
    """Wait until `what` holds; return how long it took."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < seconds, "it did not happen in time"
        time.sleep(0.01)
    return time.monotonic() - began


def test_the_first_key_is_dead_and_each_administrator_has_an_office(site: Site) -> None:
    status, answer = site.ask("GET", "/users", key=site.worker.key)
    assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
    assert "three administrators exist" in answer["error"]["message"]
    for path, allowed in (("/users", NAMES), ("/policy", NAMES)):
        for name in NAMES:
            assert (site.ask("GET", path, key=site.keys[name])[0] == 200) == (name in allowed), (path, name)
    assert [site.ask("POST", "/tenants", {"name": "t1"}, key=site.keys[name])[0] for name in NAMES] == [403, 200, 403]
    assert [site.chat(site.keys[name]) for name in NAMES] == [403, 403, 403]
    assert site.made("GET", "/can?action=audit:search&resource=server", key=site.keys["ann"])["allowed"]


def test_each_of_them_can_be_shown_alone(site: Site) -> None:
    site.made("POST", "/tenants", {"name": "shown", "title": "Shown"})
    site.made("POST", "/groups", {"name": "readers", "title": "Readers"})
    secret = site.user("vera", "developer", tenant="shown", groups=["readers"])
    asks = site.keys["sec"]
    assert site.made("GET", "/tenants/shown")["title"] == "Shown"
    assert site.made("GET", "/groups/readers")["members"] == ["vera"]
    role = site.made("GET", "/roles/developer")
    assert role["built_in"] and role["rules"] and "user/vera" in role["holders"]
    key = site.made("GET", f"/keys/{secret[:12]}")
    assert (key["owner"], key["tenant"], key["revoked_at"]) == ("vera", "shown", None) and secret not in str(key)
    for path, near in (("/tenants/shwn", "shown"), ("/groups/reader", "readers"), ("/roles/develper", "developer")):
        status, answer = site.ask("GET", path, key=asks)
        assert status == 404 and near in answer["error"]["hint"], answer
    assert site.ask("GET", "/keys/ash_nobodys0", key=asks)[0] == 404
    status, answer = site.ask("GET", f"/keys/{secret[:12]}", key=secret)
    assert status == 200, answer
    other = site.made("GET", "/keys?owner=sec")["items"][0]["id"]
    assert site.ask("GET", f"/keys/{other}", key=secret)[0] == 403
    assert site.ask("GET", "/keys/ash_nobodys0", key=secret)[0] == 403, "nor may she learn which there are"
    assert site.ask("GET", "/roles/developer", key=secret)[0] == 403


def test_answers_to_administration_are_not_kept_anywhere(site: Site) -> None:
    _, headers, _ = site.worker.request("GET", "/admin/v1/users", None, {"authorization": f"Bearer {site.keys['sec']}"})
    assert headers["cache-control"] == "no-store"


def test_a_developer_asks_only_what_they_may(site: Site) -> None:
    site.made("PUT", "/roles/echo-only", {"rules": ["infer on model/echo"]})
    key = site.user("dora", "echo-only")
    assert (site.chat(key), site.chat(key, "slow"), site.chat(key, "no-such-model")) == (200, 403, 403)
    status, models = site.ask("GET", "/v1/models", key=key)
    assert (status, [one["id"] for one in models["data"]]) == (200, ["echo"])
    status, answer = site.ask("POST", CHAT, {"model": "slow", "messages": [{"role": "user", "content": "x"}]}, key=key)
    assert answer["error"]["code"] == "permission_denied"
    for words in ("dora", "infer", "model/slow"):
        assert words in answer["error"]["message"]
    background = {"model": "slow", "input": "x", "background": True}
    assert site.ask("POST", "/v1/responses", background, key=key)[0] == 403


def test_who_may_ask_no_model_sees_nothing_of_what_the_tenant_keeps(site: Site) -> None:
    for path in ("/v1/jobs", "/v1/files", "/v1/batches", "/v1/jobs/x", "/v1/responses/x"):
        assert site.ask("GET", path, key=site.keys["ann"])[0] == 403, path


def test_a_repeated_request_is_refused_once_the_role_is_gone(site: Site) -> None:
    key = site.user("rita", "developer")
    assert [site.chat(key, text="again and again") for _ in range(4)] == [200] * 4
    site.made("POST", "/bindings", {"revoke": [{"subject": "user/rita", "role": "developer"}]})
    assert site.chat(key, text="again and again") == 403
    site.made("POST", "/bindings", {"grant": [{"subject": "user/rita", "role": "developer"}]})
    assert site.chat(key, text="again and again") == 200
    site.made("POST", "/bindings", {"grant": [{"subject": "user/rita", "role": "developer"}]})
    site.made("PATCH", "/users/rita", {"disabled": True})
    assert site.chat(key, text="again and again") == 401


def test_a_revoked_key_opens_nothing_when_the_answer_to_the_revocation_is_there(site: Site) -> None:
    key = site.user("kim", "developer")
    assert site.chat(key) == 200
    revoked = site.made("DELETE", f"/keys/{key[:12]}")
    assert revoked["revoked_at"] is not None
    assert site.chat(key) == 401


SHUT_OUT = {
    "disabled": lambda site: site.made("PATCH", "/users/lena", {"disabled": True}),
    "key revoked": lambda site: site.made("DELETE", f"/keys/{site.lena[:12]}"),
    "role taken": lambda site: site.made("POST", "/bindings", {"revoke": [{"subject": "user/lena", "role": "reader"}]}),
    "tenant disabled": lambda site: site.made("PATCH", "/tenants/lent", {"disabled": True}),
}


@pytest.mark.parametrize("how", SHUT_OUT)
@pytest.mark.parametrize("stream", (True, False))
def test_an_answer_under_way_ends_when_its_caller_may_not_ask_any_more(site: Site, how: str, stream: bool) -> None:
    if site.ask("GET", "/tenants/lent", key=site.keys["sec"])[0] == 404:
        site.made("POST", "/tenants", {"name": "lent"})
        site.made("PUT", "/roles/reader", {"rules": ["infer on model/*"]})
        site.made("POST", "/users", {"id": "lena", "roles": [], "tenant": "lent"})
    site.made("PATCH", "/tenants/lent", {"disabled": False})
    site.made("PATCH", "/users/lena", {"disabled": False})
    site.made("POST", "/bindings", {"grant": [{"subject": "user/lena", "role": "reader"}]})
    site.lena = site.made("POST", "/keys", {"owner": "lena"})["key"]
    body = {"model": "slow", "stream": stream, "messages": [{"role": "user", "content": "words " * 200}]}
    with closing(http.client.HTTPConnection("127.0.0.1", site.worker.port, timeout=30)) as connection:
        connection.request("POST", CHAT, json.dumps(body), {"authorization": f"Bearer {site.lena}"})
        if stream:
            answer = connection.getresponse()
            assert answer.status == 200 and answer.readline().startswith(b"data:")
        within(10, lambda: running(site) == 1)
        other = site.user(f"o{how[0]}{stream}", "developer")
        assert site.chat(other) == 200 and running(site) == 1, "what concerns others ends nothing of hers"
        SHUT_OUT[how](site)
        within(5, lambda: running(site) == 0)
        if not stream:
            answer = connection.getresponse()
            assert answer.status == (403 if how == "role taken" else 401)
        rest = answer.read()
    assert b"[DONE]" not in rest and b'"error"' in rest, rest


@pytest.mark.parametrize("path", ["/admin/v1/users", CHAT, "/v1/files"])
def test_a_body_that_was_on_the_way_when_its_key_was_revoked_does_nothing(site: Site, path: str) -> None:
    key = site.user(f"slow{len(path)}", "security-officer" if "admin" in path else "developer")
    form = b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b\r\n'
    form += b'content-disposition: form-data; name="file"; filename="late.jsonl"\r\n\r\n{}\r\n--b--\r\n'
    chat = {"model": "echo", "messages": [{"role": "user", "content": "late"}]}
    body = form if "files" in path else json.dumps({"id": "late"} if "admin" in path else chat).encode()
    kind = "multipart/form-data; boundary=b" if "files" in path else "application/json"
    with closing(http.client.HTTPConnection("127.0.0.1", site.worker.port, timeout=30)) as connection:
        connection.putrequest("POST", path)
        for name, value in (
            ("authorization", f"Bearer {key}"), ("content-type", kind), ("content-length", str(len(body))),
            ("expect", "100-continue"),
        ):  # fmt: skip
            connection.putheader(name, value)
        connection.endheaders()
        assert b"100 Continue" in connection.sock.recv(25, socket.MSG_WAITALL), "it was admitted, and its body read"
        site.made("DELETE", f"/keys/{key[:12]}")
        connection.send(body)
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["error"]["code"]) == (401, "invalid_api_key")
    assert site.ask("GET", "/users/late", key=site.keys["sec"])[0] == 404
    assert "late.jsonl" not in json.dumps(site.made("GET", "/v1/files", key=site.user(f"o{len(path)}", "developer")))


def running(site: Site) -> int:
    """Return how many sequences run."""
    _, _, told = site.worker.request("GET", "/metrics", None, {})
    return sum(
        int(float(line.rsplit(" ", 1)[1]))
        for line in told.decode().splitlines()
        if line.startswith("ashore_running_sequences{")
    )


def test_a_key_of_ones_own_is_rotated_and_the_secret_is_shown_once(site: Site) -> None:
    key = site.user("olga", "developer")
    new = site.made("POST", f"/keys/{key[:12]}/rotate", {"overlap_s": 0}, key=key)
    assert site.chat(new["key"]) == 200 and site.chat(key) == 401
    listed = site.made("GET", "/keys?owner=olga", key=new["key"])
    assert len(listed["items"]) == 2 and new["key"] not in json.dumps(listed)
    assert site.ask("GET", "/keys", key=new["key"])[0] == 403
    assert site.ask("GET", "/keys?owner=sec", key=new["key"])[0] == 403
    page = site.made("GET", "/keys?limit=2")
    assert len(page["items"]) == 2 and page["next"] == page["items"][-1]["id"]


def test_people_make_keys_of_their_own_that_die_as_others_do(site: Site) -> None:
    key = site.user("nora", "developer")
    new = site.made("POST", "/keys", {"title": "laptop", "expires_in_s": 3600}, key=key)
    assert new["record"]["owner"] == new["record"]["created_by"] == "nora" and site.chat(new["key"]) == 200
    assert site.ask("POST", "/keys", {"owner": "sec"}, key=key)[0] == 403
    assert site.ask("POST", "/keys", {}, key=site.user("nobody-yet"))[0] == 403
    site.made("DELETE", f"/keys/{new['record']['id']}", key=key)
    assert site.chat(new["key"]) == 401 and site.chat(key) == 200


def test_a_job_submitted_before_its_key_was_revoked_does_not_run_after(site: Site) -> None:
    key = site.user("jim", "echo-only")
    token = read_internal_token(site.worker.run / "internal-token")

    def run_job() -> tuple[int, Any]:
        """Ask as the job worker does."""
        body = {"model": "echo", "messages": [{"role": "user", "content": "from a job"}]}
        return site.ask(
            "POST", CHAT, body, key=token, headers={"x-ashore-on-behalf-of": f"jim%23key%3D{key[:12]}/default"}
        )

    assert run_job()[0] == 200
    site.made("POST", "/bindings", {"revoke": [{"subject": "user/jim", "role": "echo-only"}]})
    assert run_job()[0] == 403
    site.made("POST", "/bindings", {"grant": [{"subject": "user/jim", "role": "echo-only"}]})
    assert run_job()[0] == 200
    site.made("DELETE", f"/keys/{key[:12]}")
    status, answer = run_job()
    assert status == 403 and "was revoked" in answer["error"]["message"], "403 ends the job; a 401 would be tried again"
    assert site.ask("GET", "/users", key=token)[0] == 403


def test_two_editors_of_one_policy(site: Site) -> None:
    base = site.made("GET", "/policy")
    site.made("PUT", "/roles/racer", {"rules": ["infer on model/slow"]})
    mine = {"base_version": base["version"], "roles": base["roles"], "bindings": base["bindings"]}
    status, answer = site.ask("PUT", "/policy", mine, key=site.keys["sec"])
    assert status == 409 and "role racer: infer on model/slow" in answer["error"]["message"]
    fresh = site.made("GET", "/policy")
    same = {"base_version": base["version"], "roles": fresh["roles"], "bindings": fresh["bindings"]}
    for again in (same, {**same, "base_version": 0}, {**same, "dry_run": True}):
        answer = site.made("PUT", "/policy", again)
        assert (answer["version"], answer["changes"], answer["in_force"]) == (fresh["version"], [], False)
    others = [role for role in fresh["roles"] if role["name"] != "racer"]
    wish = {"base_version": fresh["version"], "roles": others, "bindings": fresh["bindings"], "dry_run": True}
    shown = site.made("PUT", "/policy", wish)
    assert shown["changes"] == ["- role racer", "- role racer: infer on model/slow"] and not shown["in_force"]


def test_nobody_raises_their_own_rights_over_http(site: Site) -> None:
    sec = site.keys["sec"]
    for method, path, body in (
        ("POST", "/bindings", {"grant": [{"subject": "user/sec", "role": "developer"}]}),
        ("POST", "/bindings", {"grant": [{"subject": "everyone", "role": "developer"}]}),
        ("PUT", "/roles/security-officer", {"rules": ["infer on *"]}),
        ("PUT", "/roles/all", {"rules": ["* on *"]}),
        ("POST", "/users", {"id": "x2", "roles": ["security-officer", "auditor"]}),
        ("POST", "/users", {"id": "x3", "roles": ["first-key"]}),
    ):
        status, answer = site.ask(method, path, body, key=sec)
        assert status in (400, 403), (path, answer)
    key = site.user("norm", "developer")
    for method, path, body in (
        ("POST", "/bindings", {"grant": [{"subject": "user/norm", "role": "security-officer"}]}),
        ("POST", "/keys", {"owner": "sec"}),
        ("PATCH", "/users/norm", {"title": "boss"}),
        ("PUT", "/policy", {"base_version": 0}),
        ("DELETE", f"/keys/{sec[:12]}", None),
    ):
        assert site.ask(method, path, body, key=key)[0] == 403, path


@pytest.mark.parametrize(
    "target",
    [
        "/admin/v1/users/", "//admin/v1/users", "/admin/v1/./users", "/admin/v1/../v1/users", "/admin/v1/users%2f",
        "/ADMIN/v1/users", "/admin/v1/users;x", "/admin/v1/users?x=/v1/models", "/v1/models/../../admin/v1/users",
        "/admin%2fv1%2fusers", "/admin/v1/users%00", "http://elsewhere/admin/v1/users",
    ],
)  # fmt: skip
def test_no_way_of_writing_the_path_leads_around_the_guard(site: Site, target: str) -> None:
    key = _key_of(site, "pat")
    raw = (
        f"GET {target} HTTP/1.1\r\nhost: admin.localhost\r\nauthorization: Bearer {key}\r\n"
        "x-forwarded-host: localhost\r\nx-original-url: /healthz\r\nx-rewrite-url: /healthz\r\n"
        "x-ashore-tenant: other\r\nx-ashore-on-behalf-of: sec/default\r\nconnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", site.worker.port), timeout=10) as sock:
        sock.sendall(raw.encode("latin-1"))
        answer = b""
        while part := sock.recv(65536):
            answer += part
    status = int(answer.split(b" ", 2)[1])
    assert status in (400, 403, 404), answer[:300]
    assert b'"sec"' not in answer


def _key_of(site: Site, name: str) -> str:
    """Return a key of a developer, made once."""
    if name not in site.keys:
        site.keys[name] = site.user(name, "developer")
    return site.keys[name]


def test_bodies_that_are_not_what_they_should_be(site: Site) -> None:
    sec = site.keys["sec"]
    for method, path, body in (
        ("POST", "/users", {"id": "a", "admin": True}),
        ("POST", "/users", {"id": 7}),
        ("POST", "/users", []),
        ("POST", "/users", {"id": "x" * 1000}),
        ("POST", "/users", {"id": "a", "roles": ["' OR 1=1 --"]}),
        ("POST", "/keys", {"owner": "sec", "expires_in_s": -1}),
        ("PUT", "/roles/bad", {"rules": ["infer on model/x", "drop on table"]}),
        ("PUT", "/policy", {"base_version": -1}),
        ("GET", "/keys?limit=x", None),
        ("GET", "/policy?version=-1", None),
        ("GET", "/can?action=infer", None),
    ):
        status, answer = site.ask(method, path, body, key=sec)
        assert 400 <= status < 405, (path, body, answer)
        assert answer["error"]["message"]


def test_the_description_names_every_route_once(site: Site) -> None:
    status, document = site.ask("GET", "/openapi.json", key=site.keys["ann"])
    assert status == 200
    names = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(names) == len(set(names))
    for path in ("tenants", "users", "groups", "service-accounts", "keys", "roles", "bindings", "policy", "can"):
        assert f"/admin/v1/{path}" in document["paths"]


# --- the command line


@pytest.fixture
def cli(
    site: Site, ashore: Callable[..., subprocess.CompletedProcess[str]]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*words: str, key: str = "sec") -> subprocess.CompletedProcess[str]:
        return ashore("access", *words, "--url", site.worker.root, "--key", site.keys[key])

    return run


def test_the_command_line_makes_a_tenant_a_group_a_user_and_their_key(
    site: Site, cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    for words in (
        ("tenant", "create", "bank-c", "--title", "Bank C"),
        ("group", "create", "quants"),
        ("role", "grant", "group/quants", "developer"),
    ):
        done = cli(*words)
        assert done.returncode == 0, done.stderr
    made = cli("user", "create", "carl", "--tenant", "bank-c", "--group", "quants")
    assert made.returncode == 0, made.stderr
    key = made.stdout.splitlines()[-1]
    assert site.chat(key) == 200 and key not in made.stderr and "shown only once" in made.stderr
    listed = cli("user", "list", "--tenant", "bank-c", "--json")
    assert [one["id"] for one in json.loads(listed.stdout)["items"]] == ["carl"]
    assert "valid" in cli("key", "list", "--owner", "carl").stdout
    asked = cli("can", "carl", "infer", "model/echo", "--explain")
    assert asked.returncode == 0 and "granted to group/quants" in asked.stdout
    refused = cli("can", "carl", "model:pull", "server")
    assert (refused.returncode, refused.stdout) == (5, "no\n")
    assert cli("key", "revoke", key[:12], "--yes").returncode == 0
    assert site.chat(key) == 401


def test_what_shuts_somebody_out_asks_first_and_knows_a_typo(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> tuple[int, str]:
        code = main(["access", *words, "--url", site.worker.root, "--key", site.keys["sec"]])
        told = capsys.readouterr()
        return code, told.out + told.err

    for words in (
        ("tenant", "create", "bank-x"),
        ("group", "create", "traders"),
        ("service", "create", "robot", "--tenant", "bank-x"),
        ("user", "create", "xaver", "--tenant", "bank-x", "--no-key"),
        ("key", "create", "xaver"),
    ):
        code, told = run(*words)
        assert code == 0, told
    key = told[told.index("key ash_") + 4 :].split()[0]
    code, said = run("service", "show", "xaver")
    assert code == 2 and "`ashore access user show xaver`" in said, "the other kind of account has that name"
    for words, name, typo in (
        (("key", "revoke"), key, key[:-1] + "_"),
        (("group", "remove"), "traders", "tradres"),
        (("service", "disable"), "robot", "robbot"),
        (("service", "remove"), "robot", "robbot"),
        (("user", "disable"), "xaver", "xavr"),
        (("user", "remove"), "xaver", "xavr"),
        (("tenant", "disable"), "bank-x", "bank-xx"),
    ):
        code, told = run(*words, name)
        assert code == 2 and "this would" in told and "--yes" in told, "nobody is there to be asked"
        assert run(*words, name, "--dry-run")[1].startswith("dry run: would ")
        for more in ("--dry-run", "--yes"):
            code, told = run(*words, typo, more)
            assert code == 2 and "there is no" in told, told
            assert f"did you mean '{name}'" in told or words[0] == "key"
        code, told = run(*words, name, "--yes")
        assert code == 0, told


def test_the_command_line_edits_the_policy_as_a_file(
    site: Site, cli: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(cli("policy", "show").stdout)
    text = file.read_text()
    file.write_text(text + '\n[[role]]\nname = "fromfile"\nrules = ["infer on model/echo"]\n')
    dry = cli("policy", "apply", str(file), "--dry-run")
    assert dry.returncode == 0 and "+ role fromfile: infer on model/echo" in dry.stdout and "dry run" in dry.stdout
    assert cli("policy", "apply", str(file), "--comment", "from a file").returncode == 0
    again = cli("policy", "apply", str(file))
    assert again.returncode == 0 and "nothing to change" in again.stdout
    file.write_text(file.read_text().replace("infer on model/echo", "infer on model/slow"))
    again = cli("policy", "apply", str(file))
    assert again.returncode == 2 and "yours is based on" in again.stderr
    assert "from a file" in cli("policy", "history").stdout
    file.write_text("[[roles]]\n")
    assert cli("policy", "apply", str(file)).returncode == 2


def test_the_command_line_says_who_was_denied_what(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    refused = cli("tenant", "create", "x", key="ann")
    assert refused.returncode == 5
    assert "ann may not access:write" in refused.stderr
    assert cli("user", "remove", "carl").returncode == 2  # nobody is there to be asked


def test_who_may_only_read_metrics_learns_nothing_of_tenants_from_the_cache_and_purges_nothing(site: Site) -> None:
    elsewhere = {"x-forwarded-for": "192.0.2.7"}
    site.made("PUT", "/roles/scraper", {"rules": ["metrics:read on server"]})
    site.made("PUT", "/roles/keeper", {"rules": ["cache:purge on model/echo"]})
    scraper, viewer, keeper = (
        site.user("scraper", "scraper"),
        site.user("looker", "viewer"),
        site.user("kira", "keeper"),
    )
    kept = {"model": "echo", "messages": [{"role": "user", "content": "kept"}], "temperature": 0}
    assert site.ask("POST", CHAT, kept, key=site.user("asker", "developer"))[0] == 200
    _, told = site.ask("GET", "/cache", key=scraper, headers=elsewhere)
    assert (len(told["items"]), told["shares"]) == (1, [])
    assert len(site.ask("GET", "/cache", key=viewer, headers=elsewhere)[1]["shares"]) >= 1
    for key, status in ((scraper, 403), (viewer, 200)):
        assert site.ask("GET", "/cache?tenant=default", key=key, headers=elsewhere)[0] == status

    def purged(key: str, **what: object) -> int:
        return site.ask("POST", "/cache/purge", what, key=key)[0]

    assert [purged(key, all=True) for key in (scraper, viewer, keeper, site.keys["sam"])] == [403, 403, 403, 200]
    assert [purged(keeper, model=name) for name in ("echo", "slow")] == [200, 403]
    assert purged(keeper, model="echo", entry="0" * 16) == 403
    for wrong in ({}, {"all": True, "model": "echo"}, {"entry": "xyz"}, {"colour": "red"}):
        assert purged(site.keys["sam"], **wrong) == 400
    status, answer = site.ask("POST", "/cache/purge", {"tenant": "default", "model": "echo"}, key=site.keys["sam"])
    assert (status, answer) == (200, {"purged": ["cache/tenant/default", "cache/model/echo"]})


# The last one: new keys from here are refused for a while after it.
def test_guessing_is_locked_out_where_it_comes_from_and_a_known_key_is_still_heard(site: Site) -> None:
    key = _key_of(site, "pat")
    assert site.chat(key) == 200
    statuses = [site.chat(new_key()) for _ in range(12)]
    assert statuses[:9] == [401] * 9 and statuses[-1] == 429
    status, headers, _ = site.worker.request("GET", "/v1/models", None, {"authorization": f"Bearer {new_key()}"})
    assert status == 429 and int(headers["retry-after"]) > 0
    assert site.chat(key) == 200
