"""More of what people come to do with the console in Chromium: the rare days. What fails a test: `real_browser`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from console_people import (
    CONFIG,
    KEYS,
    OFFICES,
    PAGES,
    PASSWORD,
    REFUSED,
    act,
    come_in_by_key,
    give_code,
    key_on,
    log_in,
    until,
)  # fmt: skip
from hostile_texts import HOSTILE
from path_proxy import path_proxy
from real_browser import RealBrowser, Watched, code_of
from served import Served, start_served
from waiting import eventually

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

AGENT = "<script>alert(1)</script><img src=x onerror=alert(1)>"
SHOWN = tuple(dict.fromkeys(one.replace("\x00", "").replace("\r", "").replace("\n", "") for one in HOSTILE))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("console-home")
    started = start_served(home, (), store=None, port=free_port(), grpc_port=0, config=CONFIG)
    try:
        yield started
    finally:
        started.stop()


def ask_admin(server: Served, who: str, method: str, path: str, body: Any = None) -> int:
    """Do a call as an administrator, with their key; return the status."""
    asked = urllib.request.Request(
        f"{server.root_url}/admin/v1{path}", json.dumps(body).encode() if body else None, method=method,
        headers={"authorization": f"Bearer {KEYS[who]}", "content-type": "application/json"},
    )  # fmt: skip
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as fault:
        return fault.code


def test_somebody_who_never_saw_ashore_comes_all_the_way(
    server: Served, browser: RealBrowser, office: dict[str, str]
) -> None:
    """An invitation, a password, an answer, a key of their own that works, their usage, both requests in the audit log,
    and the key's end: everything by what the pages offer."""
    with browser.page(server.root_url) as sec:
        log_in(sec, "sec", office["sec"], "/call/access-user/create")
        sec.page.locator("#f-id").fill("nia")
        sec.page.get_by_role("checkbox", name="developer", exact=True).check()
        act(sec, "Create")
        sec.open("/call/account/create")
        sec.page.locator("#f-account").fill("nia")
        act(sec, "Create")
        invitation = sec.page.locator("#secret-code").inner_text()
    with browser.page(server.root_url) as nia:
        nia.open()
        nia.page.get_by_role("link", name="Somebody invited you?").click()
        nia.page.get_by_label("Account").fill("nia")
        nia.page.get_by_label("Invitation").fill(invitation)
        nia.page.get_by_label("New password").fill(PASSWORD)
        nia.page.get_by_label("The same once more").fill(PASSWORD)
        nia.page.get_by_role("button", name="Set the password").click()
        nia.page.locator(".side").get_by_role("link", name="Chat").click()
        nia.page.get_by_label("Message", exact=True).fill("Where is the nearest harbour?")
        nia.page.get_by_role("button", name="Send", exact=True).click()
        nia.page.get_by_text("first token").wait_for()
        request = nia.page.locator(".metrics").inner_text().split()[-1]
        nia.page.locator(".metrics a").click()
        until(nia, f"/call/audit/request?request={request}", lambda text: "answered" in text)
        nia.page.locator(".side").get_by_role("link", name="Connect").click()
        nia.page.locator("#f-title").fill("laptop")
        nia.page.locator("#f-expires_in_s").fill("30d")
        nia.page.get_by_role("button", name="Create a key").click()
        key = nia.page.locator("#new-key").inner_text()
        status, program = ask_model(server, key)
        assert status == 200
        nia.page.locator(".side").get_by_role("link", name="Usage").click()
        until(nia, "/usage?by=user,model", lambda text: re.search(r"nia\s+chat\s+2\b", text))
        assert "sam" not in nia.page.locator("tbody").inner_text()
        until(nia, "/audit?_tab=audit", lambda text: program[:12] in text and request[:12] in text)
        row = nia.page.get_by_role("row").filter(has=nia.page.locator(f"[title='{program}']"))
        row.get_by_role("button", name="Acts").click()
        row.get_by_role("link", name="Find a request", exact=True).click()
        nia.page.get_by_role("heading", name=program).wait_for()
        text = nia.page.locator("main").inner_text()
        assert "answered" in text and key[:12] in text
        assert nia.violations() == []
        nia.page.locator(".who a").click()
        nia.page.get_by_role("row", name="laptop").get_by_role("button", name="Acts").click()
        nia.page.get_by_role("row", name="laptop").get_by_role("link", name="Revoke").click()
        act(nia, "Revoke")
        assert ask_model(server, key)[0] == 401
    with browser.page(server.root_url) as ann:
        log_in(ann, "ann", office["ann"])
        for action, resource in (("key:create", "account/nia"), ("key:revoke", f"key/{key[:12]}")):
            until(ann, f"/audit?action={action}&actor=nia", lambda text, resource=resource: resource in text)


