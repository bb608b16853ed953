"""Turns `[edge]` into Envoy's files.

Envoy's files: a bootstrap, and three watched files that it reloads when they are replaced.

Their text is in the templates of `envoy/`, with what each value is for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ashore.core.errors import InvalidSpec
from ashore.kit.call import CLIENT, CONTROL_PATHS, is_for_control
from ashore.kit.folders import make_folder
from ashore.kit.processes import get_from
from ashore.kit.wholefile import write_whole
from ashore.kit.yaml import write_yaml
from ashore.machine.edge.certificate import check_files, keep_certificate, names_for
from ashore.machine.edge.model import EdgePlan, Machine, Tls, WorkerSockets
from ashore.machine.edge.replies import local_replies
from ashore.machine.edge.section import EdgeSection

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
OPEN_CONNECTIONS: Final = "http.edge.downstream_cx_active"
"""Envoy's name for the resource."""
CONTROL_SOCKET: Final = "control.sock"
"""Name of the control process's socket in the folder of sockets."""
MAX_SOCKET_PATH: Final = 107
"""unix(7), `sun_path` without its closing zero."""


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


def plan_edge(
    spec: EdgeSection,
    *,
    run: Path,
    tls: Tls | None,
    num_workers: int,
    longest_answer_s: float,
    max_file_bytes: int,
    clients_ca: Path | None = None,
) -> EdgePlan:
    """Return the edge for `spec`, with `num_workers` API workers behind it. No side effects.

    Raises:
        InvalidSpec: the home's path is too long for a unix socket in it.
    """
    plan = EdgePlan(
        run=run,
        host=spec.host,
        port=spec.port,
        tls=tls,
        workers=tuple(worker_sockets(run, index) for index in range(num_workers)),
        control=str(run / CONTROL_SOCKET),
        machines=tuple(_machine(text) for text in spec.machines),
        machines_ca=spec.machines_ca,
        clients_ca=str(clients_ca) if clients_ca is not None and clients_ca.exists() else "",
        max_body_bytes=spec.max_body_bytes,
        max_file_bytes=max_file_bytes,
        flood_per_s=spec.flood_per_s,
        longest_answer_s=longest_answer_s,
        access_log=spec.access_log,
        trusted_proxies=spec.trusted_proxies,
    )
    longest = max([str(plan.admin_socket), plan.control, *(worker.grpc for worker in plan.workers)], key=len)
    if len(os.fsencode(longest)) > MAX_SOCKET_PATH:
        raise InvalidSpec(
            f"the path {longest} is too long for a unix socket ({MAX_SOCKET_PATH} bytes)",
            hint="move the home to a shorter path with ASHORE_HOME",
        )
    return plan


def worker_sockets(run: Path, index: int) -> WorkerSockets:
    """Return the listeners of API worker `index` behind an edge."""
    return WorkerSockets(http=str(run / f"api-{index}.sock"), grpc=str(run / f"grpc-{index}.sock"))


def keep_tls(spec: EdgeSection, folder: Path, *, now_s: float) -> tuple[Tls | None, str]:
    """Return the edge's certificate, and why one was just created, if so.

    Called at the start, at a reload and periodically; a valid one is not changed.

    Raises:
        InvalidSpec: the operator's own files are wrong.
        MissingExtra: the package for certificates is not installed.
    """
    now = datetime.fromtimestamp(now_s, UTC)
    match spec.tls:
        case "off":
            return None, ""
        case "files":
            chain = check_files(Path(spec.certificate), Path(spec.key), now)
            return Tls(certificate_pem=chain, key_file=str(Path(spec.key).absolute())), ""
        case "generate":
            made = keep_certificate(folder, names_for(spec.host, spec.names), now)
            return Tls(certificate_pem=made.chain_pem, key_file=str(made.key_file)), made.made


def write_files(plan: EdgePlan) -> tuple[Path, ...]:
    """Write Envoy's files, and return those that changed; each is replaced atomically. May be called again.

    Envoy reloads watched files immediately, so they are written in this order: certificate, clusters, listener.
    """
    make_folder(plan.files, mode=0o700)
    if not plan.fullness.exists():
        tell_fullness(plan, 0.0)
    rendered = render(plan)
    order = ("secrets.yaml", "clusters.yaml", "listeners.yaml", plan.bootstrap.name)
    changed = []
    for path in sorted(rendered, key=lambda path: order.index(path.name)):
        text = rendered[path].encode()
        if path.exists() and path.read_bytes() == text:
            continue
        write_whole(path, text, durable=False)
        changed.append(path)
    return tuple(changed)


def read_fullness(plan: EdgePlan) -> float:
    """Return the share of Envoy's connections that are open; 0 if it does not answer."""
    page = get_from(plan.admin_socket, f"/stats?filter=^{OPEN_CONNECTIONS}$") or b""
    return int(page.decode().rpartition(": ")[2].strip() or 0) / plan.max_connections


def tell_fullness(plan: EdgePlan, share: float) -> None:
    """Report the share of open connections to Envoy, in a file that it reads. May be called again.

    Envoy counts them itself, but does not adapt time-outs to that count.
    """
    scratch = plan.fullness.with_name(f".{plan.fullness.name}.{os.getpid()}")
    scratch.write_text(f"{min(1.0, max(0.0, share)):.3f}")
    scratch.replace(plan.fullness)


def show_files(plan: EdgePlan, *, only: str = "") -> str:
    """Return all files as one YAML stream for people; with `only`, that file unchanged."""
    rendered = render(plan)
    if only:
        return next(text for path, text in rendered.items() if path.stem == only)
    return "\n".join(f"--- # {path}\n{text}" for path, text in rendered.items())


def _machine(text: str) -> Machine:
    host, _, port = text.rpartition(":")
    return Machine(host=host.strip("[]"), port=int(port))
