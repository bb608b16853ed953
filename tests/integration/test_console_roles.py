"""The console over a whole worker: each role is offered what it may do, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import urlencode, urljoin, urlsplit

import pytest
from console_site import PEOPLE, Site, console_site

from ashore.control.console import command_for
from ashore.control.console.acts import OWN
from ashore.control.console.pages import PAGES, Placed, is_list, lead_of, on_row
from ashore.control.console.tabs import WALK
from ashore.control.console.words import words_in
from ashore.data.authority import OFFICERS
from ashore.kit.call import ADMIN
from ashore.kit.rights import lacks

ROLES = tuple(PEOPLE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with console_site(tmp_path_factory.mktemp("console")) as made:
        yield made


def placed(site: Site) -> tuple[Placed, ...]:
    return site.console.acts.atlas.placed


@pytest.mark.parametrize("role", ROLES)
def test_a_page_offers_exactly_what_the_authority_lets_its_reader_do_over_http(site: Site, role: str) -> None:
    """HTTP asks before it reads a request: one that nobody could read tells whether it was let in, and does nothing."""
    for one in placed(site):
        call = one.call
        path = re.sub(r"\{\w+\}", "x", ADMIN + call.path)
        unreadable = b"{" if call.has_body else b""
        over_http = site.send(call.method, f"{path}?nonsense=1", body=unreadable, key=site.keys[role]).status
        on_page = site.get(f"/{one.address}?nonsense=1", role).status
        assert (over_http == 403) == (on_page == 403), f"{one.key}: HTTP {over_http}, page {on_page}"
        posted = site.post(f"/{one.address}", role, {"nonsense": 1}).status
        assert (posted == 403) == (over_http == 403), f"{one.key}: HTTP {over_http}, form {posted}"


def test_the_matrix_of_roles_pages_and_acts_is_that_of_the_authority(site: Site) -> None:
    """Of every role and act: the page of the act offers it, or names it among those of others, as the authority has it.
    An act on a row is offered where there is a row; where there is none, nothing may deny it."""
    console, cells, wrong = site.console, 0, []
    for role in ROLES:
        principal = console._authenticator.authenticate(site.keys[role], "10.0.0.9")
        for page in (one for one in PAGES if one.name not in OWN):
            for tab in console.acts.atlas.tabs(page):
                shown = site.get(f"/{page.name}?{urlencode({'_tab': tab})}", role)
                others = "".join(re.findall(r'<details class="others">.*?</details>', shown.text, re.DOTALL))
                offered = shown.text.replace(others, "") if others else shown.text
                calls = console.acts.atlas.on(page.name, tab)
                others_lists = [site.get(f"/{one.address}?_send=1", role).text for one in calls if is_list(one.call)]
                lead = lead_of([one for one in calls if not lacks(console.acts.authority, principal, one.call)])
                for one in calls:
                    allowed = not lacks(console.acts.authority, principal, one.call)
                    at = re.compile(rf'{one.address}["?]')
                    is_linked = one == lead or any(at.search(text) for text in (offered, *others_lists))
                    is_denied = shown.status == 403 or f"<li>{words_in('en').title(one.call)} ·" in unescape(others)
                    has_no_row = (
                        allowed
                        and len(one.call.in_path) == 1
                        and not any(f"?{one.call.in_path[0]}=" in text for text in (offered, *others_lists))
                    )
                    cells += 1
                    if is_denied == allowed or (not is_linked and allowed and not has_no_row) or (is_linked > allowed):
                        wrong.append(f"{role}, {one.key}: allowed {allowed}, linked {is_linked}, denied {is_denied}")
    print(f"\n{cells} cells of roles, pages and acts")
    assert not wrong, "\n".join(wrong)
    assert cells >= len(ROLES) * len([one for one in placed(site) if one.page not in OWN])


@pytest.mark.parametrize("role", ROLES)
def test_the_chat_page_says_whether_there_is_no_model_or_the_role_may_not_ask(site: Site, role: str) -> None:
    shown = site.get("/chat", role).text
    may_ask = 'id="prompt"' in shown
    assert may_ask == site.console.acts.authority.holds(
        site.console._authenticator.authenticate(site.keys[role], "10.0.0.9"), "infer"
    )
    assert may_ask or ("Models are served, but your roles" in shown and "developer" in shown)


@pytest.mark.parametrize("role", ROLES)
def test_every_page_of_a_role_leads_only_to_what_it_may_do(site: Site, role: str) -> None:
    atlas = site.console.acts.atlas
    navigation = {urlsplit(link).path for link in site.get("", role).tags.links}
    for path in site.shown_paths(role):
        page = site.get(path, role)
        name = path.removeprefix("/").partition("?")[0].partition("/")[0]
        assert (page.status == 403) == (f"console/{name}" not in navigation and name not in ("", "home")), path
        for link in page.tags.links:
            address = urlsplit(urljoin(f"http://h/console{path}", link)).path.removeprefix("/console/")
            if address in atlas.by_address:
                assert site.get(f"/{address}?nonsense=1", role).status != 403, f"{path} leads to {address}"


def test_every_call_is_reached_from_a_page_by_those_who_may_do_it(site: Site) -> None:
    """Acts on a row are reached where the list has one; here each list has the row that its own items would make."""
    atlas = site.console.acts.atlas
    reached = set()
    for role in ROLES:
        for path in site.shown_paths(role):
            text = site.get(path, role).text
            reached |= {one.key for one in atlas.placed if f'{one.address}"' in text or f"{one.address}?" in text}
            reached |= {one.key for one in atlas.placed if f">{lead_command(one)}<" in text}
    rows = {one.key for one in atlas.placed if len(one.call.in_path) == 1}
    own = {one.key for one in atlas.placed if one.page in OWN}  # the page Chat shows them in its own way
    assert {one.key for one in atlas.placed} - reached - rows - own == set()
    for one in atlas.placed:
        if one.key in rows:
            assert on_row(one.call, one.call, {one.call.in_path[0]: "x"}) == {one.call.in_path[0]: "x"}


def lead_command(placed: Placed) -> str:
    """Return the command that the list of a tab shows."""
    return command_for(placed.call, placed.call.takes() if is_list(placed.call) else None)


def test_a_form_of_another_site_or_session_does_nothing(site: Site) -> None:
    path, form = "/call/access-group/create", {"name": "forged"}
    body = urlencode(form).encode()
    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert site.send("POST", f"/console{path}", "security-officer", body, kind).status == 403
    kind |= {"sec-fetch-site": "same-origin"}
    tokenless = site.send("POST", f"/console{path}", "security-officer", body, kind)
    assert tokenless.status == 403
    assert "No built-in role" not in tokenless.text, "no role would help"
    other = urlencode({**form, "csrf": f"token-of-{PEOPLE['auditor']}"}).encode()
    assert site.send("POST", f"/console{path}", "security-officer", other, kind).status == 403
    assert site.post(path, "security-officer", form, sec_fetch_site="cross-site").status == 403
    assert site.get(f"{path}?name=forged&_send=1", "security-officer").status == 200
    assert "forged" not in site.get("/call/access-group/list", "security-officer").text
    assert site.post(path, "security-officer", form).status == 200
    assert "forged" in site.get("/call/access-group/list", "security-officer").text


@pytest.mark.parametrize("role", ["developer", "model-owner", "viewer", "auditor", "system-administrator"])
def test_people_make_rotate_and_revoke_keys_of_their_own_on_the_pages(site: Site, role: str) -> None:
    """Connect makes one; the rows of Me and of People rotate and revoke it; nobody is asked whose it is to be."""
    page = site.get("/connect", role)
    assert 'name="owner"' not in page.text and ">Create a key</button>" in page.text
    assert "ashore access key create" in page.text
    made = site.post("/connect", role, {"title": "my laptop", "expires_in_s": "30d"})
    key = re.findall(r"ash_[0-9a-f]{8}_[\w-]{43}", made.text)[0]
    assert made.status == 200 and f"api_key=&#34;{key}&#34;" in made.text, "the examples have it"
    asked = "/v1/models" if role != "viewer" else "/admin/v1/keys?owner=vie-person"
    assert site.send("GET", asked, key=key).status != 401
    for path in ("/me", "/people?_tab=access+key"):
        text = site.get(path, role).text
        assert "my laptop" in text and f"call/access-key/rotate?key={key[:12]}" in text, path
    done = site.post("/call/access-key/rotate", role, {"key": key[:12], "overlap_s": "0s"})
    new = re.findall(r"ash_[0-9a-f]{8}_[\w-]{43}", done.text)[0]
    assert done.status == 200 and site.send("GET", asked, key=key).status == 401
    assert site.post("/call/access-key/revoke", role, {"key": new[:12], "_sure": "1"}).status == 200
    assert site.send("GET", asked, key=new).status == 401
    assert ('name="owner"' in site.get("/call/access-key/create", role).text) == (role == "security-officer")
    wrong = site.post("/call/access-key/create", role, {"owner": PEOPLE["security-officer"]})
    assert wrong.status == 403


def test_who_may_have_no_key_of_their_own_is_offered_none(site: Site) -> None:
    page = site.get("/connect", "none")
    assert ">Create a key</button>" not in page.text and "Somebody else has to create your key" in page.text
    assert ">Create a key</a>" not in site.get("/me", "none").text
    assert site.post("/connect", "none", {"title": "x"}).status == 403
    assert "call/access-key/create" not in site.get("/people?_tab=access+key", "none").text


def test_the_first_person_is_told_where_their_key_is_and_how_to_get_one_of_their_own(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with console_site(tmp_path_factory.mktemp("fresh"), with_people=False) as fresh:
        for path in ("/connect", "/me"):
            page = fresh.get(path, "first-key")
            assert page.status == 200 and "Your key is in the file first-key" in page.text, path
            assert ">Create a key<" not in page.text and "no rule allows it" not in page.text
        assert fresh.post("/connect", "first-key", {"title": "x"}).status == 403


def test_acts_on_a_row_are_those_that_its_reader_may_do_with_it(site: Site) -> None:
    """Keys of others are not an auditor's to end; a new user is invited from their own row."""
    page = site.get("/people?_tab=access+key", "auditor").text
    own = f"call/access-key/revoke?key={site.keys['auditor'][:12]}"
    assert own in page and page.count("call/access-key/show?key=") > page.count("call/access-key/revoke?key=")
    assert f"call/access-key/revoke?key={site.keys['security-officer'][:12]}" not in page
    officer = site.get("/people?_tab=access+key", "security-officer").text
    assert officer.count("call/access-key/revoke?key=") == officer.count("call/access-key/show?key=") > 1
    invite = "call/account/create?account="
    users = site.get("/people/accounts", "security-officer").text
    assert f'{invite}{PEOPLE["developer"]}">Create a log-in</a>' in users
    assert invite not in site.get("/people?_tab=account", "security-officer").text, "they have one"
    assert invite not in site.get("/people", "developer").text


