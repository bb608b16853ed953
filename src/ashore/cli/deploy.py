"""`ashore deploy`: render what runs elsewhere, or what ashore runs, for people and for other tools."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import cyclopts
from cyclopts import Parameter

from ashore.bootstrap import find_programs
from ashore.cli.target import is_loopback
from ashore.cli.upplan import NOTHING_ASKED, Asked, Request, wishes_of
from ashore.config import Spec
from ashore.deployment import Service, render_unit
from ashore.edge import Tls, plan_edge, show_files
from ashore.engines import card_of
from ashore.sealing import parse_key_source
from ashore.settings import Settings

SERVICE_HOME: Final = Path("/var/lib/ashore")

app = cyclopts.App(name="deploy", help="Render configuration from ashore.toml.")
render = cyclopts.App(name="render", help="Print a rendered configuration.")
app.command(render)


@render.command
def envoy(
    *,
    config: Path | None = None,
    host: str = "",
    port: int = 0,
    workers: int = 0,
    file: Annotated[
        Literal["all", "envoy", "clusters", "listeners"], Parameter(help="Print only one of the files.")
    ] = "all",
) -> int:
    """Print Envoy's configuration as `ashore up --edge envoy` writes it. Starts and writes nothing.

    Parameters
    ----------
    config
        Path of an ashore.toml. The options below override it.
    host
        Address that the edge listens on.
    port
        Port of the edge; default 8443.
    workers
        API workers behind it; default 1.
    file
        Print only one of the files, as Envoy reads it.
    """
    request = Request(
        models=("fake:echo",) if config is None else (),
        config=config.absolute() if config else None,
        host=host,
        port=port,
        workers=workers,
        edge="envoy",
    )
    spec, home = request.spec(), request.settings().home
    tls = None
    if spec.edge.tls == "files":
        tls = Tls(certificate_pem=Path(spec.edge.certificate).read_text(), key_file=spec.edge.key)
    elif spec.edge.tls == "generate":
        tls = Tls(
            certificate_pem="created at the start, signed by edge/ca.pem of the home",
            key_file=str(home.edge / "edge-SERIAL.key"),
        )
    plan = plan_edge(
        spec.edge,
        run=home.run,
        tls=tls,
        num_workers=spec.http.workers,
        longest_answer_s=spec.admission.max_deadline_s,
        max_file_bytes=spec.jobs.max_file_bytes,
    )
    print(show_files(plan, only="" if file == "all" else file), end="")
    return 0


@render.command
def systemd(*models: str, asked: Asked = NOTHING_ASKED, home: Path | None = None, user: str = "ashore") -> int:
    """Print a systemd unit that runs `ashore up` with these arguments as a service. Starts and writes nothing.

    The service counts as started when every model answers. A reload drops no stream. The service may write only to its
    home, and to backup and audit folders that ashore.toml names. All paths are those of this machine.

    Parameters
    ----------
    models
        As for `ashore up`.
    asked
        As for `ashore up`.
    home
        Home of the service; default: ASHORE_HOME, else /var/lib/ashore, which systemd then creates.
    user
        System user that runs the service; default ashore.
    """
    request = asked.request(models)
    spec, settings = request.spec(), request.settings()
    if home is None:
        home = settings.home.root if os.environ.get("ASHORE_HOME") else SERVICE_HOME
    service = Service(
        command=[str(_executable()), "up", *request.words()],
        reload_command=[str(_executable()), "reload"],
        home=home.absolute(),
        user=user,
        models=[model.alias or model.name for model in spec.models],
        drain_timeout_s=settings.drain_timeout_s,
        writable=_written_to(spec),
        readable=[_executable(), *_read_from(request, spec, settings)],
        lowest_port=_lowest_port(spec),
        uses_devices=any(
            (card_of(wish.kind).program is not None) if wish.kind != "auto" else find_programs(wish)
            for wish in wishes_of(spec)
            if not wish.urls
        ),
        waits_for=_waits_for(settings.state_url),
    )
    print(render_unit(service), end="")
    return 0


def _executable() -> Path:
    """Return the `ashore` of this installation, by the path that it keeps when a new version comes."""
    return Path(sys.executable).absolute().parent / "ashore"


def _written_to(spec: Spec) -> tuple[Path, ...]:
    """Return the folders beside the home that the server writes to."""
    places = (*spec.backup.nodes, *spec.audit.anchors, spec.audit.archive)
    return tuple(sorted({Path(place) for place in places if place.startswith("/")}))


def _read_from(request: Request, spec: Spec, settings: Settings) -> list[Path]:
    """Return the files that the server reads, in any folder: its configuration, the edge's certificate, and the key
    files of sealed models."""
    files = [request.config, spec.edge.certificate, spec.edge.key, spec.edge.machines_ca]
    if settings.sealing_key:
        source = parse_key_source(settings.sealing_key)
        files += [source.path, source.token_file, source.ca_file]
    return [Path(file) for file in files if file]


def _lowest_port(spec: Spec) -> int:
    if spec.edge.kind != "none":
        return spec.edge.port
    return min(port for port in (spec.http.port, spec.grpc.port) if port)


def _waits_for(state_url: str) -> tuple[str, ...]:
    """Return the unit of the database, where it is one of this machine."""
    local = not urlsplit(state_url).hostname or is_loopback(state_url)
    return ("postgresql.service",) if state_url.startswith("postgres") and local else ()