def ask_model(server: Served, key: str) -> tuple[int, str]:
    """Ask a model with a key, as the examples of Connect do; return status and id of the request."""
    body = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}
    asked = urllib.request.Request(
        f"{server.root_url}/v1/chat/completions", json.dumps(body).encode(),
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
    )  # fmt: skip
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return int(answer.status), str(answer.headers["x-request-id"])
    except urllib.error.HTTPError as fault:
        return fault.code, str(fault.headers["x-request-id"])


def test_three_administrators_set_up_a_tenant(server: Served, browser: RealBrowser, office: dict[str, str]) -> None:
    """The security officer its people and rights, the system administrator its budget; the auditor sees all of it."""
    with browser.page(server.root_url) as sec:
        log_in(sec, "sec", office["sec"], "/people?_tab=access+tenant")
        sec.page.get_by_role("link", name="Create a tenant").first.click()
        sec.page.locator("#f-name").fill("clinic")
        act(sec, "Create")
        sec.open("/call/access-group/create")
        sec.page.locator("#f-name").fill("doctors")
        act(sec, "Create")
        sec.open("/call/access-user/create?tenant=clinic")
        sec.page.locator("#f-id").fill("drwho")
        sec.page.locator("#f-groups").fill("doctors")
        sec.page.locator("#f-key").check()
        sec.page.get_by_role("button", name="Create").click()
        key = key_on(sec)
        sec.open("/call/access-role/bind")
        sec.page.locator("[name='grant.0.subject']").fill("group/doctors")
        sec.page.locator("[name='grant.0.role']").select_option("developer")
        sec.page.get_by_text("ashore access role grant group/doctors developer").wait_for()
        act(sec, "Save")
        assert sec.violations() == []
    with browser.page(server.root_url) as sam:
        log_in(sam, "sam", office["sam"], "/call/access-budget/set")
        sam.page.locator("#f-kind").select_option("requests")
        sam.page.locator("#f-cap").fill("100")
        sam.page.locator("#f-window").select_option("day")
        sam.page.locator("#f-tenant").fill("clinic")
        act(sam, "Save")
        sam.open("/usage?_tab=access+budget")
        assert "clinic" in sam.page.locator("tbody").inner_text()
    come_in_by_key(browser, server.root_url, "drwho", key, factor=False)
    with browser.page(server.root_url) as who:
        log_in(who, "drwho", "", "/chat?left=chat")
        who.page.get_by_label("Message", exact=True).fill("Is there a doctor?")
        who.page.get_by_role("button", name="Send", exact=True).click()
        who.page.get_by_text("first token").wait_for()
    with browser.page(server.root_url) as ann:
        log_in(ann, "ann", office["ann"])
        for action, actor in (("tenant:create", "sec"), ("budget:write", "sam"), ("model:infer", "drwho")):
            until(ann, f"/audit?action={action}&actor={actor}", lambda text, actor=actor: actor in text)


