"""Turns `[edge]` into Envoy's files."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ashore.core.errors import InvalidSpec
from ashore.kit.folders import make_folder
from ashore.kit.processes import get_from
from ashore.kit.wholefile import write_whole
from ashore.machine.edge.certificate import check_files, keep_certificate, names_for
from ashore.machine.edge.model import EdgePlan, Machine, Tls, WorkerSockets
from ashore.machine.edge.rendering import render
from ashore.machine.edge.section import EdgeSection

OPEN_CONNECTIONS: Final = "http.edge.downstream_cx_active"
"""Envoy's name for the resource."""
CONTROL_SOCKET: Final = "control.sock"
"""Name of the control process's socket in the folder of sockets."""
MAX_SOCKET_PATH: Final = 107
"""unix(7), `sun_path` without its closing zero."""


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
