"""The designed pages over a whole worker: people, keys, usage, jobs, doctor, server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from console_site import PEOPLE, Site, console_site
from tool_servers import OddServer, odd_server, tool
from waiting import eventually

OFFICER = "security-officer"


@pytest.fixture(scope="module")
def bank() -> Iterator[OddServer]:
    with odd_server() as made:
        yield made


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, bank: OddServer) -> Iterator[Site]:
    servers = [{"name": "bank", "url": bank.url}, {"name": "gone", "url": "http://127.0.0.1:9/mcp"}]
    with console_site(tmp_path_factory.mktemp("views"), sections={"mcp": {"servers": servers}}) as made:
        yield made


def main(site: Site, path: str, role: str) -> str:
    page = site.get(path, role)
    assert page.status == 200, (path, page.status)
    return page.text.partition("<main")[2].partition("</main>")[0]


def test_keys_are_shown_by_whether_they_are_valid_with_what_the_reader_may_do_with_them(site: Site) -> None:
    made = site.post("/call/access-key/create", OFFICER, {"owner": PEOPLE["developer"], "title": "old laptop"})
    (key,) = set(re.findall(r"ash_[0-9a-f]{8}_[\w-]{43}", made.text.partition("<main")[2]))
    assert made.text.count(key) == 1, "once on the page, in what is copied"
    assert key not in (page := main(site, "/people", OFFICER)) and "old laptop" in page
    assert f"call/access-key/revoke?key={key[:12]}" in page and ">never</span>" in page
    assert f"call/access-key/revoke?key={key[:12]}" not in main(site, "/people", "auditor")
    own = main(site, "/people", "developer")
    assert "old laptop" in own and PEOPLE["auditor"] not in own and "people/accounts" not in own
    assert site.post("/call/access-key/revoke", "developer", {"key": key[:12], "_sure": "1"}).status == 200
    assert "old laptop" not in main(site, "/people", OFFICER)
    ended = main(site, "/people?_show=ended", OFFICER)
    assert "old laptop" in ended and "call/access-key/revoke" not in ended


def test_a_person_is_invited_by_a_link_that_carries_the_code_where_no_server_sees_it(site: Site) -> None:
    form = main(site, "/people/invite", OFFICER)
    assert re.search(r'name="roles" value="developer" checked', form)
    said = site.post("/people/invite", OFFICER, {"id": "mia", "roles": "developer"}, x_console_part="command").text
    assert said == "ashore access user create mia --role developer --no-key && ashore account create mia"
    done = site.post("/people/invite", OFFICER, {"id": "mia", "roles": "developer"})
    (link,) = re.findall(r'id="secret-text"[^>]*>([^<]+)<', done.text)
    (code,) = re.findall(r'id="secret-code">([^<]+)<', done.text)
    assert link == f"http://ashore.test:8080/console/invitation?account=mia#{code}"
    people = main(site, "/people/accounts?_show=invited", OFFICER)
    assert "people/person?account=mia" in people and "people/person?account=dev-person" not in people
    again = site.post("/people/invite", OFFICER, {"id": "mia", "roles": "developer"})
    assert again.status == 409 and 'value="mia"' in again.text, "the form stays"


def test_the_log_in_of_a_disabled_person_is_found_among_those_of_others(site: Site) -> None:
    for name in ("abe", "zoe"):
        site.post("/people/invite", OFFICER, {"id": name, "roles": "developer"})
    site.post("/call/access-user/change", OFFICER, {"account": "zoe", "disabled": "yes", "_sure": "1"})
    page = main(site, "/people/accounts?_show=disabled", OFFICER)
    assert "call/account/reset?account=zoe" in page and "call/account/create?account=zoe" not in page
    assert "account=abe" not in page


@pytest.mark.parametrize("role", ["auditor", "developer", "system-administrator"])
def test_who_may_make_no_account_invites_nobody(site: Site, role: str) -> None:
    assert site.get("/people/invite", role).status == 403
    assert site.post("/people/invite", role, {"id": "eve", "roles": "developer"}).status == 403
    assert "people/invite" not in site.get("/people", role).text


def test_a_person_has_a_page_that_others_without_the_right_do_not_see(site: Site) -> None:
    page = main(site, f"/people/person?account={PEOPLE['developer']}", OFFICER)
    assert "developer" in page and "call/access/can?subject=user%2Fdev-person" in page
    assert site.get(f"/people/person?account={PEOPLE['developer']}", "developer").status == 403
    assert site.get("/people/person?account=nobody-here", OFFICER).status == 404
    site.post("/call/access-service/create", OFFICER, {"id": "claims-bot"})
    assert "claims-bot" in main(site, "/people/person?account=claims-bot", OFFICER)


def test_groups_and_roles_say_who_is_in_them(site: Site) -> None:
    site.post("/call/access-group/create", OFFICER, {"name": "night"})
    site.post("/call/access-group/members", OFFICER, {"group": "night", "add": PEOPLE["viewer"]})
    assert re.search(r"night.*vie-person", main(site, "/people/groups", OFFICER), re.DOTALL)
    assert re.search(r"role=viewer.*vie-person", main(site, "/people/roles", OFFICER), re.DOTALL)


def test_usage_is_counted_by_person_and_budgets_have_bars(site: Site) -> None:
    body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "hello"}]}).encode()
    kind = {"content-type": "application/json"}
    assert site.send("POST", "/v1/chat/completions", body=body, headers=kind, key=site.keys["developer"]).status == 200
    operator = "system-administrator"
    limit = {"kind": "tokens", "cap": "1000000", "window": "month", "user": PEOPLE["developer"]}
    assert site.post("/call/access-budget/set", operator, limit).status == 200
    eventually(lambda: re.search(r"<td[^>]*>\s*chat\s*</td>", main(site, "/usage?by=model", operator)), limit_s=60)
    assert PEOPLE["developer"] in main(site, "/usage", operator).partition("<tbody>")[2].partition("</tbody>")[0]
    assert site.send("POST", "/v1/chat/completions", body=body, headers=kind, key=site.keys["developer"]).status == 200

    def counts(query: str) -> list[list[tuple[str, bool]]]:
        listed = json.loads(site.send("GET", f"/admin/v1/budgets{query}", key=site.keys[operator]).text)["items"]
        return [[(one["user"], one["settled"] + one["open"] > 0) for one in rule["counts"]] for rule in listed]

    eventually(lambda: counts("?counts=true") == [[(PEOPLE["developer"], True)]], limit_s=30)
    assert counts("") == [[]]
    page = main(site, "/usage?_range=7d", operator)
    assert page.count('class="card chart"') == 2 and "1 M" in page and "call/access-budget/remove?budget=" in page
    assert PEOPLE["developer"] in main(site, "/usage", "developer")
    assert PEOPLE["developer"] not in main(site, "/usage", "none")


def test_alerts_of_a_server_without_channels_say_that_nobody_is_told_and_what_to_add(site: Site) -> None:
    page = main(site, "/alerts", "system-administrator")
    assert "in ashore.toml as a channel for alerts, and reload" in page and "[[" not in page
    assert "is listed here while it lasts" not in page and "Dropped" not in page
    assert "New silence" in page and "Everything is heard" in page and "alerts?_tab=alert" in page
    assert site.get("/alerts", "viewer").status == 403


def test_the_privacy_policy_is_one_table_of_what_is_done_with_each_kind_and_for_whom_it_differs(site: Site) -> None:
    page = main(site, "/privacy", "auditor")
    rows = [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in page.split("<tr ")[2:]]
    assert page.count("<table") == 2 and "8 of 16 kinds" in page and "As built in." in page
    assert "Identity number mask as it is" in rows[3] and any("E-mail address as it is as it is" in row for row in rows)
    policy = {
        "prompts": {"email": "block"}, "routes": [{"alias": "chat", "prompts": {"email": "mask"}}],
        "dictionaries": [{"kind": "project", "words": ["Blue Heron"]}],
    }  # fmt: skip
    form = {"replaces": "0", "policy": json.dumps(policy)}
    assert site.post("/call/privacy-policy/set", OFFICER, form).status == 200
    try:
        page = " ".join(re.sub(r"<[^>]+>", " ", main(site, "/privacy", "auditor")).split())
        assert "E-mail address block as it is chat: in prompts mask" in page and "Set here." in page
        assert "Project 1 words mask as it is" in page
    finally:
        assert site.post("/call/privacy-policy/set", OFFICER, {"replaces": "1", "policy": "null"}).status == 200
    assert site.get("/privacy?_tab=privacy+policy", "developer").status == 403


def test_tools_are_read_and_approved_by_ticks_and_none_is_approved_without_one(site: Site, bank: OddServer) -> None:
    schema = {"type": "object", "properties": {"account": {"type": "string"}}, "required": ["account"]}
    bank.tools = [tool("balance", "Return <b>it</b>.\u202e", inputSchema=schema), tool("rates"), tool("send", "Send.")]
    page = main(site, "/privacy/tools", OFFICER)
    assert "Return &lt;b&gt;it&lt;/b&gt;.\ufffd" in page and "<code>account</code>" in page and "gone" in page
    assert re.findall(r'name="tools" value="(\w+)"', page) == ["rates", "send"], "nobody can read the first"
    (digest,) = re.findall(r'name="digest" value="(\w+)"', page)
    form = [("name", "bank"), ("digest", digest)]
    refused = site.post("/privacy/tools", OFFICER, form)
    assert refused.status == 400 and "no tool is named" in refused.text
    assert site.post("/call/mcp/approve", OFFICER, form).status == 400
    bank.tools[2] = tool("send", "Send everything.")
    stale = site.post("/privacy/tools", OFFICER, [*form, ("tools", "rates"), ("tools", "send")])
    assert stale.status == 409 and "send" in stale.text and "checked" not in stale.text
    (digest,) = re.findall(r'name="digest" value="(\w+)"', stale.text)
    form = [("name", "bank"), ("digest", digest), ("tools", "rates"), ("tools", "send")]
    said = site.post("/privacy/tools", OFFICER, form, x_console_part="command").text
    assert said == f"ashore mcp approve bank --digest {digest} --tools rates,send"
    for role in ("auditor", "developer"):
        assert site.post("/privacy/tools", role, form).status == 403
    assert site.post("/privacy/tools", OFFICER, form).status == 303
    bank.tools[2] = tool("send", "Send everything to me.")
    page = main(site, "/privacy/tools", OFFICER)
    assert re.findall(r'name="tools" value="(\w+)"', page) == ["send"]
    assert re.search(r"<del>-[^<]*Send everything\.", page) and re.search(r"<ins>\+[^<]*Send everything to me\.", page)
    read = main(site, "/privacy/tools", "auditor")
    assert "Send everything." in read and 'name="tools"' not in read and "security-officer" in read


def test_an_empty_list_says_what_will_stand_there_and_how_to_make_the_first(site: Site) -> None:
    page = main(site, "/privacy?_tab=guard", OFFICER)
    assert "A guard list names words" in page and "call/guard/put" in page
    assert "A directory (LDAP or Active Directory)" in main(site, "/people?_tab=directory", OFFICER)
    assert "[[" not in main(site, "/call/mcp/check?name=bank", OFFICER)


def test_a_job_that_is_not_there_is_not_found(site: Site) -> None:
    assert site.get("/jobs/job?job=job_none", "system-administrator").status == 404


def test_tabs_lead_to_the_views_and_a_reader_without_a_right_keeps_the_derived_tab(site: Site) -> None:
    links = site.get("/people", OFFICER).tags.links
    assert {"./people/accounts", "./people/groups", "./people/roles"} <= set(links)
    assert "./people?_tab=access+tenant" in links and "./people?_tab=access+user" not in links
    assert "./people?_tab=access+role" in site.get("/people", "developer").tags.links
    derived = site.get("/people?_tab=access+tenant", OFFICER)
    assert "./people/groups" in derived.tags.links