def test_a_second_factor_is_forced_before_anything_else_is_seen(
    server: Served, browser: RealBrowser, office: dict[str, str]
) -> None:
    with browser.page(server.root_url) as sec:
        log_in(sec, "sec", office["sec"], "/call/access-user/create")
        sec.page.locator("#f-id").fill("ada")
        sec.page.get_by_role("checkbox", name="auditor", exact=True).check()
        sec.page.locator("#f-key").check()
        sec.page.get_by_role("button", name="Create").click()
        key = key_on(sec)
    with browser.page(server.root_url, expected=REFUSED) as ada:
        ada.open("/key")
        ada.page.get_by_label("Key").fill(key)
        ada.page.get_by_role("button", name="Choose a password").click()
        ada.page.get_by_label("New password").fill(PASSWORD)
        ada.page.get_by_label("The same once more").fill(PASSWORD)
        ada.page.get_by_role("button", name="Set the password").click()
        for path in ("", "/audit", "/people", "/me"):
            ada.open(path)
            ada.page.get_by_role("heading", name="Set up a second factor").wait_for()
        box = ada.page.locator("svg.qr").bounding_box()
        assert box is not None and box["width"] >= 200 and ada.violations() == []
        secret = ada.page.locator("#secret").inner_text().replace(" ", "")
        ada.page.get_by_label("Code").fill("000000")
        ada.page.get_by_role("button", name="Confirm").click()
        assert "the code is wrong" in ada.page.locator(".fault").inner_text()
        assert ada.page.locator("#secret").inner_text().replace(" ", "") == secret
        ada.page.get_by_label("Code").fill(code_of(secret, int(ada.page.evaluate("Date.now()")) // 30_000))
        ada.page.get_by_role("button", name="Confirm").click()
        recovery = ada.page.locator("#codes").inner_text().split()
        ada.page.get_by_role("link", name="Go on").click()
        ada.page.get_by_role("button", name="Log out").click()
        ada.page.get_by_label("Account").fill("ada")
        ada.page.get_by_label("Password").fill(PASSWORD)
        ada.page.get_by_role("button", name="Log in").click()
        ada.page.get_by_role("heading", name="Second factor").wait_for()
        ada.open("/audit")
        ada.page.get_by_role("heading", name="Second factor").wait_for()
        ada.page.locator("input[name=code]").fill(recovery[0])
        ada.page.get_by_role("button", name="Go on").click()
        ada.page.get_by_role("heading", name="Audit").wait_for()


def test_what_was_typed_outlives_a_session_that_somebody_ended(
    server: Served, browser: RealBrowser, office: dict[str, str]
) -> None:
    """The session ends in the middle of a form and of a chat; neither a long text nor a box is lost, a secret is not
    kept."""
    rules = "\n".join(f"infer on model/a-model-with-a-long-name-{at}" for at in range(60))
    with browser.page(server.root_url, expected=REFUSED) as sec:
        log_in(sec, "sec", office["sec"], "/call/access-role/put")
        sec.page.locator("#f-role").fill("asks-many")
        sec.page.locator("#f-rules").fill(rules)
        end_sessions(server, "sec")
        sec.page.get_by_role("button", name="Save", exact=True).click()
        sec.page.get_by_role("heading", name="Log in").wait_for()
        again(sec, "sec", office["sec"])
        assert sec.page.locator("#f-role").input_value() == "asks-many"
        assert sec.page.locator("#f-rules").input_value() == rules
        assert sec.page.evaluate("Object.keys(sessionStorage).length") == 0
        act(sec, "Save")
    with browser.page(server.root_url, expected=REFUSED) as nia:
        log_in(nia, "nia", "", "/chat?left=chat")
        end_sessions(server, "nia")
        nia.page.get_by_label("Message", exact=True).fill("Is this lost?")
        nia.page.get_by_role("button", name="Send", exact=True).click()
        nia.page.get_by_role("heading", name="Log in").wait_for()
        again(nia, "nia", "")
        assert nia.page.get_by_label("Message", exact=True).input_value() == "Is this lost?"


def end_sessions(server: Served, name: str) -> None:
    assert ask_admin(server, "sec", "DELETE", f"/log-ins/{name}/sessions") == 200


def again(one: Watched, name: str, secret: str) -> None:
    one.page.get_by_label("Account").fill(name)
    one.page.get_by_label("Password").fill(PASSWORD)
    one.page.get_by_role("button", name="Log in").click()
    if secret:
        give_code(one, secret)
    one.page.get_by_role("button", name="Log out").wait_for()


def test_a_passkey_is_added_used_and_removed(server: Served, browser: RealBrowser, office: dict[str, str]) -> None:
    base = server.root_url.replace("127.0.0.1", "localhost")
    with browser.page(base, expected=REFUSED) as sam:
        devtools = sam.page.context.new_cdp_session(sam.page)
        devtools.send("WebAuthn.enable")
        options = {
            "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
            "isUserVerified": True, "automaticPresenceSimulation": True,
        }  # fmt: skip
        authenticator = devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"]
        log_in(sam, "sam", office["sam"], "/me")
        sam.page.get_by_role("button", name="Passkeys").click()
        sam.page.get_by_label("Name of the passkey").fill("this laptop")
        assert sam.violations() == []
        sam.page.get_by_role("button", name="Add a passkey").click()
        sam.page.get_by_role("heading", name="Me", exact=True).wait_for()
        assert len(devtools.send("WebAuthn.getCredentials", {"authenticatorId": authenticator})["credentials"]) == 1
        sam.page.get_by_role("button", name="Log out").click()
        sam.page.get_by_label("Account").fill("sam")
        sam.page.get_by_label("Password").fill(PASSWORD)
        sam.page.get_by_role("button", name="Log in").click()
        sam.page.get_by_role("heading", name="Second factor").wait_for()
        assert sam.violations() == []
        sam.page.get_by_role("button", name="Use a passkey").click()
        sam.page.get_by_role("button", name="Log out").wait_for()
        sam.open("/me")
        sam.page.get_by_role("button", name="Passkeys").click()
        assert "this laptop" in sam.page.locator("main").inner_text()
        sam.page.get_by_role("button", name="Remove: this laptop").click()
        sam.page.get_by_role("heading", name="Me", exact=True).wait_for()
        sam.page.get_by_role("button", name="Passkeys").click()
        assert "this laptop" not in sam.page.locator("main").inner_text()


def test_errors_are_read_in_chinese(server: Served, browser: RealBrowser, office: dict[str, str]) -> None:
    with browser.page(server.root_url, expected=REFUSED, locale="zh-CN") as one:
        one.open("/log-in")
        one.page.locator("#d-account").fill("nobody")
        one.page.locator("#d-password").fill("wrong horse battery")
        one.page.locator("main button").first.click()
        assert "账号或密码错误" in one.page.locator(".fault").inner_text()
        assert one.page.locator(".fault [lang=en]").count() == 0 and one.violations() == []


def test_hostile_texts_run_in_no_field_that_is_shown(
    server: Served, browser: RealBrowser, office: dict[str, str]
) -> None:
    """Each text goes into every field that people, programs and models can write and a page shows."""
    packs = [" ".join(SHOWN[at : at + 3])[:200] for at in range(0, len(SHOWN), 3)]

    def write(at: int) -> list[int]:
        text = packs[at]
        return [
            ask_admin(server, "sec", "POST", "/groups", {"name": f"h{at}", "title": text}),
            ask_admin(server, "sec", "POST", "/tenants", {"name": f"h{at}", "title": text}),
            ask_admin(server, "sec", "POST", "/users", {"id": f"h{at}", "title": text}),
            ask_admin(server, "sec", "POST", "/service-accounts", {"id": f"s{at}", "title": text}),
            ask_admin(server, "sec", "POST", "/keys", {"owner": f"h{at}", "title": text}),
            ask_admin(server, "sec", "PUT", f"/roles/h{at}", {"title": text, "rules": ["infer on model/x"]}),
            ask_admin(server, "sec", "GET", f"/users/{urllib.parse.quote(text[:100], safe='')}"),
        ]

    with ThreadPoolExecutor(12) as pool:
        made = list(pool.map(write, range(len(packs))))
    assert {one for some in made for one in some} <= {200, 201, 400, 404}, made
    fields = len(made[0])
    with browser.page(server.root_url, expected=REFUSED) as sec:
        log_in(sec, "sec", office["sec"])
        for tab in ("user", "service", "group", "tenant", "key", "role"):
            for first in range(0, 150, 50):
                sec.open(f"/people?_tab=access+{tab}&_first={first}")
                sec.page.locator("h1").wait_for()
        for view in ("people", "people/accounts", "people/groups", "people/roles"):
            for first in range(0, 150, 50):
                sec.open(f"/{view}?_first={first}&_sort=-name")
                sec.page.locator("h1").wait_for()
        sec.open("/people/person?account=h0")
        sec.page.locator("h1").wait_for()
        sec.check()
    with browser.page(server.root_url, expected=REFUSED, user_agent=AGENT) as ann:
        log_in(ann, "ann", office["ann"])
        for text in SHOWN[::6]:
            ann.open(f"/audit?actor={urllib.parse.quote(text[:100])}&_match={urllib.parse.quote(text[:100])}")
        ann.open("/people?_tab=session")
        for first in range(0, 200, 50):
            ann.open(f"/audit?outcome=denied&_first={first}")
        ann.open("/me")
        ann.check()
    with browser.page(server.root_url, expected=REFUSED) as nia:
        log_in(nia, "nia", "", "/chat?left=chat")
        for at in range(0, len(SHOWN), 60):
            nia.page.get_by_label("Message", exact=True).fill("\n".join(SHOWN[at : at + 60]))
            nia.page.get_by_role("button", name="Send", exact=True).click()
            nia.page.locator("#send:enabled").wait_for()
            nia.page.get_by_role("button", name="Correct it").last.click()
            nia.page.get_by_role("button", name="New conversation").click()
        nia.check()
    print(f"\n{len(SHOWN)} hostile texts in {fields + 4} fields: none ran")


def test_log_in_and_every_page_hold_through_envoy_under_a_path(
    browser: RealBrowser, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> None:
    """A portal in front of the edge, TLS on both sides: a key, a password, the second factor, every page, a form, an
    answer that streams, and out again."""
    home = tmp_path_factory.mktemp("edge-home")
    edge = ("--edge", "envoy", "--workers", "2")
    through = start_served(home, (), store=None, port=free_port(), grpc_port=0, config=CONFIG, options=edge, wait=False)
    try:
        eventually(lambda: "Ctrl-C stops it" in through.said() or through.process.poll() is not None, limit_s=120)
        assert through.process.poll() is None, through.everything_said()
        keys = administrators(through)
        tls = {"expected": REFUSED, "ignore_https_errors": True}
        with path_proxy(through.port, edge=home / "edge") as base:
            secret = come_in_by_key(browser, base, "ann", keys["ann"], **tls)
            with browser.page(base, **tls) as ann:
                log_in(ann, "ann", secret, "/audit?actor=sec")
                assert ann.page.url.startswith(f"{base}/console/audit?actor=sec")
                names = {one["name"] for one in ann.page.context.cookies()}
                assert {"__Secure-ashore", "__Secure-ashore-device"} <= names, names
                for path in PAGES:
                    ann.open(path)
                    ann.page.locator("h1").wait_for()
                    assert ann.violations() == [], path
                ann.open("/call/audit/verify")
                act(ann, "Verify")
                ann.page.get_by_role("button", name="Log out").click()
                ann.page.get_by_role("heading", name="Log in").wait_for()
            secret = come_in_by_key(browser, base, "sec", keys["sec"], **tls)
            with browser.page(base, **tls) as sec:
                log_in(sec, "sec", secret, "/call/access-user/create")
                sec.page.locator("#f-id").fill("eda")
                sec.page.get_by_role("checkbox", name="developer", exact=True).check()
                sec.page.locator("#f-key").check()
                sec.page.get_by_role("button", name="Create").click()
                key = key_on(sec)
                sec.open("/connect")
                assert f"{base}/v1" in sec.page.locator("main").inner_text()
            come_in_by_key(browser, base, "eda", key, factor=False, **tls)
            with browser.page(base, **tls) as eda:
                log_in(eda, "eda", "", "/chat?left=chat")
                eda.page.get_by_label("Message", exact=True).fill("Through the edge.")
                eda.page.get_by_role("button", name="Send", exact=True).click()
                eda.page.get_by_text("first token").wait_for()
                assert "Through the edge" in eda.page.locator(".said.model").inner_text()
        print(f"\n{len(PAGES)} pages, log-in, forms and a stream through Envoy under a path")
    finally:
        through.stop()


def administrators(server: Served) -> dict[str, str]:
    """Make the three administrators by the command line; return their keys."""
    env = {**os.environ, "ASHORE_HOME": str(server.home), "ASHORE_API_KEY": server.key}
    keys = {}
    for name, role in OFFICES.items():
        words = [sys.executable, "-m", "ashore.cli.main", "access", "user", "create", name, "--role", role]
        done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        keys[name] = done.stdout.strip().splitlines()[-1]
    return keys


def test_an_auditor_walks_through_an_inspection_and_finds_a_record_that_was_altered(
    server: Served, browser: RealBrowser, office: dict[str, str]
) -> None:
    """The last one here: the log of this server is never whole again."""
    with browser.page(server.root_url, expected=REFUSED) as ann:
        log_in(ann, "ann", office["ann"], "/audit?_tab=audit")
        ann.page.locator(".walk summary").click()
        stops = ann.page.locator(".walk a").all_inner_texts()
        assert len(stops) == 9
        for name in stops:
            ann.open("/audit?_tab=audit")
            ann.page.locator(".walk summary").click()
            ann.page.locator(".walk").get_by_role("link", name=name, exact=True).click()
            ann.page.locator("#command").wait_for()
            assert ann.page.locator(".fault").count() == 0, name
        ann.open("/call/audit/verify")
        act(ann, "Verify")
        assert re.search(r"Ok\s+yes", ann.page.locator(".done").inner_text())
        file, line = altered(server)
        ann.open("/call/audit/verify")
        ann.page.locator("form.call").get_by_role("button", name="Verify", exact=True).click()
        found = ann.page.locator(".fault")
        found.wait_for()
        said = found.inner_text()
        assert re.search(r"Ok\s+no", said) and file in said and str(line) in said, said
        assert ann.violations() == []
        print(f"\nfound: {file}, line {line}")


def altered(server: Served) -> tuple[str, int]:
    """Change who did something, in the file of the log itself; return the name of the file and the line."""
    for path in sorted((server.home / "audit").rglob("*.log")):
        lines = path.read_bytes().splitlines(keepends=True)
        for at, line in enumerate(lines):
            changed = line.replace(b'"actor":"sec"', b'"actor":"sam"', 1)
            if changed != line:
                path.write_bytes(b"".join([*lines[:at], changed, *lines[at + 1 :]]))
                return path.name, at + 1
    raise AssertionError(f"no record to alter in {server.home}")
