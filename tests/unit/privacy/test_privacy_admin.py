"""The administration of masking over HTTP, without a socket: try it, read it, change it, two administrators at once."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from admin_app import AdminApp, run_command
from scratch import FewNames

from ashore.cli.privacy import app as command
from ashore.core.clock import SystemClock
from ashore.core.errors import AshoreError, MissingExtra
from ashore.data.privacy import PROMPT_DEFAULTS, Entity, Finder, Privacy, PrivacyDesk, PrivacyPolicy
from ashore.data.privacy.service import finder_of
from ashore.kit.state import open_database

ID = "11010519491231002X"


def own_only(policy: PrivacyPolicy) -> Finder:
    """Open what a policy finds with, on a machine without Presidio."""
    if policy.detector == "presidio":
        raise MissingExtra("the detector is not installed")
    return finder_of(policy)


class Administration(AdminApp):
    """An application in which everybody is a security officer."""

    def __init__(self, folder: Path) -> None:
        super().__init__("security-officer")
        clock = SystemClock()
        self.state = open_database(folder / "state.db", snapshots=folder / "snapshots", clock=clock)
        self.privacy = Privacy(PrivacyPolicy(), secret=b"s" * 32, make_finder=own_only)
        self.desks["privacy"] = PrivacyDesk(
            self.privacy,
            PrivacyPolicy(),
            self.state,
            clock=clock,
            recorder=self.recorder,
            names=FewNames({"tenant": ["acme", "bank-a"]}),
        )

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        status, answer = self.send(method, path, b"" if body is None else json.dumps(body).encode())
        return status, json.loads(answer)


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Administration]:
    administration = Administration(tmp_path)
    yield administration
    administration.state.close()


def test_a_text_is_tried_and_its_values_are_not_repeated_among_the_items(one: Administration) -> None:
    status, answer = one.call("POST", "/admin/v1/privacy/detect", {"text": f"😀我是{ID}，电话13812345678"})
    assert status == 200
    assert answer == {
        "items": [
            {"kind": "id_card", "start": 3, "end": 21, "action": "mask"},
            {"kind": "phone", "start": 24, "end": 35, "action": "allow"},
        ],
        "counts": {"id_card": 1, "phone": 1},
        "masked": "😀我是[ID_CARD_1]，电话13812345678",
        "blocked": False,
    }


class Blocked:
    """Finds nothing, and takes until it is let go."""

    kinds: tuple[str, ...] = ()
    name = "blocked"

    def __init__(self) -> None:
        self.began, self.free = threading.Event(), threading.Event()

    def find(self, text: str) -> tuple[Entity, ...]:
        self.began.set()
        assert self.free.wait(20)
        return ()


def test_a_long_text_that_is_tried_holds_no_thread_that_others_wait_for(one: Administration) -> None:
    finder = Blocked()
    one.privacy = Privacy(PrivacyPolicy(), secret=b"s" * 32, make_finder=lambda policy: finder)
    one.desks["privacy"] = PrivacyDesk(
        one.privacy, PrivacyPolicy(), one.state, clock=SystemClock(), recorder=one.recorder
    )

    async def both() -> tuple[int, int]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        tried = asyncio.ensure_future(one.asked("POST", "/admin/v1/privacy/detect", b'{"text": "x"}'))
        try:
            while not finder.began.is_set():
                await asyncio.sleep(0.001)
            read = await asyncio.wait_for(one.asked("GET", "/admin/v1/privacy/policy"), 10)
        finally:
            finder.free.set()
        return read[0], (await tried)[0]

    assert asyncio.run(both()) == (200, 200)


def test_a_policy_is_read_changed_and_given_back(one: Administration) -> None:
    status, shown = one.call("GET", "/admin/v1/privacy/policy")
    assert (status, shown["version"], shown["source"]) == (200, 0, "built in")
    status, shown = one.call(
        "PUT", "/admin/v1/privacy/policy", {"replaces": 0, "policy": {"prompts": {"phone": "block"}}}
    )
    assert (status, shown["version"], shown["source"]) == (200, 1, "state")
    assert one.call("POST", "/admin/v1/privacy/detect", {"text": "13812345678"})[1]["blocked"]
    (act,) = one.recorder.acts
    assert (act.action, act.origin, act.detail["version"]) == ("privacy:write", "10.0.0.9", 1)
    status, shown = one.call("PUT", "/admin/v1/privacy/policy", {"replaces": 1, "policy": None})
    assert (status, shown["version"], shown["source"]) == (200, 2, "built in")


def test_a_dry_run_refuses_the_same_and_changes_nothing(one: Administration) -> None:
    change = {"replaces": 0, "policy": {"prompts": {"phone": "block"}}, "dry_run": True}
    status, shown = one.call("PUT", "/admin/v1/privacy/policy", change)
    assert (status, shown["version"], shown["policy"]["prompts"]) == (200, 1, {"phone": "block"})
    assert one.call("GET", "/admin/v1/privacy/policy")[1]["version"] == 0 and not one.recorder.acts
    assert not one.call("POST", "/admin/v1/privacy/detect", {"text": "13812345678"})[1]["blocked"]
    assert one.call("PUT", "/admin/v1/privacy/policy", {**change, "replaces": 3})[0] == 409
    assert (
        one.call("PUT", "/admin/v1/privacy/policy", {**change, "policy": {"prompts": {"telephone": "mask"}}})[0] == 400
    )


def test_of_two_administrators_the_second_is_told(one: Administration) -> None:
    change = {"replaces": 0, "policy": {"prompts": {"phone": "mask"}}}
    assert one.call("PUT", "/admin/v1/privacy/policy", change)[0] == 200
    other = {"replaces": 0, "policy": {"prompts": {"phone": "block"}}}
    status, answer = one.call("PUT", "/admin/v1/privacy/policy", other)
    assert (status, answer["error"]["code"]) == (409, "conflict")


def test_the_same_policy_again_changes_nothing_whatever_it_began_from(one: Administration) -> None:
    change = {"replaces": 0, "policy": {"prompts": {"phone": "mask"}}}
    for again in (change, change, {**change, "dry_run": True}, {**change, "replaces": 7}):
        status, shown = one.call("PUT", "/admin/v1/privacy/policy", again)
        assert (status, shown["version"], shown["source"]) == (200, 1, "state")
    assert len(one.recorder.acts) == 1, "what changes nothing is no act"


def test_a_policy_that_cannot_be_used_changes_nothing(one: Administration) -> None:
    for policy, code in (
        ({"prompts": {"telephone": "mask"}}, "invalid_spec"),
        ({"prompts": {"phone": "hide"}}, "invalid_request"),
        ({"promts": {}}, "unknown_field"),
        ({"expressions": [{"kind": "x", "pattern": "(a+"}]}, "invalid_spec"),
        ({"expressions": [{"kind": "x", "pattern": "((a{1000}){1000}){1000}"}]}, "invalid_spec"),
        ({"expressions": [{"kind": "phone", "pattern": "a"}]}, "invalid_spec"),
        ({"detector": "presidio"}, "invalid_spec"),
    ):
        status, answer = one.call("PUT", "/admin/v1/privacy/policy", {"replaces": 0, "policy": policy})
        assert (status, answer["error"]["code"]) == (400, code), policy
    assert one.call("GET", "/admin/v1/privacy/policy")[1]["version"] == 0
    assert one.recorder.acts == []


def test_the_commands_print_compare_and_set_it(
    one: Administration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path))
    one.answer_commands(monkeypatch)
    file = tmp_path / "policy.toml"
    run_command(command, "policy", "show", "--toml")
    file.write_text(capsys.readouterr().out + 'prompts = { phone = "block" }\n')
    run_command(command, "policy", "set", str(file), "--dry-run")
    assert "phone in prompts: allow -> block\nthis was a dry run" in capsys.readouterr().out
    run_command(command, "policy", "set", str(file), "--json")
    assert json.loads(capsys.readouterr().out)["version"] == 1
    run_command(command, "policy", "reset", "--replaces", "1")
    assert "at version 2, from built in" in capsys.readouterr().out
    with pytest.raises(AshoreError, match="is at version 2, and this change is based on version 0"):
        run_command(command, "policy", "set", str(file))


def test_a_policy_for_a_tenant_that_does_not_exist_is_refused(one: Administration) -> None:
    asked = {"replaces": 0, "policy": {"routes": [{"tenant": "acne", "prompts": {"phone": "mask"}}]}}
    for dry_run in (True, False):
        status, answer = one.call("PUT", "/admin/v1/privacy/policy", asked | {"dry_run": dry_run})
        assert (status, answer["error"]["param"]) == (404, "tenant")
        said = "there is no tenant 'acne' for the route of the policy"
        assert answer["error"]["message"].startswith(said)
        assert answer["error"]["hint"].startswith("did you mean 'acme'") and "tenant create" in answer["error"]["hint"]
    assert one.call("GET", "/admin/v1/privacy/policy")[1]["version"] == 0
    status, answer = one.call("POST", "/admin/v1/privacy/detect", {"text": "hi", "tenant": "acne"})
    assert (status, answer["error"]["param"]) == (404, "tenant")


def test_what_is_masked_is_told_where_no_policy_says_anything(
    one: Administration, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, shown = one.call("GET", "/admin/v1/privacy/policy")
    masked = {kind for kind, action in shown["in_prompts"].items() if action == "mask"}
    assert masked == set(PROMPT_DEFAULTS) and shown["in_prompts"].keys() == set(shown["kinds"])
    assert shown["in_prompts"]["email"] == shown["in_prompts"]["phone"] == "allow"
    assert set(shown["in_answers"].values()) == {"allow"}
    one.answer_commands(monkeypatch)
    run_command(command, "policy", "show", "--toml")
    said = capsys.readouterr().out
    assert all(kind in said.partition("masked or blocked: ")[2].partition("\n")[0] for kind in masked)
    assert "email" in said.partition("left as they are: ")[2].partition("\n")[0]
