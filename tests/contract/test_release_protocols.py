"""The calls of releases, the same cases over HTTP and gRPC."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from release_wires import Refused, Site, Wire, plain, refused, release_site, watch

from ashore.access import SYSTEM
from ashore.api.grpc.gen import releases_pb2 as pb
from ashore.api.releasecalls import RELEASE_CALLS

PROTOCOLS = ("http", "grpc")


@dataclass
class Side:
    """One protocol, and the other one beside it."""

    site: Site
    wire: Wire
    other: Wire

    def do(self, name: str, **fields: Any) -> dict[str, Any]:
        return self.wire.call(name, self.site.owner, **fields)

    def refuse(self, name: str, key: str = "", **fields: Any) -> tuple[str, str, str]:
        with pytest.raises(Refused) as told:
            self.wire.call(name, key or self.site.owner, **fields)
        return told.value.status, told.value.code, told.value.param


@pytest.fixture(params=PROTOCOLS)
def side(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    with release_site(tmp_path_factory.mktemp("w")) as site:
        wires = (site.http, site.grpc)
        yield Side(site, *(wires if request.param == "http" else reversed(wires)))


def test_every_call_of_the_table_is_a_method_and_no_method_is_missing() -> None:
    methods = {method.name for method in pb.DESCRIPTOR.services_by_name["Releases"].methods}
    assert methods == {call.name for call in RELEASE_CALLS} | {"WatchAlias"}


def test_from_made_to_live_and_back(side: Side) -> None:
    made = side.do(
        "CreateRelease", model="fake:random?tok_per_s=9", alias="chat",
        options={"tokens": 8, "fast": True, "rate": 0.5, "mode": "x"},
    )  # fmt: skip
    assert (made["name"], made["state"], made["created_by"]) == ("chat-2", "created", "owner")
    assert made["options"] == {"tokens": 8, "fast": True, "rate": 0.5, "mode": "x"} and made.get("until") is None
    seen = side.do("GetAlias", alias="chat")["version"]
    sent = side.do("ShadowRelease", release="chat-2", share_percent=12.5, version=seen, automatic=False)
    assert (sent["state"], sent["goal"], sent["share_percent"], sent["automatic"]) == ("warming", "shadow", 12.5, False)
    side.site.warmed("chat-2")
    assert side.do("GetRelease", release="chat-2")["state"] == "shadow"
    canary = side.do("CanaryRelease", release="chat-2", share_percent=5, steps_percent=[20, 50], every_s=600)
    assert (canary["state"], canary["steps_percent"], canary["automatic"]) == ("canary", [20.0, 50.0], True)
    assert canary["until"] - canary["since"] == 600
    status = side.do("GetAliasStatus", alias="chat")
    assert status["alias"]["weights_percent"] == {"chat-1": 95.0, "chat-2": 5.0}
    assert [one["name"] for one in status["releases"]] == ["chat-2", "chat-1"]
    assert side.refuse("PromoteRelease", release="chat-2")[:2] == ("ABORTED", "conflict"), "it was never compared"
    live = side.do("PromoteRelease", release="chat-2", standby_s=0, why="it is better", override="a trial")
    assert (live["state"], live["weights_percent"]) == ("live", {"chat": 100.0})
    assert side.do("GetRelease", release="chat-1")["state"] == "retired", "a standby of 0 s is none"
    assert [one["name"] for one in side.do("ListReleases", alias="chat")["items"]] == ["chat-2", "chat-1"]
    assert side.do("GetEvidence", release="chat-2")["items"] == []
    history = side.do("GetHistory", alias="chat", limit=4)["items"]
    assert [one["verb"] for one in history] == ["retired", "promote", "canary", "shadow"]
    assert history[1]["why"] == "it is better" and history[1]["evidence"]["override"] == "a trial"
    assert history[3]["evidence"] == {"share_percent": 12.5}
    (back,) = side.do("RollBack", alias="chat", to="chat-1")["items"]
    assert (back["name"], back["state"]) == ("chat-1", "warming")
    assert side.do("SetAlias", alias="prod", weights_percent={"chat-2": 100}, sticky="key")["sticky"] == "key"
    assert [one["name"] for one in side.do("ListAliases")["items"]] == ["chat", "prod"]
    assert side.do("RemoveAlias", alias="prod") == {"name": "prod", "removed": True}
    side.site.keeper.warmed("chat-1")
    assert side.do("RetireRelease", release="chat-2", why="done")["state"] == "retired"


def test_both_tell_the_same(side: Side) -> None:
    side.do("CreateRelease", model="fake:random", alias="chat", options={"n": 1})
    side.do("ShadowRelease", release="chat-2")
    side.site.warmed("chat-2")
    chat, second = {"alias": "chat"}, {"release": "chat-2"}
    for name, fields in (
        ("ListReleases", {}), ("GetRelease", second), ("ListAliases", {}), ("GetAlias", chat),
        ("GetAliasStatus", chat), ("GetHistory", chat), ("GetEvidence", second),
        ("GetPairs", second),
    ):  # fmt: skip
        here, there = (wire.call(name, side.site.owner, **fields) for wire in (side.wire, side.other))
        assert without_nulls(here) == without_nulls(there), name


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(one) for key, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


def test_bad_words_and_moves_are_told_alike(side: Side) -> None:
    assert side.refuse("GetRelease", release="chat-9") == ("NOT_FOUND", "not_found", "release")
    assert side.refuse("CreateRelease", model="fake:echo", alias="chta")[:2] == ("NOT_FOUND", "not_found")
    assert side.refuse("CreateRelease", alias="chat") == ("INVALID_ARGUMENT", "invalid_request", "model")
    side.do("CreateRelease", model="fake:random", alias="chat")
    for share in (0, -1, 100.5):
        refusal = side.refuse("ShadowRelease", release="chat-2", share_percent=share)
        assert refusal == ("INVALID_ARGUMENT", "invalid_request", "share_percent")
    refusal = side.refuse("CanaryRelease", release="chat-2", steps_percent=[2], every_s=60)
    assert refusal == ("INVALID_ARGUMENT", "invalid_request", "steps")
    assert side.refuse("GetHistory", alias="chat", limit=1001) == ("INVALID_ARGUMENT", "invalid_request", "limit")
    assert side.refuse("GetHistory", alias="chat", limit=0) == ("INVALID_ARGUMENT", "invalid_request", "limit")
    refusal = side.refuse("PromoteRelease", release="chat-2", why="x" * 301)
    assert refusal == ("INVALID_ARGUMENT", "invalid_request", "why")
    refusal = side.refuse("SetAlias", alias="prod", weights_percent={"chat-1": 60})
    assert refusal == ("INVALID_ARGUMENT", "invalid_request", "weights")
    assert side.refuse("RetireRelease", release="chat-1")[:2] == ("ABORTED", "conflict")
    assert side.refuse("PromoteRelease", release="chat-2", version=77)[:2] == ("ABORTED", "conflict")
    assert side.do("GetRelease", release="chat-2")["state"] == "created", "nothing was moved"


def test_a_release_that_is_made_here_only_tunes_and_loads_nothing_that_its_maker_names(side: Side) -> None:
    for number, (fields, status, told) in enumerate(
        (
            ({"engine": "vllm", "options": {"executable": "/tmp/evil"}}, "PERMISSION_DENIED", "allow_options"),
            ({"engine": "llamacpp", "options": {"library": "/tmp/evil.so"}}, "PERMISSION_DENIED", "allow_options"),
            ({"options": {"url": "http://10.0.0.7:8000"}}, "PERMISSION_DENIED", "[model.engine]"),
            ({"engine": "vllm", "options": {"tool_parser_plugin": "/x.py"}}, "INVALID_ARGUMENT", "allow_options"),
            ({"engine": "llamacpp", "options": {"kv_cash": "q8_0"}}, "INVALID_ARGUMENT", "'kv_cache'"),
            ({"options": {"tokns": 3}}, "INVALID_ARGUMENT", ""),
            ({"options": {"kv_cache": "q8_0"}}, "INVALID_ARGUMENT", ""),  # it tunes another engine
            ({"adapters": {"x": "/proc"}}, "PERMISSION_DENIED", "adapter_folders"),
        )
    ):  # fmt: skip
        asked = f"unsafe-{number}"
        with pytest.raises(Refused) as refusal:
            side.wire.call("CreateRelease", side.site.owner, asked, model="fake:random", alias="chat", **fields)
        assert refusal.value.status == status and told in refusal.value.hint, fields
        acts = acts_of(side.site, asked)
        assert [act["outcome"] for act in acts] == (["denied"] if status == "PERMISSION_DENIED" else []), fields
    assert len(side.do("ListReleases")["items"]) == 1


def test_who_may_not_is_refused_before_anything_else_and_that_is_recorded(side: Side) -> None:
    site = side.site
    assert side.refuse("ListReleases", "ash_nobody")[:2] == ("UNAUTHENTICATED", "invalid_api_key")
    for number, (name, fields) in enumerate(
        (
            ("ListReleases", {}), ("CreateRelease", {"model": ""}), ("RollBack", {"alias": "chat"}),
            ("SetAlias", {"alias": "x", "weights_percent": {"chat-1": 100}}),
        )
    ):  # fmt: skip
        asked = f"denied-{number}"
        assert side.refuse(name, site.developer, request_id=asked, **fields)[:2] == (
            "PERMISSION_DENIED",
            "permission_denied",
        )
        (act,) = acts_of(site, asked)
        assert (act["outcome"], act["actor"]) == ("denied", "dev")
    side.wire.call("CreateRelease", site.owner, "made-1", model="fake:random", alias="chat")
    (act,) = acts_of(site, "made-1")
    assert (act["action"], act["actor"], act["outcome"]) == ("release:create", "owner", "done")
    assert act["detail"]["release"] == "chat-2"


def acts_of(site: Site, request_id: str) -> list[dict[str, Any]]:
    """Return what the worker recorded of one request."""
    lines = [line.partition("ashore.acts:")[2] for line in site.worker.said().splitlines() if "ashore.acts:" in line]
    return [act for act in map(json.loads, lines) if act["request_id"] == request_id]


def test_a_watch_tells_at_once_and_again_at_each_move(tmp_path_factory: pytest.TempPathFactory) -> None:
    with release_site(tmp_path_factory.mktemp("w")) as site:
        site.http.call("CreateRelease", site.owner, model="fake:random", alias="chat")
        call = watch(site.grpc.address, site.reader, "chat")
        told = iter(call)
        assert plain(next(told))["alias"]["weights_percent"] == {"chat-1": 100.0}
        site.http.call("CanaryRelease", site.owner, release="chat-2", share_percent=30)
        states = [one["state"] for one in plain(next(told))["releases"]]
        assert states == ["warming", "live"]
        site.warmed("chat-2")  # by another process: the epoch tells it
        assert plain(next(told))["alias"]["weights_percent"] == {"chat-1": 70.0, "chat-2": 30.0}
        site.http.call("RollBack", site.owner, alias="chat")
        assert plain(next(told))["alias"]["weights_percent"] == {"chat-1": 100.0}
        call.cancel()
        gone = watch(site.grpc.address, site.reader, "chta")
        with pytest.raises(grpc.RpcError) as fault:
            next(gone)
        assert refused(fault.value).status == "NOT_FOUND"
        denied = watch(site.grpc.address, site.developer, "chat")
        with pytest.raises(grpc.RpcError) as fault:
            next(denied)
        assert refused(fault.value).code == "permission_denied"


def test_a_watch_ends_when_its_key_is_revoked(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with release_site(tmp_path_factory.mktemp("w")) as site:
        call = watch(site.grpc.address, site.reader, "chat")
        next(iter(call))
        site.people.remove_account(SYSTEM, "user", "watcher")
        with pytest.raises(grpc.RpcError) as fault:
            for _ in call:
                pass
        assert refused(fault.value).status == "UNAUTHENTICATED"