def test_a_form_offers_no_role_that_ashore_keeps_for_itself(site: Site) -> None:
    form = site.get("/call/access-user/create", "security-officer").text
    assert 'name="roles" value="developer"' in form
    assert 'value="internal"' not in form and 'value="first-key"' not in form


def test_the_first_key_is_offered_what_it_may_do_and_keeps_its_form(tmp_path: Path) -> None:
    make = "/call/access-user/create"
    with console_site(tmp_path, with_people=False) as fresh:
        form = fresh.get(make, "first-key").text
        assert re.findall(r'name="roles" value="([^"]+)"', form) == list(OFFICERS)
        assert re.search(r'name="key" value="yes" checked', form), "an administrator without a key could do nothing"
        both = {"id": "ann", "roles": OFFICERS[:2], "key": "yes"}
        again = fresh.post(make, "first-key", both)
        assert again.status == 403 and "exactly one of the roles" in again.text
        assert 'value="ann"' in again.text and f'value="{OFFICERS[0]}" checked' in again.text
        assert fresh.post(make, "first-key", both | {"roles": OFFICERS[0]}).status == 200


def test_a_role_is_picked_from_a_list_and_a_policy_is_a_table(site: Site) -> None:
    make = "/call/access-user/create"
    form = site.get(f"{make}?roles=viewer", "security-officer").text
    assert re.search(r'type="checkbox" name="roles" value="auditor">', form) and 'value="viewer" checked' in form
    said = site.post(make, "security-officer", {"id": "x", "roles": "viewer"}, x_console_part="command").text
    assert said.startswith("ashore access user create x --role viewer")
    bind = site.get("/call/access-role/bind", "security-officer").text
    assert re.search(r'<select name="grant.0.role"[^>]*><option value=""></option>.*<option>auditor</option>', bind)
    granted = {"grant.0.subject": f"user/{PEOPLE['none']}", "grant.0.role": "viewer", "grant.1.subject": " "}
    done = site.post("/call/access-role/bind", "security-officer", granted)
    assert done.status == 200 and "viewer" in done.text
    shown = site.get("/call/access-policy/show?_send=1", "security-officer").text
    assert re.search(rf"<td[^>]*>\s*user/{PEOPLE['none']}\s*</td>\s*<td[^>]*>\s*viewer", shown)
    assert "<summary>JSON</summary>" in shown
    apply = site.get("/call/access-policy/apply", "security-officer").text
    assert "&#34;subject&#34;: &#34;user/" in apply and re.search(r'name="base_version" value="[1-9]', apply)
    taken = {"revoke.0.subject": f"user/{PEOPLE['none']}", "revoke.0.role": "viewer"}
    assert site.post("/call/access-role/bind", "security-officer", taken).status == 200
    privacy = site.get("/privacy?_tab=privacy+policy", "security-officer").text
    assert "as built in" in privacy and "<caption>In prompts</caption>" in privacy


