"""The queue as its keeper sees it: who may look and cancel, and that the audit log has it."""

from __future__ import annotations

import pytest
from admin_app import AdminApp

from ashore.access import Role, parse_rule
from ashore.core import ManualClock
from ashore.jobs import JobQueue, NewJob, SqlJobs
from ashore.jobs.office import JobOffice
from ashore.state import open_scratch


def office(*roles: str, own: tuple[Role, ...] = ()) -> AdminApp:
    app = AdminApp(*roles, own=own)
    queue = JobQueue(SqlJobs(open_scratch()), ManualClock())
    for tenant in ("acme", "beta"):
        queue.submit(
            NewJob(job_id=f"job_{tenant}", kind="call", tenant=tenant, principal=f"ann#{tenant}", payload=b"secret")
        )
    app.desks["jobs"] = JobOffice(queue=queue, rights=app.authority, recorder=app.recorder)
    return app


def test_an_administrator_lists_shows_and_cancels_and_it_is_recorded() -> None:
    app = office("system-administrator")
    listed = app.ask("GET", "/admin/v1/jobs", query="state=queued&limit=1000")["items"]
    assert {one["id"] for one in listed} == {"job_acme", "job_beta"}
    assert "secret" not in str(listed) and listed[0]["owner"] == "ann"
    done = app.ask("POST", "/admin/v1/jobs/job_acme/cancel")
    assert done["changed"] and done["job"]["state"] == "cancelled"
    assert not app.ask("POST", "/admin/v1/jobs/job_acme/cancel")["changed"]
    (act,) = app.recorder.acts
    assert (act.action, act.resource, act.origin) == ("job:cancel", "tenant/acme/job/job_acme", "10.0.0.9")


@pytest.mark.parametrize(
    "method, path", [("GET", "/jobs"), ("GET", "/jobs/job_acme"), ("POST", "/jobs/job_acme/cancel")]
)
def test_a_viewer_of_nothing_is_refused(method: str, path: str) -> None:
    assert office("developer").ask(method, f"/admin/v1{path}")["status"] == 403


def test_rights_on_one_tenant_show_and_cancel_nothing_of_another() -> None:
    rules = tuple(parse_rule(text) for text in ("allow job:read on tenant/acme/*", "allow job:cancel on tenant/acme/*"))
    app = office(own=(Role(name="keeper", title="", rules=rules),))
    assert [one["id"] for one in app.ask("GET", "/admin/v1/jobs")["items"]] == ["job_acme"]
    assert app.ask("POST", "/admin/v1/jobs/job_acme/cancel")["changed"]
    for method, path in (("GET", "/jobs/job_beta"), ("POST", "/jobs/job_beta/cancel")):
        assert app.ask(method, f"/admin/v1{path}")["status"] == 403


@pytest.mark.parametrize(
    "query, said",
    [
        ("state=odd", "state is 'odd'"),
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("stat=queued", "did you mean 'state'"),
    ],
)
def test_a_wrong_query_is_refused_by_name(query: str, said: str) -> None:
    refused = office("system-administrator").ask("GET", "/admin/v1/jobs", query=query)
    assert refused["status"] == 400 and said in refused["message"] + refused.get("hint", "")
