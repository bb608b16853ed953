"""The listener: TLS, HTTP/1.1 and HTTP/2, removed headers, refusals, and routes."""

from __future__ import annotations

from typing import Final

from ashore.core import CONTROL_PATHS, is_for_control
from ashore.core.yaml import Tree, Why
from ashore.edge.clusters import AGAIN_BYTES, BUFFER_BYTES, CONTROL, GRPC, HOP, HTTP, LOCAL, first_choice
from ashore.edge.model import EdgePlan
from ashore.edge.replies import local_replies

TYPE: Final = "type.googleapis.com/envoy."
CERTIFICATE: Final = "edge_certificate"
"""Name of the secret."""
STRIPPED: Final = ("x-ashore-on-behalf-of", "x-ashore-tenant", "x-real-ip", "forwarded", "via")
"""Headers by which a client could fake an identity or an origin."""
STRIPPED_PREFIXES: Final = ("x-authz-", "x-tenant", "x-envoy-", "x-ashore-internal-")

WIDE: Final = "longest_file"
NARROW: Final = "longest_body"
SHORT: Final = "longest_body_without_key"
"""Names of the limits on bodies; uploads of files are held by the first alone, what needs no key by all three."""

HEADERS_KIB: Final = 32
"""Below the 64 KiB that a worker takes, so that the edge refuses first. Nobody has a key before the head is whole, and
Envoy keeps what has come of it: with 60 KiB, a thousand heads that do not end took 70 MiB."""
MAX_HEADERS: Final = 100
HEADERS_TIMEOUT_S: Final = 10
REQUEST_TIMEOUT_S: Final = 600
FIRST_BYTE_IDLE_S: Final = 60
FLUSH_S: Final = 10
"""How long a complete answer may wait for a client that does not read."""
MAX_STREAMS: Final = 128
"""Requests at once on one connection of HTTP/2."""
OPEN_BODY_BYTES: Final = 65_536
"""Body limit of a request that needs no key."""
OPEN_PATHS: Final = ("/healthz", "/", "/docs", "/health", "/ping", "/readyz", "/console", "/grpc.health.v1.Health")
"""What a worker answers without a key; the console asks for its cookie. Everything else is refused here."""
ASK_PATH: Final = "/console/ask"
"""The page Chat sends a whole conversation here, so with a cookie the body may be as long as with a key: the worker
looks at the session before it reads any of it. Without a cookie it is as the rest of /console."""
KEY_HEADERS: Final = ("authorization", "x-api-key")
TLS_HANDSHAKE_S: Final = 10
AGAIN: Final = (
    "Only while no byte of the request has reached a worker. After that nobody knows whether it took effect,\n"
    "and a second generation, or a second job, is worse than an error that says so."
)
READ_AGAIN: Final = (
    "What only reads has no effect: another worker answers it where the first ended before its answer began,\n"
    "but once, so that a request that ends workers ends no more than two."
)

ACCESS_LINE: Final = (
    "%START_TIME% %REQ(X-REQUEST-ID)% %REQ(:METHOD)% %PATH(NQ:PATH:200)% %PROTOCOL% %RESPONSE_CODE% "
    "%RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION%ms %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\n"
)
"""No header but the request id, no body, no query string."""


def listener(plan: EdgePlan) -> dict[str, Tree]:
    """Return the listener."""
    chain: dict[str, Tree] = {
        "transport_socket_connect_timeout": f"{TLS_HANDSHAKE_S}s",
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": _connections(plan)}],
    }
    if plan.tls is not None:
        chain["transport_socket"] = _tls(plan)
    return {
        "name": "edge",
        "address": {"socket_address": {"address": plan.host, "port_value": plan.port}},
        "enable_reuse_port": Why("A second server on this port must fail, not share it.", False),
        "tcp_backlog_size": 1024,
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "filter_chains": [chain],
    }


def _tls(plan: EdgePlan) -> Tree:
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": TYPE + "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "tls_certificate_sds_secret_configs": [
                    {
                        "name": CERTIFICATE,
                        "sds_config": {
                            "path_config_source": {"path": str(plan.files / "secrets.yaml")},
                            "resource_api_version": "V3",
                        },
                    }
                ],
            },
        },
    }