def test_a_refusal_says_who_may_and_is_recorded(site: Site) -> None:
    page = site.get("/call/access-user/create", "auditor")
    assert (
        page.status == 403
        and "security-officer" in page.text
        and "Your roles, or what this session may do" in page.text
    )
    main = page.text.partition("<main")[2]
    assert main.index("May do this: ") < main.index("<details>") < main.index('class="fault"'), "the rule comes last"
    found = site.get("/audit?outcome=denied&action=access%3Awrite", "auditor")
    assert "access:write" in found.text and PEOPLE["auditor"] in found.text


def test_what_one_may_not_see_is_not_there_and_one_line_says_who_may(site: Site) -> None:
    home = site.get("", "viewer").text
    assert "Signed audit records" not in home and "not yours" not in home and "none yet" not in home
    assert re.search(r"More stands here for: [^<]*auditor", home)
    assert re.search(r"Valid keys</dt><dd><a[^>]*>\d", site.get("", "auditor").text)


def test_an_auditor_walks_through_an_inspection_and_others_do_not(site: Site) -> None:
    page = site.get("/audit", "auditor").text
    listed = page.partition('class="walk"')[2].partition("</ol>")[0]
    walk = re.findall(r'<li><a href="\./?([^"]*)">([^<]*)</a></li>', listed)
    assert len(walk) == len(WALK) == 9
    for address, name in walk:
        stop = site.get(f"/{address.replace('&amp;', '&')}", "auditor")
        assert stop.status == 200 and 'class="fault"' not in stop.text, name
    assert 'class="walk"' not in site.get("/audit", "developer").text
    assert "检查流程" in site.get("/audit", "auditor", accept_language="zh").text


