"""`/site/v1`: files with ranges for the site whose certificate the edge saw, reports, joining, and administration."""

from __future__ import annotations

import pytest
from tests.support.admin_app import AdminApp
from tests.support.site_centre import ACTOR, SiteTwin, key_and_csr, open_office, parts_of

from ashore.control.sites import Office
from ashore.control.sites.joining import ask, take_answer
from ashore.control.sites.links import FolderLink
from ashore.kit.call import CLIENT


@pytest.fixture
def centre(tmp_path):
    office = open_office(tmp_path, tree=FolderLink(tmp_path / "sites" / "tree"))
    app = AdminApp("system-administrator")
    app.app.rooms.give({Office: office})
    app.desks["site"] = office
    yield app, office
    office.database.close()


def shown(site):
    return [(CLIENT.encode(), site.fingerprint.encode())]


def test_a_site_reads_the_tree_from_any_byte_on(centre, tmp_path):
    app, office = centre
    site = SiteTwin(office, tmp_path / "n", "north").join()
    office.publish()
    status, whole = app.send("GET", "/site/v1/metadata/timestamp.json", headers=shown(site))
    tag = app.headers[b"etag"]
    assert status == 200 and whole == (tmp_path / "sites/tree/metadata/timestamp.json").read_bytes()

    def part(*headers):
        return app.send("GET", "/site/v1/metadata/timestamp.json", headers=[*shown(site), *headers])

    assert part((b"range", b"bytes=100-")) == (206, whole[100:])
    assert app.headers[b"content-range"] == b"bytes 100-%d/%d" % (len(whole) - 1, len(whole))
    assert part((b"range", b"bytes=100-"), (b"if-range", tag)) == (206, whole[100:])
    assert part((b"range", b"bytes=100-"), (b"if-range", b'"other"')) == (200, whole)
    assert part((b"range", b"bytes=%d-" % len(whole)))[0] == 416
    assert part((b"if-none-match", tag)) == (304, b"")


def test_nobody_else_reads_and_no_site_reads_what_is_not_its_own(centre, tmp_path):
    app, office = centre
    north, south = (SiteTwin(office, tmp_path / one, one).join() for one in ("north", "south"))
    office.publish()
    (tmp_path / "secret").write_text("x")
    own = next(name for name, _ in office.tree.names("targets") if "/north/" in name)
    for path in (own, "metadata/1.root.json"):
        assert app.send("GET", f"/site/v1/{path}")[0] == 401
        assert app.send("GET", f"/site/v1/{path}", headers=[(CLIENT.encode(), b"0" * 64)])[0] == 401
        assert app.send("GET", f"/site/v1/{path}", headers=shown(north))[0] == 200
    for path in (own, "metadata/../../../secret", "metadata/..", "secret", "targets/models/none", "reports/x/1"):
        assert app.send("GET", f"/site/v1/{path}", headers=shown(south))[0] in (404, 405), path
    office.revoke(ACTOR, "north")
    assert app.send("GET", "/site/v1/metadata/1.root.json", headers=shown(north))[0] == 401


def test_a_report_comes_by_put_once_or_again_and_only_for_oneself(centre, tmp_path):
    app, office = centre
    north, south = (SiteTwin(office, tmp_path / one, one).join() for one in ("north", "south"))
    office.publish()
    north.sync()
    data = north.report()
    for _ in range(2):
        assert app.send("PUT", "/site/v1/reports/north/1.json", data, headers=shown(north)) == (200, b"{}")
    assert app.send("PUT", "/site/v1/reports/north/1.json", data, headers=shown(south))[0] == 403
    assert app.send("PUT", "/site/v1/reports/north/2.json", b"x" * 70_000, headers=shown(north))[0] == 413
    assert app.send("PUT", "/site/v1/reports/north/2.json", b"x\ny", headers=shown(north))[0] == 400


def test_joining_over_http(centre, tmp_path):
    app, office = centre
    site = SiteTwin(office, tmp_path / "n", "north")
    status, answer = app.send("POST", "/site/v1/join", ask(site.token, site.csr(), site.audit.public.text))
    assert status == 200 and take_answer(site.token, answer).certificate.startswith("-----BEGIN CERTIFICATE")
    assert app.send("POST", "/site/v1/join", ask(site.token, key_and_csr("north")[1], ""))[0] == 401
    assert app.send("POST", "/site/v1/join", b"{}")[0] == 400