def _connections(plan: EdgePlan) -> dict[str, Tree]:
    return {
        "@type": TYPE + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        "codec_type": "AUTO",
        "server_name": "ashore",
        # identity of the client
        "use_remote_address": True,
        "xff_num_trusted_hops": plan.trusted_proxies,
        "internal_address_config": Why(
            "No client is trusted for its address. Without a range Envoy would trust private networks.",
            {"unix_sockets": False, "cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]},
        ),
        "early_header_mutation_extensions": [_strip(plan)],
        "preserve_external_request_id": True,
        # valid requests
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": Why(
            "The name of a model may hold a slash, and clients escape it. Nothing is decided by path here.",
            "KEEP_UNCHANGED",
        ),
        "strip_trailing_host_dot": True,
        "max_request_headers_kb": HEADERS_KIB,
        "common_http_protocol_options": {
            "idle_timeout": Why(
                "Whoever sends requests should close first: one may be on its way when the edge does. Clients and\n"
                "proxies keep an idle connection for less; the longest known is Google's load balancer with 600 s.",
                f"{plan.connection_idle_s:g}s",
            ),
            "max_headers_count": MAX_HEADERS,
            "headers_with_underscores_action": Why(
                "A worker may read x_tenant as x-tenant; such a header never gets there.", "DROP_HEADER"
            ),
        },
        "http2_protocol_options": {
            "max_concurrent_streams": MAX_STREAMS,
            "initial_stream_window_size": 262_144,
            "initial_connection_window_size": 1_048_576,
            "connection_keepalive": {"interval": "30s", "timeout": "10s"},
            "override_stream_error_on_invalid_http_message": True,
        },
        # time-outs
        "request_headers_timeout": Why("A client that sends its headers byte by byte.", f"{HEADERS_TIMEOUT_S}s"),
        "request_timeout": Why("The whole request, body included.", f"{REQUEST_TIMEOUT_S}s"),
        "stream_idle_timeout": Why("Until the route is known; the routes have their own.", f"{FIRST_BYTE_IDLE_S}s"),
        "stream_flush_timeout": Why("A client that reads none of the end of its answer.", f"{FLUSH_S}s"),
        "drain_timeout": "5s",
        "delayed_close_timeout": "1s",
        # access log and local replies
        **({"access_log": [_access_log()]} if plan.access_log else {}),
        "local_reply_config": local_replies(),
        "http_filters": [
            _flood_guard(plan),
            _body_limit(WIDE, max(plan.max_file_bytes, plan.max_body_bytes)),
            _body_limit(NARROW, plan.max_body_bytes),
            {**_body_limit(SHORT, OPEN_BODY_BYTES), "disabled": True},
            _router(),
        ],
        "route_config": _routes(plan),
    }


def _strip(plan: EdgePlan) -> Tree:
    names = list(STRIPPED) + ([] if plan.trusted_proxies else ["x-forwarded-for", "x-forwarded-proto"])
    return Why(
        "Before anything looks at them: identity and origin that a client claims.",
        {
            "name": "envoy.http.early_header_mutation.header_mutation",
            "typed_config": {
                "@type": TYPE + "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                "mutations": [
                    *({"remove": name} for name in names),
                    *(
                        {"remove_on_match": {"key_matcher": {"prefix": p, "ignore_case": True}}}
                        for p in STRIPPED_PREFIXES
                    ),
                ],
            },
        },
    )


def _access_log() -> Tree:
    return {
        "name": "envoy.access_loggers.stdout",
        "typed_config": {
            "@type": TYPE + "extensions.access_loggers.stream.v3.StdoutAccessLog",
            "log_format": {"text_format_source": {"inline_string": ACCESS_LINE}},
        },
    }


def _flood_guard(plan: EdgePlan) -> Tree:
    always: Tree = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return {
        "name": "envoy.filters.http.local_ratelimit",
        "typed_config": {
            "@type": TYPE + "extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "flood",
            "token_bucket": {
                "max_tokens": plan.flood_per_s,
                "tokens_per_fill": max(1, plan.flood_per_s // 10),
                "fill_interval": f"{max(1, plan.flood_per_s // 10) / plan.flood_per_s:.6f}s",
            },
            "filter_enabled": always,
            "filter_enforced": always,
            "rate_limited_as_resource_exhausted": True,
        },
    }


def _body_limit(name: str, max_bytes: int) -> dict[str, Tree]:
    return {
        "name": name,
        "typed_config": {
            "@type": TYPE + "extensions.filters.http.body_size_limit.v3.BodySizeLimit",
            "max_request_bytes": max_bytes,
        },
    }


def _router() -> Tree:
    return {
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": TYPE + "extensions.filters.http.router.v3.Router",
            "suppress_envoy_headers": True,
            "dynamic_stats": False,
        },
    }


