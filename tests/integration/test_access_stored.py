"""Files, batches, responses and jobs are their owner's: for another of the tenant they do not exist without a right."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from http_worker import Worker, http_worker, state_link

from ashore.data.authority import OFFICERS

BOUNDARY = "b"
LINE = {"custom_id": "1", "method": "POST", "url": "/v1/responses", "body": {"model": "echo", "input": "hi"}}


class House:
    """A worker with people of one tenant: alice keeps things, abe is a colleague."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        for name, role in zip(("sam", "sec", "ann"), OFFICERS, strict=True):
            made = self.ask(worker.key, "POST", "/admin/v1/users", {"id": name, "roles": [role], "key": {}})
            if name == "sec":
                self.sec = made["key"]["key"]
        self.ok(self.sec, "POST", "/admin/v1/tenants", {"name": "bank-a"})
        self.alice, self.abe, self.desk = (self.user(name, "developer") for name in ("alice", "abe", "desk"))
        self.second = self.key_of("alice")
        self.narrow = self.key_of("alice", models=["slow"])
        self.response = self.ok(self.alice, "POST", "/v1/responses", {"model": "echo", "input": "mine", "store": True})[
            "id"
        ]
        self.file = self.upload(self.alice)
        self.batch = self.ok(self.alice, "POST", "/v1/batches", self.batch_of(self.file))["id"]
        first = {"items": [{"role": "user", "content": "mine"}]}
        self.conversation = self.ok(self.alice, "POST", "/v1/conversations", first)["id"]
        self.item = self.ok(self.alice, "GET", f"/v1/conversations/{self.conversation}/items")["data"][0]["id"]
        background = {"model": "slow", "input": "later", "background": True}
        self.job = self.ok(self.alice, "POST", "/v1/responses", background)["id"]

    def ask(self, key: str, method: str, path: str, body: object = None, **headers: str) -> Any:
        sent = None if body is None else json.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        status, _, answer = self.worker.request(method, path, sent, {"authorization": f"Bearer {key}", **named})
        return {**(json.loads(answer) if answer else {}), "http": status}

    def ok(self, key: str, method: str, path: str, body: object = None) -> Any:
        answer = self.ask(key, method, path, body)
        assert answer["http"] == 200, answer
        return answer

    def user(self, name: str, *roles: str) -> str:
        wish = {"id": name, "roles": list(roles), "tenant": "bank-a", "key": {}}
        return str(self.ok(self.sec, "POST", "/admin/v1/users", wish)["key"]["key"])

    def key_of(self, owner: str, **wish: object) -> str:
        return str(self.ok(self.sec, "POST", "/admin/v1/keys", {"owner": owner, **wish})["key"])

    def upload(self, key: str) -> str:
        parts = (
            f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="file"; filename="in"\r\n\r\n'
            f"{json.dumps(LINE)}\n\r\n"
            f"--{BOUNDARY}--\r\n"
        )
        headers = {"authorization": f"Bearer {key}", "content-type": f"multipart/form-data; boundary={BOUNDARY}"}
        status, _, answer = self.worker.request("POST", "/v1/files", parts, headers)
        assert status == 200, answer
        return str(json.loads(answer)["id"])

    def batch_of(self, file: str) -> dict[str, str]:
        return {"input_file_id": file, "endpoint": "/v1/responses", "completion_window": "24h"}

    def calls(self) -> dict[str, tuple[str, str, object]]:
        """Return every call that names something of alice's."""
        follow = {"model": "slow", "input": "and?", "previous_response_id": self.response}
        talk = {"model": "slow", "input": "and?", "conversation": self.conversation}
        turn = {"role": "user", "content": "more"}
        return {
            "response": ("GET", f"/v1/responses/{self.response}", None),
            "its input": ("GET", f"/v1/responses/{self.response}/input_items", None),
            "what follows it": ("POST", "/v1/responses", follow),
            "the tokens of what follows it": ("POST", "/v1/responses/input_tokens", follow),
            "its job": ("GET", f"/v1/jobs/{self.response}", None),
            "file": ("GET", f"/v1/files/{self.file}", None),
            "its bytes": ("GET", f"/v1/files/{self.file}/content", None),
            "a batch of it": ("POST", "/v1/batches", self.batch_of(self.file)),
            "batch": ("GET", f"/v1/batches/{self.batch}", None),
            "background": ("GET", f"/v1/responses/{self.job}", None),
            "jobs after it": ("GET", f"/v1/jobs?after={self.response}", None),
            "files after it": ("GET", f"/v1/files?after={self.file}", None),
            "batches after it": ("GET", f"/v1/batches?after={self.batch}", None),
            "conversation": ("GET", f"/v1/conversations/{self.conversation}", None),
            "its items": ("GET", f"/v1/conversations/{self.conversation}/items", None),
            "its item": ("GET", f"/v1/conversations/{self.conversation}/items/{self.item}", None),
            "the tokens in it": ("POST", "/v1/responses/input_tokens", talk),
            "end of where it was": ("POST", "/v1/responses", talk),
            "end of its metadata": ("POST", f"/v1/conversations/{self.conversation}", {"metadata": {}}),
            "end of its last item": ("POST", f"/v1/conversations/{self.conversation}/items", {"items": [turn]}),
            "end of its item": ("DELETE", f"/v1/conversations/{self.conversation}/items/{self.item}", None),
            "end of the conversation": ("DELETE", f"/v1/conversations/{self.conversation}", None),
            "end of the background": ("POST", f"/v1/responses/{self.job}/cancel", None),
            "end of the job": ("POST", f"/v1/jobs/{self.job}/cancel", None),
            "end of the batch": ("POST", f"/v1/batches/{self.batch}/cancel", None),
            "end of the file": ("DELETE", f"/v1/files/{self.file}", None),
            "end of the response": ("DELETE", f"/v1/responses/{self.response}", None),
        }

    def statuses(self, key: str, *, only: Callable[[str], bool] = lambda name: True) -> dict[str, int]:
        found = {}
        for name, (method, path, body) in self.calls().items():
            if only(name):
                sent = None if body is None else json.dumps(body)
                found[name] = self.worker.request(method, path, sent, {"authorization": f"Bearer {key}"})[0]
        return found

    def uses(self) -> list[str]:
        """Return what was recorded of things of alice's, each by somebody else."""
        acts = [json.loads(found) for found in re.findall(r'\{"action":"stored:.*\}', self.worker.said())]
        assert {(act["actor"], act["resource"]) for act in acts} <= {("desk", "tenant/bank-a/stored/alice")}
        return [act["action"] for act in acts]

    def lists(self, key: str) -> tuple[int, int, int]:
        paths = ("/v1/jobs", "items"), ("/v1/files", "data"), ("/v1/batches", "data")
        jobs, files, batches = (len(self.ok(key, "GET", path)[name]) for path, name in paths)
        return jobs, files, batches


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    run = tmp_path_factory.mktemp("worker")
    with http_worker(run, state=state_link(run)) as worker:
        yield House(worker)


