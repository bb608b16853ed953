"""Upstreams of the edge: the API workers of this machine, then the edges of other machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ashore.core.yaml import Tree, Why
from ashore.edge.model import EdgePlan, Machine

HTTP: Final = "api_http"
GRPC: Final = "api_grpc"
LOCAL: Final = "_here"
"""Suffix of the cluster that holds this machine's workers alone."""
REMOTE: Final = "_machines"
CONTROL: Final = "api_control"
"""The cluster of this machine's control process."""

HOP: Final = "x-ashore-hop"
"""Set by an edge on forwarded requests: another machine's edge answers or refuses it, and does not forward it again."""

UPSTREAM_IDLE_S: Final = 5
"""Shorter than a worker's `header_read_timeout_s` (10 s), after which it closes an idle connection."""
HEALTH_INTERVAL_S: Final = 1
MAX_RETRIES: Final = 64
BUFFER_BYTES: Final = 32_768
"""Held for a connection at each end. 400 clients that send bodies with a wrong key cost Envoy 43 MiB so, and 64 with
twice as much."""
AGAIN_BYTES: Final = 65_536
"""Of a body that may be sent to a second worker; held beyond the buffer where one is tried again."""


def clusters(plan: EdgePlan) -> list[dict[str, Tree]]:
    """Return every cluster that a route names, or named before a reload: open connections keep their old routes."""
    found = []
    for name, sockets, is_grpc in (
        (HTTP, [worker.http for worker in plan.workers], False),
        (GRPC, [worker.grpc for worker in plan.workers], True),
    ):
        found.append(_here(name + LOCAL, sockets, plan, grpc=is_grpc))
        if plan.machines:
            found.append(_remote(name + REMOTE, plan, grpc=is_grpc))
        found.append(_in_order(name, [name + LOCAL, *([name + REMOTE] if plan.machines else [])]))
    found.append(_here(CONTROL, [plan.control], plan, grpc=False, health="/healthz"))
    return found


def first_choice(name: str, plan: EdgePlan) -> str:
    """Return the cluster for a client's request: this machine's workers, then other machines if there are any."""
    return name if plan.machines else name + LOCAL


def _here(name: str, sockets: Sequence[str], plan: EdgePlan, *, grpc: bool, health: str = "/readyz") -> dict[str, Tree]:
    return {
        **_common(name, [{"pipe": {"path": path}} for path in sockets], plan, grpc=grpc, health=health),
        "type": "STATIC",
    }


def _remote(name: str, plan: EdgePlan, *, grpc: bool) -> dict[str, Tree]:
    addresses: list[Tree] = [_socket_address(machine) for machine in plan.machines]
    cluster: dict[str, Tree] = {
        **_common(name, addresses, plan, grpc=grpc),
        "type": "STRICT_DNS",
        "dns_lookup_family": "ALL",
    }
    if plan.tls is not None:
        trusted = plan.machines_ca or "/etc/ssl/certs/ca-certificates.crt"
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "auto_host_sni": True,
                "auto_sni_san_validation": True,
                "common_tls_context": {
                    "alpn_protocols": ["h2" if grpc else "http/1.1"],
                    "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                    "validation_context": {"trusted_ca": {"filename": trusted}},
                },
            },
        }
    return cluster


def _in_order(name: str, members: Sequence[str]) -> dict[str, Tree]:
    """An aggregate cluster: the next one gets requests when the previous one has no healthy host."""
    return {
        "name": name,
        "connect_timeout": "1s",
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": {
            "name": "envoy.clusters.aggregate",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig",
                "clusters": list(members),
            },
        },
    }


def _common(
    name: str, addresses: Sequence[Tree], plan: EdgePlan, *, grpc: bool, health: str = "/readyz"
) -> dict[str, Tree]:
    return {
        "name": name,
        "connect_timeout": "1s",
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "lb_policy": "LEAST_REQUEST",
        "common_lb_config": {
            "healthy_panic_threshold": Why(
                "While one worker is well, only those that are well get requests. When none is (a model loads), all\n"
                "get them, because a worker says better than the edge what is missing.",
                {"value": 1},
            ),
            "update_merge_window": Why(
                "A worker that is well, or no longer, counts at once. By default changes within a second are\n"
                "collected, and the second worker of a start, or one that comes back, gets nothing until it is over.",
                "0s",
            ),
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {
                    "idle_timeout": Why(
                        "A worker closes an idle connection after 10 s. The edge closes it before that, so that no\n"
                        "request is sent into a closing connection.",
                        f"{UPSTREAM_IDLE_S if not grpc else 3600}s",
                    )
                },
                "explicit_http_config": {"http2_protocol_options": _http2()} if grpc else {"http_protocol_options": {}},
            }
        },
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": plan.max_connections,
                    "max_pending_requests": plan.max_connections,
                    "max_requests": plan.max_connections,
                    "max_retries": MAX_RETRIES,
                }
            ]
        },
        "outlier_detection": Why(
            "Only what the network tells (no connection, broken connections) takes a worker out. Status 5xx does not:\n"
            "a worker answers 503 for a model that is full, and the next worker would say the same.",
            {
                "split_external_local_origin_errors": True,
                "consecutive_local_origin_failure": 3,
                "enforcing_consecutive_local_origin_failure": 100,
                "enforcing_local_origin_success_rate": 0,
                "enforcing_consecutive_5xx": 0,
                "enforcing_consecutive_gateway_failure": 0,
                "enforcing_success_rate": 0,
                "interval": "1s",
                "base_ejection_time": "1s",
                "max_ejection_time": "10s",
                "max_ejection_percent": 50,
            },
        ),
        "health_checks": [
            {
                "timeout": "2s",
                "interval": f"{HEALTH_INTERVAL_S}s",
                "no_traffic_interval": f"{HEALTH_INTERVAL_S}s",
                "unhealthy_interval": "0.25s",
                "interval_jitter": "0.1s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                **_health_check(health, grpc=grpc),
            }
        ],
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}} for address in addresses]}],
        },
    }


def _health_check(path: str, *, grpc: bool) -> dict[str, Tree]:
    """Health check of a process. Another machine's edge is checked for its own workers, hence the hop header."""
    mark: Tree = [{"header": {"key": HOP, "value": "1"}}]
    if grpc:
        return {"grpc_health_check": {"initial_metadata": mark}}
    return {"http_health_check": {"host": "edge", "path": path, "request_headers_to_add": mark}}


def _http2() -> dict[str, Tree]:
    return {
        "max_concurrent_streams": 1000,
        "initial_stream_window_size": 262_144,
        "initial_connection_window_size": 1_048_576,
    }


def _socket_address(machine: Machine) -> Tree:
    return {"socket_address": {"address": machine.host, "port_value": machine.port}}
