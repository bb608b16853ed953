"""Envoy's files: a bootstrap, and three watched files that it reloads when they are replaced.

Their text is in the templates of `envoy/`, with what each value is for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ashore.kit.call import CLIENT, CONTROL_PATHS, is_for_control
from ashore.kit.yaml import write_yaml
from ashore.machine.edge.model import EdgePlan
from ashore.machine.edge.replies import local_replies

HTTP: Final = "api_http"
GRPC: Final = "api_grpc"
LOCAL: Final = "_here"
"""Suffix of the cluster that holds this machine's workers alone."""
REMOTE: Final = "_machines"
CONTROL: Final = "api_control"
"""The cluster of this machine's control process."""
HOP: Final = "x-ashore-hop"
"""Set by an edge on forwarded requests: another machine's edge answers or refuses it, and does not forward it again."""
SITES: Final = "/site/v1"
"""What branch offices read of a centre. They show certificates in place of keys."""
OPEN_PATHS: Final = (
    "/healthz", "/", "/docs", "/health", "/ping", "/readyz", "/console", SITES, "/grpc.health.v1.Health",
)  # fmt: skip
"""What a worker answers without a key; the console asks for its cookie. Everything else is refused here."""
ASK_PATH: Final = "/console/ask"
"""The page Chat sends a whole conversation here, and keeps it below, so with a cookie the body may be as long as with a
key: the worker looks at the session before it reads any of it. Without a cookie it is as the rest of /console."""
KEY_HEADERS: Final = ("authorization", "x-api-key")
UPSTREAM_IDLE_S: Final = 5
"""Shorter than a worker's `header_read_timeout_s` (10 s), after which it closes an idle connection."""
BUFFER_BYTES: Final = 32_768
"""Held for a connection at each end. 400 clients that send bodies with a wrong key cost Envoy 43 MiB so, and 64 with
twice as much."""
ACCESS_LINE: Final = (
    "%START_TIME% %REQ(X-REQUEST-ID)% %REQ(:METHOD)% %PATH(NQ:PATH:200)% %PROTOCOL% %RESPONSE_CODE% "
    "%RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION%ms %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeRoute:
    """One route; the first that matches counts."""

    match: dict[str, Any]
    """As Envoy has it."""
    cluster: str = ""
    """Empty: it is refused."""
    short: bool = False
    """Whether its body is limited as that of a request without a key."""
    files: bool = False
    """Whether files are uploaded, with a limit of their own."""
    shows_client: bool = False
    """Whether the process behind gets the SHA-256 of the client's certificate."""
    reads: bool = False
    """Whether it has no effect, so that another process may be asked again."""
    why: str = ""


def routes_of(plan: EdgePlan) -> Iterator[EdgeRoute]:
    """Yield the routes in their order."""

    def first(name: str) -> str:
        """Return the cluster for a client's request: this machine's workers, then other machines if there are any."""
        return name if plan.machines or name == CONTROL else name + LOCAL

    from_edge = [{"name": HOP, "present_match": True}]
    of_browser = [{"name": "cookie", "present_match": True}]
    yield EdgeRoute(match={"path_separated_prefix": ASK_PATH, "headers": of_browser}, cluster=CONTROL)
    for path in OPEN_PATHS:
        match = {"path": path} if path == "/" else {"path_separated_prefix": path}
        kind = GRPC if path.startswith("/grpc.") else CONTROL if is_for_control(path) else HTTP
        if plan.machines and kind != CONTROL:  # the health check of another machine counts local workers only
            yield EdgeRoute(match={**match, "headers": from_edge}, cluster=kind + LOCAL, short=True)
        yield EdgeRoute(
            match=match, cluster=first(kind), short=True, shows_client=path == SITES and bool(plan.clients_ca)
        )
    no_key = [{"name": name, "present_match": True, "invert_match": True} for name in KEY_HEADERS]
    yield EdgeRoute(
        match={"prefix": "/", "headers": no_key},
        why="Without a key: refused before a worker is asked, and before a byte of the body is read.",
    )
    for path in CONTROL_PATHS:
        yield EdgeRoute(match={"path_separated_prefix": path}, cluster=CONTROL)
    if plan.machines:
        why = "Passed on by the edge of another machine: answered here or not at all."
        yield EdgeRoute(match={"prefix": "/", "grpc": {}, "headers": from_edge}, cluster=GRPC + LOCAL, why=why)
        yield EdgeRoute(match={"prefix": "/", "headers": from_edge}, cluster=HTTP + LOCAL)
    yield EdgeRoute(match={"prefix": "/", "grpc": {}}, cluster=first(GRPC))
    gets = [{"name": ":method", "string_match": {"exact": "GET"}}]
    yield EdgeRoute(match={"prefix": "/", "headers": gets}, cluster=first(HTTP), reads=True)
    yield EdgeRoute(match={"prefix": "/v1/files"}, cluster=first(HTTP), files=True)
    yield EdgeRoute(match={"prefix": "/"}, cluster=first(HTTP))


def render(plan: EdgePlan) -> Mapping[Path, str]:
    """Return the text of every file, by path. They contain no secrets: the key is referenced by its file."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("envoy")), undefined=StrictUndefined, autoescape=False,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    made.filters["q"] = _quoted
    names = {
        "plan": plan, "routes": list(routes_of(plan)), "replies": write_yaml(local_replies()), "hop": HOP,
        "client": CLIENT, "http": HTTP, "grpc": GRPC, "control": CONTROL, "local": LOCAL, "remote_machines": REMOTE,
        "upstream_idle_s": UPSTREAM_IDLE_S, "buffer_bytes": BUFFER_BYTES, "access_line": ACCESS_LINE,
    }  # fmt: skip
    watched = ("clusters.yaml", "listeners.yaml", *(("secrets.yaml",) if plan.tls else ()))
    files = {plan.bootstrap: "bootstrap.yaml"} | {plan.files / name: name for name in watched}
    return {path: made.get_template(name).render(names) for path, name in files.items()}


def _quoted(value: Any) -> str:
    """Return a value as JSON, which is YAML."""
    if isinstance(value, Path):
        value = str(value)
    return json.dumps(value, ensure_ascii=False)