def is_look(name: str) -> bool:
    return not name.startswith("end of") and name != "a batch of it"


def test_a_colleague_finds_nothing_and_ends_nothing(house: House) -> None:
    assert set(house.statuses(house.abe).values()) == {404}
    assert house.lists(house.abe) == (0, 0, 0)
    assert set(house.statuses(house.alice, only=is_look).values()) == {200}, "nothing of it was lost"


def test_the_keys_of_one_owner_share(house: House) -> None:
    assert set(house.statuses(house.second, only=is_look).values()) == {200}
    assert house.lists(house.second) == house.lists(house.alice)
    assert house.lists(house.alice)[1:] == (1, 1)


def test_a_narrowed_key_sees_what_its_models_can_have_made_and_nothing_else(house: House) -> None:
    seen = {name: status for name, status in house.statuses(house.narrow, only=is_look).items() if status != 404}
    assert seen == {"background": 200}, "which is of the model slow"
    assert house.lists(house.narrow) == (1, 0, 0)
    assert house.ask(house.narrow, "DELETE", f"/v1/responses/{house.response}")["http"] == 404
    own = house.upload(house.narrow)
    batch = house.ok(house.narrow, "POST", "/v1/batches", house.batch_of(own))["id"]
    twin = house.key_of("alice", models=["slow", "echo"])
    for key, status in (
        (house.narrow, 200),
        (twin, 200),
        (house.alice, 200),
        (house.key_of("alice", models=["e*"]), 404),
    ):
        assert house.ask(key, "GET", f"/v1/files/{own}")["http"] == status
        assert house.ask(key, "GET", f"/v1/batches/{batch}")["http"] == status
    said = house.ok(house.narrow, "POST", "/v1/conversations")["id"]
    assert house.ask(twin, "GET", f"/v1/conversations/{said}")["http"] == 200
    talk = {"model": "echo", "input": "hi", "conversation": said}
    assert house.ask(house.alice, "POST", "/v1/responses", talk)["http"] == 200
    assert house.ask(twin, "GET", f"/v1/conversations/{said}")["http"] == 200
    assert house.ask(house.narrow, "GET", f"/v1/conversations/{said}")["http"] == 404, "echo has answered in it"
    house.ok(house.alice, "DELETE", f"/v1/conversations/{said}")
    house.ok(house.alice, "DELETE", f"/v1/files/{own}")
    house.ok(house.alice, "POST", f"/v1/jobs/{batch}/cancel")


def test_an_idempotency_key_is_its_owners(house: House) -> None:
    body = {"model": "slow", "input": "once", "background": True}
    ids = {
        name: house.ask(key, "POST", "/v1/responses", body, idempotency_key="k")["id"]
        for name, key in (("alice", house.alice), ("second", house.second), ("abe", house.abe))
    }
    assert ids["alice"] == ids["second"] != ids["abe"]
    for key, mine in ((house.alice, ids["alice"]), (house.abe, ids["abe"])):
        house.ok(key, "DELETE", f"/v1/responses/{mine}")


def test_a_right_opens_what_others_keep_and_another_ends_it(house: House) -> None:
    rules = ["stored:show on tenant/bank-a/*", "deny stored:show on tenant/bank-a/stored/abe"]
    house.ok(house.sec, "PUT", "/admin/v1/roles/reader", {"rules": rules})
    house.ok(house.sec, "POST", "/admin/v1/bindings", {"grant": [{"subject": "user/desk", "role": "reader"}]})
    abes = house.upload(house.abe)
    assert house.uses() == []
    assert set(house.statuses(house.desk, only=is_look).values()) == {200}
    looks = [name for name in house.calls() if is_look(name) and not name.endswith("after it")]
    assert house.uses() == ["stored:show"] * len(looks), "each look is recorded, and what only says where a page begins"
    assert house.lists(house.desk) == house.lists(house.alice), "but what a rule denies is in no list"
    assert house.ask(house.desk, "GET", f"/v1/files/{abes}")["http"] == 404
    ends = house.statuses(house.desk, only=lambda name: name.startswith("end of"))
    assert set(ends.values()) == {404}, "to see is not to remove"
    house.ok(house.sec, "PUT", "/admin/v1/roles/reader", {"rules": [*rules, "stored:remove on tenant/bank-a/*"]})
    assert set(house.statuses(house.desk, only=lambda name: name.startswith("end of")).values()) == {200}
    assert house.lists(house.alice)[1] == 0
    assert house.uses().count("stored:remove") == sum(name.startswith("end of") for name in house.calls())
