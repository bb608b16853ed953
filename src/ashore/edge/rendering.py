"""Envoy's files: a bootstrap, and three watched files that it reloads when they are replaced."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ashore.core.yaml import Tree, Why, write_yaml
from ashore.edge.clusters import clusters
from ashore.edge.listener import CERTIFICATE, TYPE, listener
from ashore.edge.model import EdgePlan

HEAP_BYTES: Final = 1 << 30
PREMATURE_OF: Final = 500
"""Requests of a connection after which those that were reset at once are counted."""
IDLE_WHEN_FULL_S: Final = 10
"""How long a connection without a request stays open when the edge is full."""
FILLING: Final = 0.25
FULL: Final = 0.75
"""Shares of its connections between which the edge shortens that time, from `connection_idle_s` on."""
KEPT_STATS: Final = (
    "cluster.api_",
    "http.edge.downstream_cx_",
    "http.edge.downstream_rq_",
    "http_local_rate_limiter.",
    "listener_manager.",
    "overload.",
    "server.",
)
"""Prefixes of the counters that are kept; others cost memory and are not read."""


def render(plan: EdgePlan) -> Mapping[Path, str]:
    """Return the text of every file, by path. They contain no secrets: the key is referenced by its file."""
    files = {
        plan.bootstrap: write_yaml(
            bootstrap(plan), head="Envoy's bootstrap, written by ashore. Changes here are lost."
        ),
        plan.files / "clusters.yaml": write_yaml(
            resources("config.cluster.v3.Cluster", *clusters(plan)), head="Who answers."
        ),
        plan.files / "listeners.yaml": write_yaml(
            resources("config.listener.v3.Listener", listener(plan)), head="The port, and what it lets through."
        ),
    }
    if plan.tls is not None:
        files[plan.files / "secrets.yaml"] = write_yaml(
            resources("extensions.transport_sockets.tls.v3.Secret", secret(plan)),
            head="What the edge shows to clients.",
        )
    return files


def bootstrap(plan: EdgePlan) -> dict[str, Tree]:
    """Return the bootstrap, which Envoy reads once at its start."""
    return {
        "node": {"id": "edge", "cluster": "ashore"},
        "admin": Why(
            "Administration is on a socket of its owner alone.",
            {"address": {"pipe": {"path": str(plan.admin_socket), "mode": 0o600}}},
        ),
        "dynamic_resources": Why(
            "Watched: a file that is moved over one of these is taken at once.",
            {"lds_config": _watched(plan, "listeners.yaml"), "cds_config": _watched(plan, "clusters.yaml")},
        ),
        "stats_config": {
            "use_all_default_tags": False,
            "stats_matcher": {"inclusion_list": {"patterns": [{"prefix": prefix} for prefix in KEPT_STATS]}},
        },
        "stats_flush_interval": "60s",
        "layered_runtime": Why(
            "A client that resets half of its first requests of a connection within their first second loses it.",
            {
                "layers": [
                    {
                        "name": "static",
                        "static_layer": {
                            "overload.premature_reset_total_stream_count": PREMATURE_OF,
                            "overload.premature_reset_min_stream_lifetime_seconds": 1,
                        },
                    }
                ]
            },
        ),
        "overload_manager": {
            "refresh_interval": "0.25s",
            "resource_monitors": [
                _monitor(
                    "envoy.resource_monitors.fixed_heap",
                    "fixed_heap.v3.FixedHeapConfig",
                    max_heap_size_bytes=HEAP_BYTES,
                ),
                _monitor(
                    "envoy.resource_monitors.global_downstream_max_connections",
                    "downstream_connections.v3.DownstreamConnectionsConfig",
                    max_active_downstream_connections=plan.max_connections,
                ),
                _monitor(
                    "envoy.resource_monitors.injected_resource",
                    "injected_resource.v3.InjectedResourceConfig",
                    filename=str(plan.fullness),
                ),
            ],
            "actions": [
                {
                    "name": "envoy.overload_actions.reduce_timeouts",
                    "triggers": [
                        {
                            "name": "envoy.resource_monitors.injected_resource",
                            "scaled": {"scaling_threshold": FILLING, "saturation_threshold": FULL},
                        }
                    ],
                    "typed_config": {
                        "@type": TYPE + "config.overload.v3.ScaleTimersOverloadActionConfig",
                        "timer_scale_factors": [
                            {"timer": "HTTP_DOWNSTREAM_CONNECTION_IDLE", "min_timeout": f"{IDLE_WHEN_FULL_S}s"}
                        ],
                    },
                },
                _action("envoy.overload_actions.shrink_heap", 0.85),
                _action("envoy.overload_actions.disable_http_keepalive", 0.9),
                _action("envoy.overload_actions.stop_accepting_requests", 0.95),
                _action("envoy.overload_actions.stop_accepting_connections", 0.98),
            ],
        },
    }


def resources(kind: str, *found: Mapping[str, Tree]) -> dict[str, Tree]:
    """Return a discovery response, the format of watched files."""
    return {"resources": [{"@type": TYPE + kind, **one} for one in found]}


def secret(plan: EdgePlan) -> dict[str, Tree]:
    """Return the certificate, and the key by its file. The chain is inlined, so that a new one changes the file."""
    assert plan.tls is not None
    return {
        "name": CERTIFICATE,
        "tls_certificate": {
            "certificate_chain": {"inline_string": plan.tls.certificate_pem},
            "private_key": {"filename": plan.tls.key_file},
        },
    }


def _watched(plan: EdgePlan, name: str) -> Tree:
    return {"path_config_source": {"path": str(plan.files / name)}, "resource_api_version": "V3"}


def _monitor(name: str, kind: str, **limits: Tree) -> Tree:
    config: dict[str, Tree] = {"@type": f"{TYPE}extensions.resource_monitors.{kind}", **limits}
    return {"name": name, "typed_config": config}


def _action(name: str, threshold: float) -> Tree:
    trigger: Tree = {"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": threshold}}
    return {"name": name, "triggers": [trigger]}
