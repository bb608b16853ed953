"""The calls of releases over HTTP: from made to live and back, what is refused, and what is recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from release_site import Refused, Site, release_site


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with release_site(tmp_path_factory.mktemp("w")) as made:
        yield made


def test_from_made_to_live_and_back(site: Site) -> None:
    made = site.do(
        "release create", model="fake:random?tok_per_s=9", alias="chat",
        options={"kv_tokens": 8, "prefix_cache": False},
    )  # fmt: skip
    assert (made["name"], made["state"], made["created_by"]) == ("chat-2", "created", "owner")
    assert made["options"] == {} and made.get("until") is None
    seen = site.do("alias show", alias="chat")["version"]
    sent = site.do("release shadow", release="chat-2", share_percent=12.5, version=seen, automatic=False)
    assert (sent["state"], sent["goal"], sent["share_percent"], sent["automatic"]) == ("warming", "shadow", 12.5, False)
    site.warmed("chat-2")
    assert site.do("release show", release="chat-2")["state"] == "shadow"
    canary = site.do("release canary", release="chat-2", share_percent=5, steps_percent=[20, 50], every_s=600)
    assert (canary["state"], canary["steps_percent"], canary["automatic"]) == ("canary", [20.0, 50.0], True)
    assert canary["until"] - canary["since"] == 600
    status = site.do("release status", alias="chat")
    assert status["alias"]["weights_percent"] == {"chat-1": 95.0, "chat-2": 5.0}
    assert [one["name"] for one in status["releases"]] == ["chat-2", "chat-1"]
    assert site.refuse("release promote", release="chat-2")[:2] == (409, "conflict"), "it was never compared"
    live = site.do("release promote", release="chat-2", standby_s=0, why="it is better", override="a trial")
    assert (live["state"], live["weights_percent"]) == ("live", {"chat": 100.0})
    assert site.do("release show", release="chat-1")["state"] == "retired", "a standby of 0 s is none"
    assert [one["name"] for one in site.do("release list", alias="chat")["items"]] == ["chat-2", "chat-1"]
    assert site.do("release evidence", release="chat-2")["items"] == []
    history = site.do("alias history", alias="chat", limit=4)["items"]
    assert [one["verb"] for one in history] == ["retired", "promote", "canary", "shadow"]
    assert history[1]["why"] == "it is better" and history[1]["evidence"]["override"] == "a trial"
    assert history[3]["evidence"] == {"share_percent": 12.5}
    (back,) = site.do("release rollback", alias="chat", to="chat-1")["items"]
    assert (back["name"], back["state"]) == ("chat-1", "warming")
    assert site.do("alias set", alias="prod", weights_percent={"chat-2": 100}, sticky="key")["sticky"] == "key"
    assert [one["name"] for one in site.do("alias list")["items"]] == ["chat", "prod"]
    assert site.do("alias remove", alias="prod") == {"name": "prod", "removed": True}
    site.keeper.warmed("chat-1")
    assert site.do("release retire", release="chat-2", why="done")["state"] == "retired"


def test_bad_words_and_moves_are_told_by_name(site: Site) -> None:
    assert site.refuse("release show", release="chat-9") == (404, "not_found", "release")
    assert site.refuse("release create", model="fake:echo", alias="chta")[:2] == (404, "not_found")
    assert site.refuse("release create", alias="chat") == (400, "invalid_request", "model")
    site.do("release create", model="fake:random", alias="chat")
    for share in (0, -1, 100.5):
        refusal = site.refuse("release shadow", release="chat-2", share_percent=share)
        assert refusal == (400, "invalid_request", "share_percent")
    refusal = site.refuse("release canary", release="chat-2", steps_percent=[2], every_s=60)
    assert refusal == (400, "invalid_request", "steps")
    assert site.refuse("alias history", alias="chat", limit=1001) == (400, "invalid_request", "limit")
    assert site.refuse("alias history", alias="chat", limit=0) == (400, "invalid_request", "limit")
    refusal = site.refuse("release promote", release="chat-2", why="x" * 301)
    assert refusal == (400, "invalid_request", "why")
    refusal = site.refuse("alias set", alias="prod", weights_percent={"chat-1": 60})
    assert refusal == (400, "invalid_request", "weights")
    assert site.refuse("release retire", release="chat-1")[:2] == (409, "conflict")
    assert site.refuse("release promote", release="chat-2", version=77)[:2] == (409, "conflict")
    assert site.do("release show", release="chat-2")["state"] == "created", "nothing was moved"


def test_a_release_that_is_made_here_only_tunes_and_loads_nothing_that_its_maker_names(site: Site) -> None:
    for number, (fields, status, told) in enumerate(
        (
            ({"engine": "vllm", "options": {"executable": "/tmp/evil"}}, 403, "allow_options"),
            ({"engine": "llamacpp", "options": {"library": "/tmp/evil.so"}}, 403, "allow_options"),
            ({"options": {"fleet": "chat"}}, 403, "[model.engine]"),
            ({"engine": "vllm", "options": {"tool_parser_plugin": "/x.py"}}, 400, "allow_options"),
            ({"engine": "llamacpp", "options": {"kv_cash": "q8_0"}}, 400, "'kv_cache'"),
            ({"options": {"tokns": 3}}, 400, ""),
            ({"options": {"threads": 3}}, 400, "kv_tokens"),  # fake computes on none
            ({"options": {"kv_cache": "q8_0"}}, 400, ""),  # it tunes another engine
            ({"adapters": {"x": "/proc"}}, 403, "adapter_folders"),
        )
    ):  # fmt: skip
        asked = f"unsafe-{number}"
        with pytest.raises(Refused) as refusal:
            site.do("release create", request_id=asked, model="fake:random", alias="chat", **fields)
        assert refusal.value.status == status and told in refusal.value.hint, fields
        acts = acts_of(site, asked)
        assert [act["outcome"] for act in acts] == (["denied"] if status == 403 else []), fields
    assert len(site.do("release list")["items"]) == 1


def test_who_may_not_is_refused_before_anything_else_and_that_is_recorded(site: Site) -> None:
    assert site.refuse("release list", key="ash_nobody")[:2] == (401, "invalid_api_key")
    for number, (name, fields) in enumerate(
        (
            ("release list", {}), ("release create", {"model": ""}), ("release rollback", {"alias": "chat"}),
            ("alias set", {"alias": "x", "weights_percent": {"chat-1": 100}}),
        )
    ):  # fmt: skip
        asked = f"denied-{number}"
        assert site.refuse(name, key=site.developer, request_id=asked, **fields)[:2] == (
            403,
            "permission_denied",
        )
        (act,) = acts_of(site, asked)
        assert (act["outcome"], act["actor"]) == ("denied", "dev")
    site.do("release create", request_id="made-1", model="fake:random", alias="chat")
    (act,) = acts_of(site, "made-1")
    assert (act["action"], act["actor"], act["outcome"]) == ("release:create", "owner", "done")
    assert act["detail"]["release"] == "chat-2"


def acts_of(site: Site, request_id: str) -> list[dict[str, Any]]:
    """Return what the worker recorded of one request."""
    lines = [line.partition("ashore.acts:")[2] for line in site.worker.said().splitlines() if "ashore.acts:" in line]
    return [act for act in map(json.loads, lines) if act["request_id"] == request_id]
