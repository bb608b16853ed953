"""What Envoy is told: the structure that safety and streams rest on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ashore.core.errors import InvalidSpec
from ashore.kit.call import CLIENT, CONTROL_PATHS
from ashore.machine.edge import (
    EdgePlan,
    EdgeSection,
    Machine,
    Tls,
    edge_child,
    edge_choices,
    plan_edge,
    render,
    threads_for,
    worker_sockets,
    write_files,
)
from ashore.machine.edge.replies import REPLIES, error_type

RUN = Path("/home/a/.ashore/run")
PLAN = EdgePlan(
    run=RUN,
    host="127.0.0.1",
    port=8443,
    tls=Tls(certificate_pem="-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", key_file="/k.key"),
    workers=tuple(worker_sockets(RUN, index) for index in range(2)),
    control=str(RUN / "control.sock"),
)


def read(plan: EdgePlan, name: str) -> Any:
    path = plan.bootstrap if name == "envoy.yaml" else plan.files / name
    return yaml.safe_load(render(plan)[path])


def http(plan: EdgePlan) -> dict[str, Any]:
    chain = read(plan, "listeners.yaml")["resources"][0]["filter_chains"][0]
    return chain["filters"][0]["typed_config"]  # type: ignore[no-any-return]


def clusters(plan: EdgePlan) -> dict[str, Any]:
    return {one["name"]: one for one in read(plan, "clusters.yaml")["resources"]}


def addresses(cluster: dict[str, Any]) -> list[Any]:
    endpoints = cluster["load_assignment"]["endpoints"]
    return [one["endpoint"]["address"] for place in endpoints for one in place["lb_endpoints"]]


def test_administration_is_on_a_socket_of_its_owner_and_nothing_listens_elsewhere() -> None:
    assert read(PLAN, "envoy.yaml")["admin"]["address"] == {
        "pipe": {"path": str(RUN / "envoy-admin.sock"), "mode": 0o600}
    }
    listeners = read(PLAN, "listeners.yaml")["resources"]
    assert [one["address"]["socket_address"] for one in listeners] == [{"address": "127.0.0.1", "port_value": 8443}]
    assert listeners[0]["enable_reuse_port"] is False


def test_workers_are_reached_on_their_unix_sockets_alone() -> None:
    found = clusters(PLAN)
    assert addresses(found["api_http_here"]) == [{"pipe": {"path": str(RUN / f"api-{i}.sock")}} for i in (0, 1)]
    assert addresses(found["api_grpc_here"]) == [{"pipe": {"path": str(RUN / f"grpc-{i}.sock")}} for i in (0, 1)]
    assert addresses(found["api_control"]) == [{"pipe": {"path": str(RUN / "control.sock")}}]
    assert set(found) == {"api_http_here", "api_grpc_here", "api_http", "api_grpc", "api_control"}


def test_administration_goes_to_the_control_process_of_this_machine() -> None:
    for machines in ((), (Machine(host="10.0.0.2", port=8443),)):
        before, behind = routes_of(replace(PLAN, machines=machines))
        found = [path_of(one["match"]) for one in before + behind if one["route"]["cluster"] == "api_control"]
        assert set(found) == {*CONTROL_PATHS, "/console/ask"}
        paths = [one["match"].get("path_separated_prefix") for one in behind]
        assert tuple(paths[: len(CONTROL_PATHS)]) == CONTROL_PATHS, "before any other route with a key"


def test_an_idle_connection_to_a_worker_is_closed_before_the_worker_closes_it() -> None:
    from ashore.data.path import Limits

    options = clusters(PLAN)["api_http_here"]["typed_extension_protocol_options"]
    idle = next(iter(options.values()))["common_http_protocol_options"]["idle_timeout"]
    assert float(idle.removesuffix("s")) < Limits().header_read_timeout_s


def test_the_edge_refuses_headers_before_a_worker_would() -> None:
    from ashore.data.http.server import MAX_HEADER_BYTES

    assert http(PLAN)["max_request_headers_kb"] * 1024 < MAX_HEADER_BYTES


def path_of(match: dict[str, Any]) -> str:
    """Return the one path, or the beginning of paths, of a match."""
    return str(match.get("path") or match["path_separated_prefix"])


def routes_of(plan: EdgePlan) -> tuple[list[Any], list[Any]]:
    """Return the routes before and behind the one that asks for a key."""
    routes = http(plan)["route_config"]["virtual_hosts"][0]["routes"]
    asks = next(at for at, one in enumerate(routes) if "direct_response" in one)
    return routes[:asks], routes[asks + 1 :]


@pytest.mark.parametrize("machines", [(), (Machine(host="10.0.0.2", port=8443),)])
def test_what_needs_a_key_and_has_none_reaches_no_worker(machines: tuple[Machine, ...]) -> None:
    from ashore.control.faces.table import ROUTES

    opening, _ = routes_of(replace(PLAN, machines=machines))
    before = [one for one in opening if path_of(one["match"]) != "/console/ask"]
    matches = [one["match"] for one in before]
    paths = {path_of(one) for one in matches}
    assert not any(one.get("path_separated_prefix") == "/" for one in matches), "everything would be open"
    opened = {route.path.partition("/console/")[0] or "/console" for route in ROUTES if route.guard == "open"}
    opened = {"/site/v1" if path.startswith("/site/v1/") else path for path in opened}
    assert paths == opened | {"/grpc.health.v1.Health"}
    chain = {one["name"]: one for one in http(PLAN)["http_filters"]}
    assert chain["longest_body_without_key"]["disabled"] is True
    assert all(list(one["typed_per_filter_config"]) == ["longest_body_without_key"] for one in before)
    long = [one for one in opening if one not in before]
    assert len(long) == 1 and not any("typed_per_filter_config" in one for one in long)
    assert all({"name": "cookie", "present_match": True} in one["match"]["headers"] for one in long)
    routes = http(replace(PLAN, machines=machines))["route_config"]["virtual_hosts"][0]["routes"]
    asks = routes[len(opening)]
    assert asks["direct_response"] == {"status": 401}
    assert {(one["name"], one["invert_match"]) for one in asks["match"]["headers"]} == {
        ("authorization", True), ("x-api-key", True),
    }  # fmt: skip


def test_a_silent_connection_has_less_time_the_fuller_the_edge_is() -> None:
    manager = read(PLAN, "envoy.yaml")["overload_manager"]
    assert manager["resource_monitors"][2]["typed_config"]["filename"] == str(PLAN.fullness)
    action = manager["actions"][0]
    assert action["triggers"][0]["scaled"] == {"scaling_threshold": 0.25, "saturation_threshold": 0.75}
    assert action["typed_config"]["timer_scale_factors"] == [
        {"timer": "HTTP_DOWNSTREAM_CONNECTION_IDLE", "min_timeout": "10s"}
    ]


def test_no_answer_is_cut_by_a_clock_of_the_edge_and_nothing_is_sent_twice_after_it_was_read() -> None:
    before, behind = routes_of(PLAN)
    for route in before + behind:
        assert route["route"]["timeout"] == "0s"
        assert float(route["route"]["idle_timeout"].removesuffix("s")) > PLAN.longest_answer_s
        policy = route["route"]["retry_policy"]
        reads = route["match"].get("headers") == [{"name": ":method", "string_match": {"exact": "GET"}}]
        reset = "reset" if reads else "reset-before-request"
        assert set(policy["retry_on"].split(",")) == {"connect-failure", "refused-stream", reset}
        waits = route["route"]["cluster"] == "api_control"  # one process answers: some seconds, while it starts
        assert policy["num_retries"] == (1 if reads else 16 if waits else 3)


def test_grpc_is_told_from_http_before_anything_else() -> None:
    routes = [one for one in routes_of(PLAN)[1] if one["route"]["cluster"] != "api_control"]
    assert [("grpc" in one["match"], one["route"]["cluster"]) for one in routes] == [
        (True, "api_grpc_here"), (False, "api_http_here"), (False, "api_http_here"), (False, "api_http_here"),
    ]  # fmt: skip
    assert [one["match"]["prefix"] for one in routes] == ["/", "/", "/v1/files", "/"]


def test_what_a_client_claims_about_itself_is_removed_first() -> None:
    mutations = http(PLAN)["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
    removed = {one["remove"] for one in mutations if "remove" in one}
    prefixes = {one["remove_on_match"]["key_matcher"]["prefix"] for one in mutations if "remove_on_match" in one}
    assert {"x-ashore-on-behalf-of", "x-ashore-tenant", "x-forwarded-for", "forwarded", "x-real-ip"} <= removed
    assert {"x-authz-", "x-tenant", "x-envoy-"} <= prefixes
    trusted = http(PLAN)["internal_address_config"]
    assert trusted["unix_sockets"] is False
    assert trusted["cidr_ranges"] == [{"address_prefix": "255.255.255.255", "prefix_len": 32}], "nobody's address"
    behind = http(replace(PLAN, trusted_proxies=1))
    assert behind["xff_num_trusted_hops"] == 1
    kept = behind["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
    assert {"remove": "x-forwarded-for"} not in kept


def test_the_access_log_names_no_header_body_or_query() -> None:
    line = http(PLAN)["access_log"][0]["typed_config"]["log_format"]["text_format_source"]["inline_string"]
    assert "%PATH(NQ:" in line
    assert "QUERY" not in line and "BODY" not in line
    assert [part for part in line.split() if "REQ(" in part] == ["%REQ(X-REQUEST-ID)%", "%REQ(:METHOD)%"]
    assert "access_log" not in http(replace(PLAN, access_log=False))


def test_other_machines_answer_after_the_workers_here_and_pass_nothing_on() -> None:
    plan = replace(PLAN, machines=(Machine(host="10.0.0.2", port=8443),), machines_ca="/ca.pem")
    found = clusters(plan)
    order = found["api_http"]["cluster_type"]["typed_config"]["clusters"]
    assert order == ["api_http_here", "api_http_machines"]
    tls = found["api_http_machines"]["transport_socket"]["typed_config"]
    assert tls["common_tls_context"]["validation_context"] == {"trusted_ca": {"filename": "/ca.pem"}}
    assert tls["auto_sni_san_validation"] is True
    host = http(plan)["route_config"]["virtual_hosts"][0]
    assert host["request_headers_to_add"][0]["header"]["key"] == "x-ashore-hop"
    before, behind = routes_of(plan)
    passed_on = [one for one in behind if "x-ashore-hop" in str(one["match"])]
    assert [one["route"]["cluster"] for one in passed_on] == ["api_grpc_here", "api_http_here"]
    behind = behind[len(CONTROL_PATHS) :]
    assert behind[:2] == passed_on
    assert [one["route"]["cluster"] for one in behind[2:]] == ["api_grpc", *["api_http"] * 3]
    asked = [(path_of(one["match"]), one["route"]["cluster"]) for one in before]
    assert asked[1:3] == [("/healthz", "api_http_here"), ("/healthz", "api_http")]
    assert asked[-2:] == [("/grpc.health.v1.Health", "api_grpc_here"), ("/grpc.health.v1.Health", "api_grpc")]


def test_status_alone_takes_no_worker_out() -> None:
    for name in ("api_http_here", "api_grpc_here"):
        outlier = clusters(PLAN)[name]["outlier_detection"]
        assert outlier["enforcing_consecutive_5xx"] == outlier["enforcing_consecutive_gateway_failure"] == 0
        assert outlier["enforcing_consecutive_local_origin_failure"] == 100


def test_without_tls_there_is_no_certificate() -> None:
    plan = replace(PLAN, tls=None)
    assert plan.files / "secrets.yaml" not in render(plan)
    assert "transport_socket" not in read(plan, "listeners.yaml")["resources"][0]["filter_chains"][0]


def test_every_refusal_of_the_edge_has_the_form_and_the_codes_of_the_api() -> None:
    from ashore.data.http.errors import error_headers, openai_type

    mappers = http(PLAN)["local_reply_config"]["mappers"]
    assert len(mappers) == 2 * len(REPLIES)
    for reply, mapper in zip(REPLIES, mappers[1::2], strict=True):
        body = mapper["body_format_override"]["json_format"]["error"]
        assert (body["code"], mapper["status_code"]) == (reply.kind.code, reply.kind.http_status)
        assert body["type"] == error_type(reply.kind) == openai_type(reply.kind("x"))
        added = {one["header"]["key"]: one["header"]["value"] for one in mapper.get("headers_to_add", ())}
        assert added == {
            name.decode(): value.decode()
            for name, value in error_headers(reply.kind("x"))
            if name in (b"retry-after", b"www-authenticate")
        }


def test_files_are_replaced_whole_and_only_when_they_differ(tmp_path: Path) -> None:
    plan = replace(PLAN, run=tmp_path)
    first = write_files(plan)
    assert [path.name for path in first] == ["secrets.yaml", "clusters.yaml", "listeners.yaml", "envoy.yaml"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in first)
    assert write_files(plan) == ()
    assert [path.name for path in write_files(replace(plan, flood_per_s=7))] == ["listeners.yaml"]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()].count("listeners.yaml") == 1
    assert not list(tmp_path.rglob(".*"))


def test_a_home_too_deep_for_a_socket_is_told_before_anything_starts() -> None:
    with pytest.raises(InvalidSpec, match="too long for a unix socket"):
        plan_edge(
            EdgeSection(), run=Path("/" + "d" * 100), tls=None, num_workers=1, longest_answer_s=1, max_file_bytes=1
        )


def test_envoy_stops_after_the_workers_whose_streams_run_through_it() -> None:
    child = edge_child(PLAN, Path("/bin/envoy"), log=Path("/log"))
    assert child.stage > 0 and child.essential
    drain_s = float(child.argv[child.argv.index("--drain-time-s") + 1])
    assert drain_s > PLAN.longest_answer_s, "a listener that was replaced must not cut its streams"


def test_a_plan_says_why() -> None:
    choices = {
        one.field: one for one in edge_choices(EdgeSection(tls="off"), num_workers=2, cores=4, address="http://a:1")
    }
    assert choices["workers"].value == "2" and "plain text" in choices["tls"].why
    assert choices["threads"].value == "2" and "four cores" in choices["threads"].why


@pytest.mark.parametrize(
    ("asked", "cores", "threads"), [(0, 1, 1), (0, 2, 1), (0, 4, 2), (0, 64, 2), (1, 64, 1), (8, 2, 8)]
)
def test_envoy_has_two_threads_where_there_is_room_and_nobody_wants_otherwise(
    asked: int, cores: int, threads: int
) -> None:
    assert threads_for(asked, cores) == threads


def test_a_branch_office_shows_its_certificate_to_the_centre_and_nobody_can_claim_one(tmp_path: Path) -> None:
    plan = replace(PLAN, clients_ca="/home/a/.ashore/sites/authority.pem")
    chain = read(plan, "listeners.yaml")["resources"][0]["filter_chains"][0]
    tls = chain["transport_socket"]["typed_config"]
    assert tls["common_tls_context"]["validation_context"] == {"trusted_ca": {"filename": plan.clients_ca}}
    assert "require_client_certificate" not in tls, "people have none"
    told = [one for one in routes_of(plan)[0] if "request_headers_to_add" in one]
    assert [path_of(one["match"]) for one in told] == ["/site/v1"]
    (header,) = told[0]["request_headers_to_add"]
    assert header["header"] == {"key": CLIENT, "value": "%DOWNSTREAM_PEER_FINGERPRINT_256%"}
    early = http(plan)["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
    prefixes = {one["remove_on_match"]["key_matcher"]["prefix"] for one in early if "remove_on_match" in one}
    assert any(CLIENT.startswith(one) for one in prefixes)
    assert not any("request_headers_to_add" in one for one in routes_of(PLAN)[0])
