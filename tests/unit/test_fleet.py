"""Which addresses may join a fleet, how a node stands by what servers report of it, and the rows in the state."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import eventually

from ashore.control.fleet import FleetFile, FleetSection, Front, Node, View
from ashore.control.fleet.calls import _node_out
from ashore.control.fleet.model import ALIVE_S, entry_of, nodes_of
from ashore.control.fleet.rayserve import build, serve_file
from ashore.control.fleet.section import NodeSection
from ashore.control.fleet.sql import (
    load_fronts,
    load_nodes,
    put_node,
    remove_front,
    remove_node,
    report_front,
    set_drains,
)
from ashore.core.clock import SystemClock
from ashore.core.errors import Conflict, InvalidSpec, MissingExtra, NotFound, PermissionDenied
from ashore.data.engines.vllm.reach import FleetServers
from ashore.kit.extras import how_to_install
from ashore.kit.state import Database, EpochWatch, open_database

NETWORKS = ("10.0.0.0/24", "fd00::/64")
URL = "http://10.0.0.2:8101"
WRITTEN = NodeSection(node="gpu-1", address="http://gpu-1.corp:8000", model="chat")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    one = open_database(tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=SystemClock())
    yield one
    one.close()


@pytest.mark.parametrize(
    ("url", "entry"),
    [
        (URL, "10.0.0.2:8101@10.0.0.0/24"),
        ("http://[fd00::7]:80", "[fd00::7]:80@fd00::/64"),
        ("https://gpu-1.corp", "gpu-1.corp:443@10.0.0.0/8"),
    ],
)
def test_an_address_of_a_network_and_a_name_of_egress_may_join(url: str, entry: str) -> None:
    assert entry_of(url, FleetSection(networks=NETWORKS), allow=["gpu-1.corp@10.0.0.0/8"]) == entry


@pytest.mark.parametrize(
    "url", ["http://10.0.1.2:8101", "http://127.0.0.1:8101", "http://localhost:8101", "http://gpu-2.corp", "http://u@10.0.0.2"]
)  # fmt: skip
def test_nothing_else_may(url: str) -> None:
    with pytest.raises(PermissionDenied, match="may not join"):
        entry_of(url, FleetSection(networks=NETWORKS), allow=["gpu-1.corp@10.0.0.0/8"])


def test_a_network_that_is_none_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidSpec, match=r"\[fleet\] networks has '10.0.0.2/24'"):
        FleetSection(networks=("10.0.0.2/24",)).checked("[fleet]")


def seen(*views: tuple[str, int], drains: bool = False, age_s: int = 0) -> str:
    fronts = [
        (Front(name=str(number), address="", seen_s=0, views=(
            View(alias="chat", url=URL, state=state, running=running),  # type: ignore[arg-type]
        )), age_s)
        for number, (state, running) in enumerate(views)
    ]  # fmt: skip
    return _node_out(Node(node="n", alias="chat", url=URL, drains=drains), fronts, lambda alias: ()).state


def test_a_node_is_drained_once_every_server_that_lives_knows_of_it_and_runs_nothing_there() -> None:
    assert seen(("draining", 0), ("draining", 1), drains=True) == "draining"
    assert seen(("draining", 0), ("ready", 0), drains=True) == "draining", "that one may send another request"
    assert seen(("draining", 0), ("draining", 0), drains=True) == "drained"
    assert seen(("ready", 3), drains=True, age_s=ALIVE_S) == "drained", "a dead server runs nothing"
    assert (seen(("out", 0), ("ready", 0)), seen(("out", 0), ("new", 0)), seen()) == ("ready", "out", "new")


def test_rows_of_nodes_and_servers(database: Database) -> None:
    with database.write() as connection:
        put_node(connection, Node(node="a", alias="chat", url=URL, joined_s=5))
        put_node(connection, Node(node="a", alias="other", url=URL, joined_s=5))
        with pytest.raises(Conflict, match="is already the address of a"):
            put_node(connection, Node(node="b", alias="chat", url=URL))
        assert set_drains(connection, "a", True) and not set_drains(connection, "a", True)
        put_node(connection, Node(node="a", alias="chat", url="http://10.0.0.3:1", joined_s=6))
        assert [(one.alias, one.url, one.drains) for one in load_nodes(connection)] == [
            ("chat", "http://10.0.0.3:1", True), ("other", URL, True)
        ]  # fmt: skip
        remove_node(connection, "a")
        for missing in (lambda: remove_node(connection, "a"), lambda: set_drains(connection, "a", True)):
            with pytest.raises(NotFound):
                missing()
        views = (View(alias="chat", url=URL, state="ready", running=2),)
        report_front(connection, "x", address="http://x", views=())
        report_front(connection, "x", address="http://y", views=views)
        [(front, age_s)] = load_fronts(connection)
        assert (front.address, front.views) == ("http://y", views) and age_s <= 1
        remove_front(connection, "x")
        assert load_fronts(connection) == ()


def test_what_ashore_toml_names_comes_first_and_drains_by_a_row_that_did_not_join() -> None:
    section = FleetSection(nodes=(WRITTEN,))
    drained = Node(node="gpu-1", alias="chat", url=WRITTEN.address, drains=True)
    joined = Node(node="a", alias="chat", url=URL, joined_s=5)
    found = nodes_of(section, [joined, drained])
    assert [(one.node, one.drains, one.joined_s) for one in found] == [("gpu-1", True, 0), ("a", False, 5)]
    assert nodes_of(FleetSection(), [joined, drained]) == (joined,), "the row means nothing without the file"


def test_the_file_for_hosts_follows_the_state_and_leaves_out_what_may_not_be_called(
    database: Database, tmp_path: Path
) -> None:
    file, said = tmp_path / "fleet.json", []
    watch = EpochWatch(database).start()
    try:
        nodes = FleetFile(file, database, said.append)
        nodes.take(FleetSection(networks=NETWORKS), egress=())
        nodes.follow(watch)
        hosts = FleetServers(file, "chat")
        assert hosts.read() == () and hosts.read() is None
        with database.write() as connection:
            put_node(connection, Node(node="a", alias="chat", url=URL, joined_s=5))
            put_node(connection, Node(node="b", alias="chat", url="http://10.9.9.9:1", joined_s=5))
        [server] = eventually(hosts.read)
        assert (server.url, server.entry, server.drains) == (URL, "10.0.0.2:8101@10.0.0.0/24", False)
        assert len(said) == 1 and "node b of the fleet is not used" in said[0]
        nodes.take(FleetSection(nodes=(WRITTEN,)), egress=["gpu-1.corp"])
        [server] = eventually(hosts.read)
        assert (server.url, server.entry) == (WRITTEN.address, "gpu-1.corp:8000"), "and no longer the one that joined"
    finally:
        watch.close()


def test_the_file_for_ray_serve_names_what_a_replica_starts() -> None:
    made = serve_file(alias="chat", words=["smol"], replicas=3, cpus=2, gpus=0, port=8000, per_node=1)
    assert 'import_path: "ashore.control.fleet.rayserve:build"' in made and "route_prefix: /chat" in made
    assert "words: [smol]" in made and "num_replicas: 3" in made and "proxy_location: EveryNode" in made


def test_without_ray_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra) as caught:
        build({"words": ["smol"]})
    assert caught.value.hint == how_to_install("fleet")