def test_an_auditor_finds_a_record_by_words_and_opens_it(site: Site) -> None:
    site.get("/audit", "auditor")
    page = site.get("/audit?q=audit%3Asearch%20today%20done", "auditor").text
    links = re.findall(r'<a href="\./?(audit\?[^"]*seq=[^"]*)">audit:search</a>', page)
    assert links and page.count('class="chip info"') == 3
    record = site.get(f"/{links[0].replace('&amp;', '&')}", "auditor")
    assert record.status == 200 and "audit/record" in record.text and "As it is written" in record.text
    assert site.get("/audit?chain=api-0&seq=999999&at=2026-01-01", "auditor").status == 404
    assert 'class="fault"' in site.get("/audit?q=since%3Dsoon", "auditor").text
    assert "seq=" not in site.get("/audit?q=done", "developer").text


def test_a_form_that_replaces_a_policy_begins_with_the_one_in_force(site: Site) -> None:
    site.post("/call/access-role/put", "security-officer", {"role": "asker", "rules": "infer on model/chat"})
    form = site.get("/call/access-policy/apply", "security-officer").text
    shown = site.get("/call/access-policy/show?_send=1", "security-officer").text
    (version,) = re.findall(r'name="base_version" value="(\d+)"', form)
    assert f">{version}</span>" in shown and "asker" in form and "infer on model/chat" in form
    old = {"base_version": int(version) - 1, "dry_run": "yes"}
    again = site.post("/call/access-policy/apply", "security-officer", old)
    assert again.status == 409 and "the policy was changed" in again.text
    chinese = site.post(
        "/call/access-policy/apply", "security-officer", {"base_version": int(version) - 1}, accept_language="zh"
    )
    assert "策略已被修改" in chinese.text and 'role="alert"' in chinese.text