def _routes(plan: EdgePlan) -> Tree:
    from_edge: list[Tree] = [{"name": HOP, "present_match": True}]
    files: Tree = {NARROW: {"@type": TYPE + "config.route.v3.FilterConfig", "disabled": True}}
    routes: list[Tree] = [
        *_open_routes(plan, from_edge),
        Why(
            "Without a key: refused before a worker is asked, and before a byte of the body is read.",
            {
                "match": {
                    "prefix": "/",
                    "headers": [{"name": name, "present_match": True, "invert_match": True} for name in KEY_HEADERS],
                },
                "direct_response": {"status": 401},
            },
        ),
    ]
    routes += [{"match": {"path_separated_prefix": path}, "route": _action(CONTROL, plan)} for path in CONTROL_PATHS]
    if plan.machines:
        routes += [
            Why(
                "Passed on by the edge of another machine: answered here or not at all.",
                {"match": {"prefix": "/", "grpc": {}, "headers": from_edge}, "route": _action(GRPC + LOCAL, plan)},
            ),
            {"match": {"prefix": "/", "headers": from_edge}, "route": _action(HTTP + LOCAL, plan)},
        ]
    routes += [
        {"match": {"prefix": "/", "grpc": {}}, "route": _action(first_choice(GRPC, plan), plan)},
        {
            "match": {"prefix": "/", "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]},
            "route": _action(first_choice(HTTP, plan), plan, reads=True),
        },
        {
            "match": {"prefix": "/v1/files"},
            "route": _action(first_choice(HTTP, plan), plan),
            "typed_per_filter_config": files,
        },
        {"match": {"prefix": "/"}, "route": _action(first_choice(HTTP, plan), plan)},
    ]
    host: dict[str, Tree] = {
        "name": "edge",
        "domains": ["*"],
        "request_body_buffer_limit": Why("Of a body that may be sent to a second worker.", AGAIN_BYTES),
        "routes": routes,
    }
    if plan.machines:
        host["request_headers_to_add"] = [
            {"header": {"key": HOP, "value": "1"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        ]
    return {"name": "edge", "virtual_hosts": [host]}


def _open_routes(plan: EdgePlan, from_edge: list[Tree]) -> list[Tree]:
    """Routes that need no key. For the health check of another machine's edge they count local workers only."""
    short: Tree = {SHORT: {"@type": TYPE + "config.route.v3.FilterConfig", "config": {}}}
    with_cookie: list[Tree] = [{"name": "cookie", "present_match": True}]
    asks: dict[str, Tree] = {"path": ASK_PATH, "headers": with_cookie}
    routes: list[Tree] = []
    for match, kind in ((asks, CONTROL), *((_open_match(path), _kind(path)) for path in OPEN_PATHS)):
        limits: dict[str, Tree] = {} if match is asks else {"typed_per_filter_config": short}
        if plan.machines and kind != CONTROL:
            routes.append({"match": {**match, "headers": from_edge}, "route": _action(kind + LOCAL, plan), **limits})
        cluster = CONTROL if kind == CONTROL else first_choice(kind, plan)
        routes.append({"match": match, "route": _action(cluster, plan), **limits})
    return routes


def _open_match(path: str) -> dict[str, Tree]:
    return {"path": path} if path == "/" else {"path_separated_prefix": path}


def _kind(path: str) -> str:
    return GRPC if path.startswith("/grpc.") else CONTROL if is_for_control(path) else HTTP


def _action(cluster: str, plan: EdgePlan, *, reads: bool = False) -> Tree:
    return {
        "cluster": cluster,
        "timeout": Why("An answer may take its time; the worker holds the deadline of each request.", "0s"),
        "idle_timeout": Why(
            "Nothing moves: a request that waits for its turn is silent too.", f"{plan.longest_answer_s + 30:.0f}s"
        ),
        "retry_policy": Why(
            READ_AGAIN if reads else AGAIN,
            {
                "retry_on": f"connect-failure,refused-stream,{'reset' if reads else 'reset-before-request'}",
                "num_retries": 1 if reads else 3,
                "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
                "retry_host_predicate": [
                    {
                        "name": "envoy.retry_host_predicates.previous_hosts",
                        "typed_config": {
                            "@type": TYPE + "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                        },
                    }
                ],
                "host_selection_retry_max_attempts": Why(
                    "Each is a draw among all workers; of two, three draws gave the one before again now and then.", 16
                ),
            },
        ),
    }