def test_administration(centre, tmp_path):
    app, office = centre
    guard = AdminApp("security-officer")
    guard.desks["site"] = app.desks["site"]
    assert app.ask("PUT", "/admin/v1/sites/north", {})["status"] == 403
    made = guard.ask("PUT", "/admin/v1/sites/north", {"group": "offices"})
    site = SiteTwin(office, tmp_path / "n", "south").join()
    site.token, site.name = made["token"], "north"
    site.join()
    office.release(ACTOR, parts_of("one"))
    assert app.ask("GET", "/admin/v1/site-models")["items"][0]["name"] == "one"
    changed = app.ask("PATCH", "/admin/v1/sites/@offices", {"serve": {"chat": "one"}, "offline_days": 30})
    assert app.ask("PATCH", "/admin/v1/sites/north", {})["status"] == 400, "nothing to assign"
    assert changed == {"done": "assigned", "sites": ["north"], "unpublished": ""}
    assert app.ask("PATCH", "/admin/v1/sites/all", {"serve": {"chat": "two"}})["status"] == 404
    assert app.ask("PATCH", "/admin/v1/sites/all", {"policies": {"privacy": "x"}})["status"] == 400
    app.ask("PATCH", "/admin/v1/sites/@offices", {"policies": {"privacy": "a = 1", "cache": "b = 2"}})
    app.ask("PATCH", "/admin/v1/sites/@offices", {"policies": {"privacy": "a = 2", "cache": ""}})
    site.folder = tmp_path / "north"
    assert site.sync().want.policies == {"privacy": "a = 2"}
    office.take("north", site.report(attacks={"frozen": 2}, rate=9_000))
    office.create(ACTOR, "west", "")
    rows = {row["site"]: row for row in app.ask("GET", "/admin/v1/sites")["items"]}
    assert (rows["west"]["health"], rows["west"]["lag_s"], rows["west"]["link"]) == ("", 0, None)
    assert (rows["north"]["state"], rows["north"]["attacks"], rows["south"]["state"]) == ("current", 2, "behind")
    office.clock.advance(60)
    begun = app.ask("POST", "/admin/v1/site-rollouts", {"serve": {"chat": "one"}, "to": "@offices", "soak_s": 0})
    assert begun["wave"] == "1 of 1"
    assert app.ask("POST", f"/admin/v1/site-rollouts/{begun['id']}/pause")["state"] == "paused"
    assert app.ask("POST", f"/admin/v1/site-rollouts/{begun['id']}/resume")["state"] == "running"
    assert app.ask("POST", f"/admin/v1/site-rollouts/{begun['id']}/stop")["state"] == "stopped"
    assert app.ask("GET", "/admin/v1/site-rollouts")["items"][0]["why"] != ""
    app.ask("PATCH", "/admin/v1/sites/south", {"serve": {"chat": "one"}})
    office.clock.advance(60)
    app.ask("POST", "/admin/v1/sites/south/freeze", {})
    assert app.ask("GET", "/admin/v1/sites/south")["site"]["lag_s"] == 60, "what it shall serve is as old as before"
    assert app.ask("POST", "/admin/v1/sites/north/freeze", {})["done"] == "frozen"
    shown = app.ask("GET", "/admin/v1/sites/north")
    assert shown["want"].startswith("chat=one (gate smoke); offline_days 30.0; frozen; policy [privacy]")
    assert shown["sequence"] > shown["trusts"] and shown["site"]["state"] == "frozen"
    assert shown["site"]["lag_s"] == 0, "it serves what it shall"
    assert "small letters, digits and -" in str(guard.ask("PUT", "/admin/v1/sites/NORTH", {}))
    keys = {row["role"]: row for row in app.ask("GET", "/admin/v1/site-keys")["items"]}
    assert set(keys) == {"root", "targets", "sites", "snapshot", "timestamp"} and keys["root"]["held"] == "by operators"
    assert guard.ask("POST", "/admin/v1/site-keys/bump")["unpublished"] == ""
    assert keys["root"]["expires_at"] > office.now_s
    assert guard.ask("DELETE", "/admin/v1/sites/north")["sites"] == ["north"]
    assert app.ask("GET", "/admin/v1/sites/nobody")["status"] == 404


def test_who_may_assign_may_not_admit(tmp_path):
    office = open_office(tmp_path)
    app = AdminApp("model-owner")
    app.desks["site"] = office
    assert app.ask("PUT", "/admin/v1/sites/north", {})["status"] == 403
    assert app.ask("DELETE", "/admin/v1/sites/north")["status"] == 403
    assert app.ask("GET", "/admin/v1/sites") == {"items": []}
    assert app.ask("PATCH", "/admin/v1/sites/all", {"votes": True})["status"] == 404
    office.database.close()
