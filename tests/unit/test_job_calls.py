"""The queue as its keeper sees it: who may look and cancel, and that the audit log has it."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from admin_app import AdminApp

from ashore.control.jobs.office import JobOffice
from ashore.control.jobs.operations import calls as operations
from ashore.control.jobs.operations.sources import Reach
from ashore.core.clock import ManualClock
from ashore.core.ids import TenantId
from ashore.core.principal import KeyScope, Principal
from ashore.data.authority import Role, parse_rule
from ashore.data.jobs import JobQueue, NewJob, SqlJobs
from ashore.data.jobs.operations import Request
from ashore.kit.state import open_scratch


class Ann:
    """Lets everybody in as ann, with a key that can be narrowed to actions."""

    def __init__(self) -> None:
        self.actions: tuple[str, ...] = ()

    def authenticate(self, token: str | None, origin: str = "") -> Principal:
        key = "ash_2" if self.actions else "ash_1"
        return Principal(id="ann", tenant=TenantId("acme"), key_id=key, scope=KeyScope(actions=self.actions))


def office(
    *roles: str, own: tuple[Role, ...] = (), door: Ann | None = None, clock: ManualClock | None = None
) -> AdminApp:
    app = AdminApp(*roles, own=own, door=door)
    queue = JobQueue(SqlJobs(open_scratch()), clock or ManualClock())
    for tenant in ("acme", "beta"):
        queue.submit(
            NewJob(job_id=f"job_{tenant}", kind="call", tenant=tenant, principal=f"bob#{tenant}", payload=b"secret")
        )
    app.desks["jobs"] = JobOffice(queue=queue, rights=app.authority, recorder=app.recorder)
    return app


def test_an_administrator_lists_shows_and_cancels_and_it_is_recorded() -> None:
    app = office("system-administrator")
    listed = app.ask("GET", "/admin/v1/jobs", query="state=queued&limit=1000")["items"]
    assert {one["id"] for one in listed} == {"job_acme", "job_beta"}
    assert "secret" not in str(listed) and listed[0]["owner"] == "bob"
    done = app.ask("POST", "/admin/v1/jobs/job_acme/cancel")
    assert done["changed"] and done["job"]["state"] == "cancelled"
    assert not app.ask("POST", "/admin/v1/jobs/job_acme/cancel")["changed"]
    (act,) = app.recorder.acts
    assert (act.action, act.resource, act.origin) == ("job:cancel", "tenant/acme/job/job_acme", "10.0.0.9")


@pytest.mark.parametrize("method, path", [("GET", "/jobs/job_acme"), ("POST", "/jobs/job_acme/cancel")])
def test_a_viewer_of_nothing_is_refused(method: str, path: str) -> None:
    app = office("developer")
    assert app.ask(method, f"/admin/v1{path}")["status"] == 403
    assert app.ask("GET", "/admin/v1/jobs")["items"] == []


def test_who_submitted_a_job_sees_and_cancels_it_with_a_key_that_is_not_narrowed() -> None:
    door = Ann()
    app = office("model-owner", door=door)
    made = app.ask("POST", "/admin/v1/optimize/quantize", {"model": "tiny", "to": "int8"})
    assert [one["id"] for one in app.ask("GET", "/admin/v1/jobs")["items"]] == [made["id"]]
    assert app.ask("GET", "/admin/v1/jobs", query="tenant=beta")["items"] == []
    own = app.ask("GET", f"/admin/v1/jobs/{made['id']}")
    assert own["state"] == "queued"
    door.actions = ("infer",)
    assert app.ask("GET", "/admin/v1/jobs")["items"] == []
    assert app.ask("POST", f"/admin/v1/jobs/{made['id']}/cancel")["status"] == 403
    door.actions = ()
    assert app.ask("POST", f"/admin/v1/jobs/{made['id']}/cancel")["changed"]


def test_a_narrowed_key_finds_what_it_submitted_behind_what_others_of_its_owner_did() -> None:
    door, clock = Ann(), ManualClock()
    app = office("model-owner", door=door, clock=clock)
    door.actions = ("model:*",)
    made = app.ask("POST", "/admin/v1/models/verify", {})
    clock.advance(1)
    door.actions = ()
    others = {app.ask("POST", "/admin/v1/models/verify", {})["id"] for _ in range(2)}
    assert {one["id"] for one in app.ask("GET", "/admin/v1/jobs", query="limit=2")["items"]} == others
    door.actions = ("model:*",)
    assert [one["id"] for one in app.ask("GET", "/admin/v1/jobs", query="limit=2")["items"]] == [made["id"]]


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


def test_who_submitted_an_operation_learns_whether_they_still_may_and_nobody_else_does() -> None:
    rules = ("allow model:verify on model/mine", "allow job:read on *")
    app = office(own=(Role(name="keeper", title="", rules=tuple(map(parse_rule, rules))),), door=Ann())
    queue = app.desks["jobs"].queue
    for job_id, also, whose in (("op_may", (), "ann"), ("op_not", ("model/other",), "ann"), ("op_his", (), "eve")):
        request = Request(
            name="model verify", asked=msgspec.Raw(b"{}"), action="model:verify", subject="model/mine", also=also
        )
        queue.submit(
            NewJob(
                job_id=job_id, kind="model verify", tenant="acme", principal=whose, payload=msgspec.json.encode(request)
            )
        )
    assert app.ask("GET", "/admin/v1/jobs/op_may/allowed") == {"job": "op_may"}
    refused = app.ask("GET", "/admin/v1/jobs/op_not/allowed")
    assert refused["status"] == 403 and "model/other" in refused["message"], refused
    assert app.ask("GET", "/admin/v1/jobs/op_his/allowed")["status"] == 400, "it is not theirs"
    assert app.ask("GET", "/admin/v1/jobs/job_beta/allowed")["status"] == 404, "of another tenant"


@pytest.mark.parametrize(
    "path, body, made",
    [
        ("/train/sft", {"model": "a", "data": "/pool/x.jsonl"}, "a-sft"),
        ("/optimize/prune", {"model": "a", "remove": "30%"}, "a-pruned30"),
        ("/optimize/distill", {"teacher": "a@int8", "data": ["/pool/x.jsonl"]}, "a-distilled"),
    ],
)
def test_a_name_that_is_left_out_is_among_those_that_rights_are_asked_for(
    path: str, body: dict[str, object], made: str
) -> None:
    """Who may train `a` alone may not make `a-sft`; what is queued has the name that was asked about."""
    for also, status in ((), 403), ((f"model/{made}",), None):
        rules = [parse_rule(f"allow model:* on {one}") for one in ("model/a", *also)]
        app = office(own=(Role(name="maker", title="", rules=tuple(rules)),))
        app.desks["jobs"] = replace(app.desks["jobs"], reach=Reach(folders=("/pool",)))
        answer = app.ask("POST", f"/admin/v1{path}", body)
        assert answer.get("status") == status, answer
        if status is None:
            request = msgspec.json.decode(app.desks["jobs"].queue.body(answer["id"]).payload, type=Request)
            assert request.also == (f"model/{made}",) and msgspec.json.decode(request.asked)["name"] == made
        else:
            assert f"model/{made}" in answer["message"]


def test_one_tenant_leaves_room_for_the_operations_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "MOST_OF_TENANT", 2)
    app = office("system-administrator")
    queue = app.desks["jobs"].queue
    for number in range(3):
        queue.submit(
            NewJob(job_id=f"op_{number}", kind="model verify", tenant="beta", principal="eve#beta", payload=b"{}")
        )
    first, second, third = (app.ask("POST", "/admin/v1/models/verify", {}) for _ in range(3))
    assert first["kind"] == second["kind"] == "model verify", "those of another tenant do not count"
    assert third["status"] == 429 and "of tenant" in third["message"], third
    app.ask("POST", f"/admin/v1/jobs/{first['id']}/cancel")
    assert app.ask("POST", "/admin/v1/models/verify", {})["kind"] == "model verify"
