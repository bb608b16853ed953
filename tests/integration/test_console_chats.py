"""Kept conversations and assistants over HTTP: whose they are, and who else reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from console_site import PEOPLE, Page, Site, console_site

from ashore.control.chats import calls
from ashore.core.errors import AuditUnavailable
from ashore.kit.recorder import Act

MINE, OTHER, AUDITOR, OFFICER = "developer", "model-owner", "auditor", "security-officer"
SAID = [
    {"type": "message", "role": "user", "id": "msg_1", "content": [{"type": "input_text", "text": "Über Lima?"}]},
    {
        "type": "message", "role": "assistant", "id": "msg_2",
        "content": [{"type": "output_text", "text": "A city.", "annotations": [{"type": "ashore", "by": "chat"}]}],
    },
]  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with console_site(tmp_path_factory.mktemp("chats")) as opened:
        yield opened


def ask(site: Site, role: str, method: str, path: str, body: object = None, *, token: str = "") -> Page:
    """Send what the script of the page Chat sends."""
    headers = {"x-csrf-token": token or f"token-of-{PEOPLE[role]}", "content-type": "application/json"}
    return site.send(method, f"/console/ask/{path}", role, b"" if body is None else json.dumps(body).encode(), headers)


def admin(site: Site, role: str, method: str, path: str, body: object = None) -> Page:
    content = b"" if body is None else json.dumps(body).encode()
    kind = {"content-type": "application/json"} if content else {}
    return site.send(method, f"/admin/v1{path}", body=content, headers=kind, key=site.keys[role])


def kept(site: Site, role: str, title: str) -> str:
    made = ask(site, role, "POST", "conversations", {"metadata": {"title": title}, "items": SAID})
    assert made.status == 200, made.text
    return str(json.loads(made.body)["id"])


def titles(page: Page) -> list[str]:
    return [one["title"] for one in json.loads(page.body)["items"]]


def test_a_conversation_is_kept_listed_found_renamed_and_deleted(site: Site) -> None:
    first, second = kept(site, MINE, "Peru"), kept(site, MINE, "Brno")
    page = site.get("/chat", MINE).text
    assert page.index("Brno") < page.index("Peru") and first in page
    assert titles(admin(site, MINE, "GET", "/conversations?search=%C3%BCBER")) == ["Brno", "Peru"], "in the text"
    assert titles(admin(site, MINE, "GET", "/conversations?search=peru")) == ["Peru"], "in the title"
    assert titles(admin(site, MINE, "GET", "/conversations?search=output_text")) == [], "not in how it is stored"
    assert ask(site, MINE, "POST", f"conversations/{first}", {"metadata": {"title": "Lima"}}).status == 200
    assert "Peru" not in site.get("/chat?search=lima", MINE).text and "Lima" in site.get("/chat?search=lima", MINE).text
    read = json.loads(ask(site, MINE, "GET", f"conversations/{first}/items?order=asc&limit=100").body)["data"]
    assert [one["id"] for one in read] == ["msg_1", "msg_2"] and read[1]["content"][0]["annotations"][0]["by"] == "chat"
    assert ask(site, MINE, "DELETE", f"conversations/{first}/items/msg_2").status == 200
    shown = json.loads(admin(site, MINE, "GET", f"/conversations/{first}").body)
    assert shown["items"] == [{"role": "user", "text": "Über Lima?"}]
    for one in (first, second):
        assert ask(site, MINE, "DELETE", f"conversations/{one}").status == 200
        assert ask(site, MINE, "GET", f"conversations/{one}").status == 404
    assert titles(admin(site, MINE, "GET", "/conversations")) == []


def test_nobody_else_reads_or_changes_a_conversation_by_any_call(site: Site) -> None:
    mine = kept(site, MINE, "Salaries")
    calls: list[tuple[str, str, Any]] = [
        ("GET", f"conversations/{mine}", None),
        ("GET", f"conversations/{mine}/items", None),
        ("GET", f"conversations/{mine}/items/msg_1", None),
        ("POST", f"conversations/{mine}", {"metadata": {"title": "taken"}}),
        ("POST", f"conversations/{mine}/items", {"items": SAID}),
        ("DELETE", f"conversations/{mine}/items/msg_1", None),
        ("DELETE", f"conversations/{mine}", None),
    ]
    for method, path, body in calls:
        for role in (OTHER, AUDITOR, OFFICER, "system-administrator", "viewer"):
            answer = ask(site, role, method, path, body)
            assert answer.status in (403, 404) and b"Lima" not in answer.body, (role, method, path)
            by_key = site.send(
                method, f"/v1/{path}", body=json.dumps(body).encode(), key=site.keys[role],
                headers={"content-type": "application/json"},
            )  # fmt: skip
            assert by_key.status in (403, 404) and b"Lima" not in by_key.body
        assert ask(site, MINE, method, path, body, token=f"token-of-{PEOPLE[OTHER]}").status == 403, "another's page"
        assert site.send(method, f"/console/ask/{path}").status == 401
    for role in (OTHER, AUDITOR, OFFICER, "system-administrator"):
        for path in (f"/conversations/{mine}", f"/conversations?owner={PEOPLE[MINE]}", "/conversations?search=Lima"):
            answer = admin(site, role, "GET", path)
            assert answer.status in (403, 404) or titles(answer) == [], (role, path)
            assert b"Lima" not in answer.body and b"Salaries" not in answer.body
        assert "Salaries" not in site.get("/chat", role).text + site.get(f"/chat?c={mine}", role).text
    assert json.loads(ask(site, MINE, "GET", f"conversations/{mine}").body)["metadata"] == {"title": "Salaries"}
    for path in ("../v1/models", "conversations/../models", "conversations/conv_1/items/a/b", "files", "conversations"):
        assert ask(site, MINE, "GET", path).status in (404, 405)
    assert ask(site, MINE, "DELETE", f"conversations/{mine}").status == 200


def test_an_auditor_reads_by_right_and_each_look_is_recorded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = kept(site, MINE, "Audited")
    role = {"role": "reader", "rules": f"stored:show on tenant/default/stored/{PEOPLE[MINE]}"}
    assert site.post("/call/access-role/put", OFFICER, role).status == 200
    grant = {"grant": [{"subject": f"user/{PEOPLE[AUDITOR]}", "role": "reader"}]}
    assert admin(site, OFFICER, "POST", "/bindings", grant).status == 200
    acts: list[Act] = []
    desk: Any = site.console.acts._desks["chats"]
    record = desk.recorder.record
    monkeypatch.setattr(desk.recorder, "record", lambda act, on=None: (acts.append(act), record(act, on=on)))
    assert titles(admin(site, AUDITOR, "GET", f"/conversations?owner={PEOPLE[MINE]}")) == ["Audited"]
    assert "Lima" in admin(site, AUDITOR, "GET", f"/conversations/{mine}").text
    assert [(act.action, act.actor, act.resource) for act in acts] == [
        ("stored:show", PEOPLE[AUDITOR], f"tenant/default/stored/{PEOPLE[MINE]}")
    ] * 2
    assert acts[1].detail == {"conversation": mine}
    assert ask(site, AUDITOR, "DELETE", f"conversations/{mine}").status == 403, "reading is not changing"

    def nothing_is_recorded() -> None:
        raise AuditUnavailable("the disk is full")

    with monkeypatch.context() as full:
        full.setattr(desk.recorder, "check_acts", nothing_is_recorded)
        for path in (f"/conversations/{mine}", f"/conversations?owner={PEOPLE[MINE]}"):
            refused = admin(site, AUDITOR, "GET", path)
            assert refused.status == 503 and b"Audited" not in refused.body and b"Lima" not in refused.body
    bound = [{"subject": f"user/{PEOPLE[OTHER]}", "role": "reader"}]
    assert admin(site, OFFICER, "POST", "/bindings", {"grant": bound}).status == 200
    monkeypatch.setattr(site.app, "recorder", desk.recorder)
    assert ask(site, OTHER, "GET", f"conversations/{mine}/items").status == 200
    assert (acts[-1].actor, acts[-1].detail) == (PEOPLE[OTHER], {"conversation": mine}), "over /v1, too"
    assert admin(site, OFFICER, "POST", "/bindings", {"revoke": bound}).status == 200
    ask(site, MINE, "DELETE", f"conversations/{mine}")


def test_a_key_for_a_program_reads_no_history_and_a_long_conversation_is_not_read_at_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = kept(site, MINE, "Mine")
    made = admin(site, OFFICER, "POST", "/keys", {"owner": PEOPLE[MINE], "actions": ["infer"]})
    narrow = json.loads(made.body)["key"]
    for path in ("/conversations", f"/conversations/{mine}", "/conversations?search=Lima"):
        answer = site.send("GET", f"/admin/v1{path}", key=narrow)
        assert answer.status == 404 or titles(answer) == [], path
    monkeypatch.setattr(calls, "ITEMS_AT_ONCE", 1)
    whole = admin(site, MINE, "GET", f"/conversations/{mine}")
    assert [one["role"] for one in json.loads(whole.body)["items"]] == ["user", "assistant"], "read in pages"
    monkeypatch.setattr(calls, "MOST_SHOWN_BYTES", 9)
    answer = admin(site, MINE, "GET", f"/conversations/{mine}")
    assert answer.status == 400 and "in pages" in answer.text
    ask(site, MINE, "DELETE", f"conversations/{mine}")


def test_metadata_that_lists_hold_in_memory_has_short_names(site: Site) -> None:
    for path, more in (("conversations", {}), ("batches", {"input_file_id": "f", "endpoint": "/v1/responses"})):
        for name, status in (("k" * 65, 400), ("k" * 64, 404 if more else 200)):
            body = {"metadata": {name: "v"}, "completion_window": "24h", **more} if more else {"metadata": {name: "v"}}
            answer = site.send(
                "POST", f"/v1/{path}", body=json.dumps(body).encode(), headers={"content-type": "application/json"},
                key=site.keys[MINE],
            )  # fmt: skip
            assert answer.status == status, answer.text


def test_ids_of_items_which_a_conversation_compares_are_short(site: Site) -> None:
    mine = kept(site, MINE, "Ids")
    for length, status in ((201, 400), (200, 200)):
        item = {**SAID[0], "id": "m" * length}
        assert ask(site, MINE, "POST", f"conversations/{mine}/items", {"items": [item]}).status == status
    ask(site, MINE, "DELETE", f"conversations/{mine}")


def test_an_assistant_is_shared_within_a_group_by_right(site: Site) -> None:
    wanted = {"prompt": "You review contracts.", "model": "chat"}
    assert admin(site, MINE, "PUT", "/assistants/reviewer", wanted).status == 200
    assert 'data-prompt="You review contracts."' in site.get("/chat", MINE).text
    assert "reviewer" not in site.get("/chat", OTHER).text
    shared = {**wanted, "group": "legal"}
    assert admin(site, MINE, "PUT", "/assistants/reviewer", shared).status == 403, "no right to share"
    assert admin(site, OTHER, "PUT", "/assistants/reviewer", shared).status == 404, "not in that group"
    assert site.post("/call/access-group/create", OFFICER, {"name": "legal"}).status == 200
    for role in (OTHER, MINE):
        added = site.post("/call/access-group/members", OFFICER, {"group": "legal", "add": PEOPLE[role]})
        assert added.status == 200, added.text
    assert admin(site, OTHER, "PUT", "/assistants/clerk", shared).status == 200
    names = [(one["name"], one["owner"]) for one in json.loads(admin(site, MINE, "GET", "/assistants").body)["items"]]
    assert names == [("clerk", PEOPLE[OTHER]), ("reviewer", PEOPLE[MINE])]
    assert admin(site, MINE, "DELETE", "/assistants/clerk").status == 404, "another's"
    assert admin(site, OTHER, "DELETE", "/assistants/clerk").status == 200
    assert "clerk" not in site.get("/chat", MINE).text
    assert admin(site, AUDITOR, "GET", "/assistants").status == 403


def test_what_was_masked_is_said_with_the_answer(site: Site) -> None:
    body = {"model": "chat", "messages": [{"role": "user", "content": "My card is 4111 1111 1111 1111."}]}
    headers = {"x-csrf-token": f"token-of-{PEOPLE[MINE]}", "content-type": "application/json"}
    answer = site.send("POST", "/console/ask", MINE, json.dumps(body).encode(), headers)
    assert answer.status == 200 and answer.headers["x-ashore-masked"] == "bank_card=1"
    body["messages"] = [{"role": "user", "content": "Hello."}]
    assert "x-ashore-masked" not in site.send("POST", "/console/ask", MINE, json.dumps(body).encode(), headers).headers
