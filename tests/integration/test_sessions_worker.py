"""The console's log-in in a real worker and against a real OpenID provider: calls, cookies, discovery, PKCE."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import oidc_provider_mock
import pytest
from access_house import House
from console_house import Browser, ConsoleHouse, run
from http_worker import Worker, http_worker, state_link
from waiting import eventually

from ashore.control.sessions.section import ProviderSection
from ashore.core.clock import ManualClock, SystemClock
from ashore.data.authority import Binding, Issuer, keep_first_key, new_key
from ashore.data.issuers import fetch_jwks
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import kept_secret, open_database


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    folder = tmp_path_factory.mktemp("sessions")
    with http_worker(folder, state=state_link(folder)) as started:
        yield started


@pytest.fixture(scope="module")
def keys(worker: Worker) -> dict[str, str]:
    """The three administrators and dev, with their keys."""
    made = {}
    for name, role in (("sam", "system-administrator"), ("ann", "auditor"), ("sec", "security-officer")):
        body = json.dumps({"id": name, "roles": [role], "key": {}})
        made[name] = json.loads(worker.request("POST", "/admin/v1/users", body)[2])["key"]["key"]
    body = json.dumps({"id": "dev", "roles": ["developer"], "key": {}})
    made["dev"] = json.loads(worker.request("POST", "/admin/v1/users", body, bearer(made["sec"]))[2])["key"]["key"]
    return made


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def ask(worker: Worker, key: str, method: str, path: str) -> tuple[int, Any]:
    status, _, body = worker.request(method, f"/admin/v1{path}", "{}" if method == "POST" else None, bearer(key))
    return status, json.loads(body)


def test_log_ins_and_sessions_are_calls(worker: Worker, keys: dict[str, str]) -> None:
    status, made = ask(worker, keys["sec"], "POST", "/log-ins/dev")
    assert status == 200 and made["account"] == "dev" and len(made["invitation"]) >= 32
    assert made["page"] == "/console/invitation?account=dev"
    assert ask(worker, keys["dev"], "POST", "/log-ins/sam")[0] == 403
    status, shown = ask(worker, keys["dev"], "GET", "/log-ins/dev")
    assert status == 200 and shown["state"] == "invited" and shown["invited_by"] == "sec" and shown["sessions"] == 0
    assert ask(worker, keys["dev"], "GET", "/log-ins")[0] == 403
    status, listed = ask(worker, keys["sec"], "GET", "/log-ins")
    assert status == 200 and [one["account"] for one in listed["items"]] == ["dev"] and "invitation" not in str(listed)
    for word, state in (("disable", "disabled"), ("enable", "invited"), ("unlock", "invited")):
        status, shown = ask(worker, keys["sec"], "POST", f"/log-ins/dev/{word}")
        assert (status, shown["state"]) == (200, state)
    assert ask(worker, keys["sec"], "GET", "/sessions") == (200, {"items": [], "next": None})
    assert ask(worker, keys["ann"], "GET", "/sessions")[0] == 200
    assert ask(worker, keys["dev"], "GET", "/sessions")[0] == 403
    assert ask(worker, keys["dev"], "GET", "/sessions?account=dev")[0] == 200
    assert ask(worker, keys["dev"], "DELETE", "/sessions/ses_000000000000")[0] == 404
    assert ask(worker, keys["sec"], "POST", "/log-ins/dev/reset")[1]["invitation"] != made["invitation"]


def test_a_session_opens_nothing_but_the_console(worker: Worker, keys: dict[str, str]) -> None:
    """The state of the worker has an open session; its cookie is worth nothing to the API."""
    folder = Path(worker.topology.state.path).parent
    state = open_database(folder / "state.db", snapshots=folder / "snapshots", clock=SystemClock())
    try:
        with state.write() as connection:
            secret = kept_secret(connection, "console")
        clock = ManualClock(now_s=SystemClock().now_s())
        rig = ConsoleHouse(House(state, clock, MemoryRecorder(), worker.key), secret=secret)
        browser = Browser(rig)
        code = ask(worker, keys["sec"], "POST", "/log-ins/dev/reset")[1]["invitation"]
        rig.reread()
        run(browser.redeem("dev", code))
        assert run(browser.session()) is not None
        listed = ask(worker, keys["sec"], "GET", "/sessions")[1]["items"]
        assert [one["account"] for one in listed] == ["dev"] and listed[0]["way"] == "password"
        cookie = {"cookie": "; ".join(f"{name}={value}" for name, value in browser.cookies.items())}
        chat = json.dumps({"model": "echo", "messages": [{"role": "user", "content": "hi"}]})
        with httpx.Client(base_url=worker.root, trust_env=False, headers=cookie) as client:
            for path, body in (("/v1/chat/completions", chat), ("/v1/models", ""), ("/admin/v1/users", "")):
                answer = client.request("POST" if body else "GET", path, content=body or None)
                assert answer.status_code == 401 and "set-cookie" not in answer.headers
        assert ask(worker, keys["dev"], "DELETE", f"/sessions/{listed[0]['id']}")[0] == 200
        rig.forget()
        assert run(browser.session()) is None, "ended over HTTP"
    finally:
        state.close()


@pytest.mark.filterwarnings("default::ResourceWarning", "default::DeprecationWarning")
def test_a_real_provider_logs_people_in(tmp_path: Path) -> None:
    users = [oidc_provider_mock.User(sub="alice", claims={"groups": ["ml"], "amr": ["pwd", "otp"]})]
    state = open_database(tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=SystemClock())
    with oidc_provider_mock.run_server_in_thread(require_nonce=True, user_claims=users) as provider:
        url = f"http://localhost:{provider.server_port}"
        issuer = Issuer(name="corp", issuer=url, audience="ashore", jwks_url=f"{url}/jwks", groups_claim="groups")
        section = ProviderSection(issuer="corp", client_id="console", client_secret="s3cret")
        clock = ManualClock(now_s=SystemClock().now_s())
        house = House(state, clock, MemoryRecorder(), new_key())
        with state.write() as connection:
            keep_first_key(connection, house.first_key, created_s=1)
        sec = house.actor(house.three()[1])
        house.people.create_group(sec, "ml")
        house.book.grant(sec, add=[Binding("group/ml", "developer")])
        rig = ConsoleHouse(house, providers=(section,), issuers=(issuer,), fetch=fetch_jwks)

        async def story() -> None:
            await rig.provided.apply((section,), (issuer,), ("localhost@127.0.0.0/8",))
            browser = Browser(rig, base="http://127.0.0.1:8080", origin="127.0.0.1")
            await browser.open()
            sent = await browser.post("to_provider", "corp", next="/console/models")
            assert sent.goto.startswith(f"{url}/oauth2/authorize?"), sent.error
            async with httpx.AsyncClient(trust_env=False) as there:
                back = (await there.post(sent.goto, data={"sub": "alice"})).headers["location"]
            assert back.startswith("http://127.0.0.1:8080/console/oidc?")
            query = dict(parse_qsl(urlsplit(back).query))
            done = browser.take(await rig.sessions.from_provider(browser.visit(), query))
            assert done.goto == "/console/models", done.error
            session = await browser.session()
            assert session is not None and session.principal.id == "corp:alice"
            assert "mfa" in session.principal.factors and "ml" in session.principal.groups
            assert rig.authority.decide(session.principal, "infer", "model/chat").allowed
            again = browser.take(await rig.sessions.from_provider(browser.visit(), query))
            assert again.error is not None, "the code and the state are used"

        try:
            run(story())
        finally:
            state.close()


def test_figures_are_read_by_whoever_may_see_metrics(worker: Worker, keys: dict[str, str]) -> None:
    def requests() -> list[float]:
        found = ask(worker, keys["sam"], "GET", "/server/history?series=requests")[1]["series"][0]
        return [value for value in found["values"] if value]

    assert eventually(requests)
    assert ask(worker, keys["dev"], "GET", "/server/history")[0] == 403
    assert ask(worker, keys["dev"], "GET", "/server/config")[0] == 403
    status, refused = ask(worker, keys["sam"], "GET", "/server/logs")
    assert status == 503 and "no home" in str(refused)
