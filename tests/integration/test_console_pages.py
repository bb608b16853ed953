"""The console over a whole worker: what a page may hold, and that nothing is done by accident."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

import msgspec
import pytest
from console_site import PATHS, PEOPLE, Page, Site, Tags, console_site
from hostile_texts import HOSTILE
from waiting import eventually

from ashore.control.console import Asked
from ashore.control.console.pages import Placed
from ashore.control.console.present import csv_of
from ashore.control.sessions import Visit
from ashore.data.audit.signing import new_signing_key, pem_of
from ashore.data.underway import Bodies
from ashore.kit.recorder import Act

GROUPS = "/call/access-group/create"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with console_site(tmp_path_factory.mktemp("console")) as made:
        yield made


def placed(site: Site) -> tuple[Placed, ...]:
    return site.console.acts.atlas.placed


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_page_has_anything_inline_or_foreign_and_all_its_addresses_are_relative(site: Site, language: str) -> None:
    for role in ("system-administrator", "security-officer", "auditor"):
        calls = [f"/{one.address}" for one in placed(site) if site.console.acts.atlas]
        for path in (*site.shown_paths(role), *calls, "/log-in", "/nothing/here"):
            page = site.get(path, role, accept_language=language)
            assert_clean(page, path)
            assert ('lang="zh-CN"' in page.text[:200]) == (language == "zh"), path


def test_no_cell_shows_what_only_a_program_reads(site: Site) -> None:
    """In Chromium, with widths, `tests/acceptance/test_console_pages_fit.py` looks at the same."""
    wrong = []
    for role in ("system-administrator", "auditor"):
        for path in site.shown_paths(role):
            main = site.get(path, role).text.partition("<main")[2].partition("</main>")[0]
            cells = re.findall(r"<(td|dd)[^>]*>(.*?)</\1>", main, re.DOTALL)
            texts = [" ".join(re.sub(r"<[^>]+>", " ", text).split()) for _, text in cells]
            wrong += [f"{role} {path}: {text[:80]}" for text in texts if RAW.search(text)]
    assert not wrong, "\n".join(wrong)


def assert_clean(page: Page, path: str) -> None:
    policy = page.headers["content-security-policy"]
    assert "unsafe" not in policy and policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy and page.headers["x-frame-options"] == "DENY"
    assert page.headers["cache-control"] == "no-store" and page.headers["x-content-type-options"] == "nosniff"
    assert "content-encoding" not in page.headers
    tags = page.tags
    for tag, name, value in tags.attributes:
        assert not name.startswith("on") and name != "style", f"{path}: {tag} {name}={value}"
        if name in ("href", "src", "action"):
            assert not urlsplit(value).scheme and not value.startswith("/"), f"{path}: {tag} {name}={value}"
            target = urlsplit(urljoin(f"http://h/a/b/console{path.partition('?')[0]}", value)).path
            assert target.startswith(("/a/b/console/", "/a/b/console")), f"{path}: {value} leads out of the console"
    assert tags.names.count("style") == 0
    ids = [value for _, name, value in tags.attributes if name == "id"]
    assert len(ids) == len(set(ids)), (
        f"{path}: a menu would open another: {sorted(one for one in ids if ids.count(one) > 1)}"
    )
    posts = sum(form.get("method") == "post" for form in tags.forms)
    tokens = sum((tag, name, value) == ("input", "name", "csrf") for tag, name, value in tags.attributes)
    assert posts == tokens, f"{path}: {posts} forms are sent and {tokens} have the token of the session"
    assert tags.names.count("script") == sum(t == "script" and n == "src" for t, n, _ in tags.attributes)
    assert tags.names.count("h1") == 1 and tags.names.count("main") == 1


def test_every_address_of_a_page_leads_somewhere(site: Site) -> None:
    seen: set[str] = set()
    for path in site.shown_paths("auditor"):
        page = site.get(path, "auditor")
        for _, name, value in page.tags.attributes:
            if name in ("href", "src") and not value.startswith("#"):
                target = urlsplit(urljoin(f"http://h/console{path}", value))
                seen.add(f"{target.path}?{target.query}".rstrip("?"))
    for address in sorted(seen):
        page = site.send("GET", address, "auditor")
        assert page.status in (200, 303) or "the console has no" not in page.text, address


def test_a_cookie_opens_nothing_but_the_console(site: Site) -> None:
    for method, path in (("GET", "/admin/v1/users"), ("GET", "/v1/models"), ("POST", "/v1/chat/completions")):
        assert site.send(method, path, "system-administrator").status == 401, path


def test_who_is_not_logged_in_comes_back_to_the_form_that_they_had_filled_in(site: Site) -> None:
    kind = {"content-type": "application/x-www-form-urlencoded"}
    form = urlencode({"name": "night shift", "csrf": "old", "password": "secret"}).encode()
    page = site.send("POST", "/console/call/access-group/create", body=form, headers=kind)
    assert page.status == 303 and page.headers["location"].startswith("../../log-in?next=")
    back = page.headers["location"].partition("next=")[2]
    assert "night" in back and "secret" not in back and "old" not in back
    assert site.get("/models").headers["location"] == "./log-in?next=%2Fconsole%2Fmodels"
    assert site.get("").headers["location"] == "console/log-in?next=%2Fconsole"
    asked = site.get("/models", x_forwarded_prefix="/ai/house")
    assert asked.headers["location"] == "./log-in?next=%2Fai%2Fhouse%2Fconsole%2Fmodels"
    for evil in ("//evil.example", "/a//b", "https://evil.example", "/%0d%0a"):
        assert site.get("/models", x_forwarded_prefix=evil).headers["location"].endswith("next=%2Fconsole%2Fmodels")


def test_what_is_done_on_a_page_is_in_the_audit_log_under_the_id_that_the_page_shows(site: Site) -> None:
    done = site.post("/call/access-tenant/create", "security-officer", {"name": "acme", "title": "Acme"})
    assert done.status == 200 and "Acme" in done.text
    shown = re.findall(r"audit/request\?request=([\w-]+)", done.text)[0]
    assert shown == done.headers["x-request-id"]
    found = site.get(f"/audit?request_id={shown}", "auditor")
    assert "tenant:create" in found.text or "tenant/acme" in found.text
    assert "ashore audit search --request" in found.text


def test_a_new_key_is_said_to_be_shown_once_and_what_it_is_for(site: Site) -> None:
    made = site.post("/call/access-user/create", "security-officer", {"id": "nina", "_key": "1", "key": "yes"})
    assert made.status == 200 and "This key is shown once" in made.text and "chooses a password" in made.text
    bare = site.post("/call/access-user/create", "security-officer", {"id": "nils", "_key": "1"})
    assert bare.status == 200 and "shown once" not in bare.text


def test_a_developer_finds_their_request_by_its_id(site: Site) -> None:
    assert any(link.endswith("call/audit/request") for link in site.get("/audit", "developer").tags.links)


def test_a_key_that_never_expires_says_so(site: Site) -> None:
    page = site.get("/people?_tab=access+key", "security-officer").text
    assert 'class="none">never</span>' in page


def test_hostile_texts_in_a_form_stay_texts(site: Site) -> None:
    address = "/call/access-user/create"
    plain = shape(site.get(f"{address}?id=x&title=benign&groups=x&roles=x", "security-officer"))
    assert len(HOSTILE) >= 300
    for text in HOSTILE:
        given = quote(text)
        page = site.get(f"{address}?id={given}&title={given}&groups={given}&roles={given}", "security-officer")
        assert page.status == 200 and shape(page) == plain, text


def test_hostile_texts_that_are_refused_or_searched_for_stay_texts(site: Site) -> None:
    plain = shape(site.get("/audit?actor=benign", "auditor"))
    for text in HOSTILE[::3]:
        given = quote(text, safe="")
        assert shape(site.get(f"/audit?actor={quote(text)}", "auditor")) == plain, text
        for path, page in (
            ("/people", site.get(f"/people?{quote(text)}={quote(text)}", "security-officer")),
            (f"/call/{given}", site.get(f"/call/{given}", "auditor")),
            (GROUPS, site.post(GROUPS, "security-officer", {"name": text})),
        ):
            assert_clean(page, path)


def test_hostile_texts_that_people_wrote_down_stay_texts(site: Site) -> None:
    for at in range(0, len(HOSTILE), 20):
        title = " ".join(HOSTILE[at : at + 20])[:200]
        made = site.post("/call/access-group/create", "security-officer", {"name": f"hostile-{at}", "title": title})
        assert made.status in (200, 400)
    for path in ("/people?_tab=access+group", "/people/groups"):
        page = site.get(path, "security-officer")
        assert page.text.count("hostile-") >= 5
        assert_clean(page, path)
        assert not {"img", "svg", "iframe", "object", "embed", "math", "base", "video"} & set(inside_main(page))


def shape(page: Page) -> list[tuple[str, str]]:
    return [(tag, name) for tag, name, _ in page.tags.attributes]


def inside_main(page: Page) -> list[str]:
    return Tags.of(page.text.partition("<main")[2].partition("</main>")[0]).names


def test_the_first_address_leads_people_to_the_console_and_programs_to_the_page_of_the_server(site: Site) -> None:
    person = site.send("GET", "/", headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (person.status, person.headers["location"]) == (303, "console")
    program = site.send("GET", "/", headers={"accept": "*/*"})
    assert program.status == 200 and "/docs" in program.text and "/console" in program.text


def test_a_page_that_polls_keeps_no_session_alive_and_costs_nothing_where_nothing_changed(site: Site) -> None:
    polling = {"x_console_poll": "1", "x_console_part": "main"}
    first = site.get("", "viewer", **polling)
    assert first.status == 200 and "<html" not in first.text
    again = site.get("", "viewer", **polling, if_none_match=first.headers["etag"])
    assert again.status == 304 and again.body == b""
    for path in ("", "/jobs", "/releases"):
        assert site.get(path, "system-administrator").text.count("data-live") == 1
    assert "data-live" not in site.get("/people", "system-administrator").text


def test_the_first_page_is_small_on_the_wire_and_its_files_are_kept_for_good(site: Site) -> None:
    page = site.get("", "system-administrator", accept_encoding="gzip")
    total = len(page.body)
    for _, name, value in page.tags.attributes:
        if "static/" in value and name in ("href", "src"):
            path = urlsplit(urljoin("http://h/console", value)).path.removeprefix("/console")
            file = site.get(path, accept_encoding="gzip")
            assert file.status == 200 and "immutable" in file.headers["cache-control"]
            total += len(file.body)
    assert total <= 60_000
    assert site.get("/static/0/console.css").headers["cache-control"] == "public, max-age=300"
    assert site.get("/static/0/passwd").status == 404 and site.get("/static/../words/en.toml").status == 404


def test_a_model_answers_the_person_of_a_session_and_nobody_else(site: Site) -> None:
    question = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
    body, kind = json.dumps(question).encode(), {"content-type": "application/json"}
    token = {"x-csrf-token": f"token-of-{PEOPLE['developer']}"}
    answer = site.send("POST", "/console/ask", "developer", body, kind | token)
    assert answer.status == 200 and json.loads(answer.body)["choices"][0]["message"]["content"]
    assert site.send("POST", "/console/ask", "developer", body, kind).status == 403
    assert site.send("POST", "/console/ask", body=body, headers=kind | token).status == 401
    other = {"x-csrf-token": f"token-of-{PEOPLE['auditor']}"}
    assert site.send("POST", "/console/ask", "auditor", body, kind | other).status == 403
    request = answer.headers["x-request-id"]
    assert PEOPLE["developer"] in site.get(f"/audit?request_id={request}", "auditor").text
    mine = site.get("/audit", "developer").text
    assert request in mine and f"call/audit/request?request={request}" in mine, "the page opens with one's own requests"
    assert request not in site.get("/audit", "model-owner").text


class VotesFor:
    """Takes votes for one purpose."""

    def __init__(self, what: str) -> None:
        self.what = what

    def purpose(self, tenant: str) -> str:
        return self.what


def test_chat_offers_votes_where_they_are_taken_and_says_what_is_kept(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = {"x-csrf-token": f"token-of-{PEOPLE['developer']}", "content-type": "application/json"}
    vote = json.dumps({"id": "chatcmpl-x", "rating": "up"}).encode()
    off = site.send("POST", "/console/vote", "developer", vote, token)
    assert off.status == 404 and b"feedback is off" in off.body
    assert site.send("POST", "/console/vote", "developer", vote, {"content-type": "application/json"}).status == 403
    assert site.send("POST", "/console/vote", body=vote, headers=token).status == 401
    assert 'id="vote"' not in site.get("/chat", "developer").text
    for purpose, said in (
        ("none", ""),
        ("measure", "The vote alone is kept"),
        ("train", "a model can learn from them"),
    ):
        monkeypatch.setattr(site.console, "votes", VotesFor(purpose))
        page = site.get("/chat", "developer").text
        assert ('id="vote"' in page) == bool(said) and said in page


def test_a_key_is_made_where_a_program_is_connected_and_stands_in_its_examples(site: Site) -> None:
    page = site.post("/connect", "security-officer", {"owner": PEOPLE["developer"], "title": "laptop"})
    (key,) = set(re.findall(r'id="new-key"[^>]*>(\S+?)<', page.text))
    assert page.status == 200 and page.text.count(key) > 5
    assert "http://ashore.test:8080/v1" in page.text
    assert site.send("GET", "/v1/models", key=key).status == 200
    assert key not in site.get("/people?_tab=access+key", "security-officer").text
    evil = site.get("/connect", "developer", host='x"><script>alert(1)</script>')
    assert "<script>alert" not in evil.text and "127.0.0.1" in evil.text


def test_the_command_of_a_form_follows_what_is_filled_in(site: Site) -> None:
    shown = site.post(
        "/call/access-key/create", "security-officer", {"owner": "dev person", "expires_in_s": "90d"},
        x_console_part="command",
    )  # fmt: skip
    assert shown.text == "ashore access key create 'dev person' --expires 90d"
    assert shown.headers["content-type"].startswith("text/plain")


def test_a_download_comes_as_a_file(site: Site) -> None:
    assert site.get("/call/audit/export", "auditor").headers["content-type"].startswith("text/html")
    file = site.get("/call/audit/export?_send=1&form=jsonl", "auditor")
    assert file.headers["content-disposition"] == 'attachment; filename="audit-export.tar"'
    assert file.status == 200 and len(file.body) > 1000


@pytest.mark.full
def test_a_page_takes_the_loop_a_few_milliseconds(site: Site) -> None:
    """Of the loop alone, by its own processor time: what runs on threads holds up nobody. The promise, 5 ms for 95 of
    100 pages, is measured on a quiet machine; one that does three things at once takes twice as long for each."""

    async def took(path: str) -> float:
        visit = Visit(base="http://h", cookie=f"who={site.keys['auditor']}", request_id="req_measured")
        asked = Asked(method="GET", path=path.removeprefix("/"), visit=visit, query=())
        spent = 0.0
        step = site.console.answer(asked).__await__()
        waited: Any = None
        while True:
            began = time.thread_time()
            try:
                waited = next(step)
            except StopIteration:
                return spent + time.thread_time() - began
            spent += time.thread_time() - began
            await resumed(waited)

    times = sorted(site.run(took(path)) for _ in range(30) for path in PATHS)
    p95 = times[-len(times) // 20]
    print(f"\nloop time of a page: p50 {times[len(times) // 2] * 1e3:.2f} ms, p95 {p95 * 1e3:.2f} ms")
    assert times[len(times) // 2] <= 0.005 and p95 <= 0.015


async def resumed(waited: Any) -> None:
    """Wait for the future that a coroutine yielded, as the loop would."""
    if waited is not None:
        waited._asyncio_future_blocking = False
        await asyncio.wait([waited])


def test_a_wrong_key_on_the_page_of_keys_is_recorded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Act] = []
    monkeypatch.setattr(site.console._recorder, "record", told.append)
    assert site.post("/key", "none", {"key": "ash_" + "x" * 40}).status == 401
    assert [(one.action, one.outcome) for one in told] == [("access:authenticate", "denied")]


def test_no_header_of_a_stranger_holds_up_the_loop(site: Site) -> None:
    cookie = "a=b; " * 11_000 + "ashore-look=zh.dark"
    spent = []
    for path, headers in (("/log-in", {"cookie": cookie}), ("/log-in?" + "a=b&" * 1_900, {})):

        async def ask(path: str = path, headers: dict[str, str] = headers) -> Page:
            began = time.thread_time()
            page = await site._asked("GET", f"/console{path}", b"", {"host": "h", "content-length": "0", **headers})
            spent.append(time.thread_time() - began)
            return page

        site.run(ask())
        page = site.run(ask())
    assert min(spent[:2]) < 0.02 and min(spent[2:]) < 0.02, "a parser of cookies takes 100 ms"
    assert page.status == 400
    assert 'data-theme="dark"' in site.get("/log-in", cookie=cookie).text


def test_a_form_of_a_stranger_is_short_and_counted(site: Site) -> None:
    """It is read before anybody knows who sends it."""
    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert site.send("POST", "/console/log-in", body=b"account=" + b"x" * 60_000, headers=kind).status == 401
    long = site.send("POST", "/console/log-in", body=b"account=" + b"x" * 70_000, headers=kind)
    assert long.status == 413 and b"65,536" in long.body
    kept = site.app._bodies
    site.app._bodies = Bodies(20_000, 20_000, free_bytes=0)
    try:
        assert site.send("POST", "/console/log-in", body=b"account=" + b"x" * 30_000, headers=kind).status == 429
    finally:
        site.app._bodies = kept


def test_an_error_of_a_script_is_in_the_language_of_its_page(site: Site) -> None:
    body = json.dumps({"model": "none", "messages": [{"role": "user", "content": "x"}]}).encode()
    headers = {"content-type": "application/json", "x-csrf-token": f"token-of-{PEOPLE['developer']}"}
    english = site.send("POST", "/console/ask", "developer", body, headers)
    chinese = site.send("POST", "/console/ask", "developer", body, headers | {"accept-language": "zh-CN"})
    assert english.status == chinese.status == 404
    said = [json.loads(one.body)["error"] for one in (english, chinese)]
    assert said[0]["code"] == said[1]["code"] and "no model is called" in said[0]["message"]
    assert "这里没有名为 'none' 的模型" in said[1]["message"]


def test_a_record_that_was_altered_is_shown_as_a_fault(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("altered")
    with console_site(folder) as site:
        site.post("/call/access-tenant/create", "security-officer", {"name": "acme"})
        (folder / "audit-keys" / "public-keys.pem").write_text(pem_of(new_signing_key().public))
        logs = lambda: [one for one in (folder / "audit").rglob("*.log") if b"tenant/acme" in one.read_bytes()]  # noqa: E731
        (log,) = eventually(logs)  # what was done is on its way to the disk
        before = site.post("/call/audit/verify", "auditor")  # nobody signs here, and that is all there is to say
        assert before.status == 200 and log.name not in before.text
        log.write_bytes(log.read_bytes().replace(b"tenant/acme", b"tenant/acne", 1))
        page = site.post("/call/audit/verify", "auditor")
        assert page.status == 200 and 'class="fault" role="alert"' in page.text and 'class="done"' not in page.text
        assert "This is not as it should be" in page.text and log.name in page.text


RAW = re.compile(r"[{}\[\]]|none yet|\bnum_|(^|\s)--\w|\bNone\b|\d{4}-\d\d-\d\dT")
"""What no cell may show: a dictionary, a null word, the name of a field, an option of a command, a raw time."""


def test_a_list_is_searched_sorted_taken_along_as_csv_and_opened_by_row(site: Site) -> None:
    role, tab = "security-officer", "/people?_tab=access+role"
    found = site.get(f"{tab}&_match=model-owner", role).text.partition("<tbody>")[2]
    assert "model-owner" in found and ">viewer<" not in found
    down = site.get(f"{tab}&_sort=-name", role).text
    assert 'aria-sort="descending"' in down and down.index(">viewer<") < down.index(">auditor<")
    table = site.get(f"{tab}&_form=csv", role)
    assert table.headers["content-type"].startswith("text/csv") and table.text.lstrip("\ufeff").startswith("name,")
    assert "attachment" in table.headers["content-disposition"]
    record = site.get("/audit?_row=no-such-record", "auditor")
    assert record.status == 200


def test_a_text_that_a_spreadsheet_would_run_is_a_text_in_csv() -> None:
    class Item(msgspec.Struct):
        name: str

    class Items(msgspec.Struct):
        items: list[Item]

    assert csv_of(Items([Item("=HYPERLINK(1)")])).decode("utf-8-sig") == "name\r\n'=HYPERLINK(1)\r\n"
