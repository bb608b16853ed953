"""`ashore deploy`: render what runs elsewhere, or what ashore runs, for people and for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import cyclopts
from cyclopts import Parameter

from ashore.cli.upplan import Request
from ashore.edge import Tls, plan_edge, show_files
from ashore.serving import AdmissionLimits

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
        Literal["all", "envoy", "clusters", "listeners"], Parameter(help="Print one of the files alone.")
    ] = "all",
) -> int:
    """Print Envoy's configuration as `ashore up --edge envoy` writes it. Starts and writes nothing.

    Parameters
    ----------
    config
        An ashore.toml; the options below win over it.
    host
        Address that the edge listens on.
    port
        Port of the edge; default 8443.
    workers
        API workers behind it; default 1.
    file
        Print one of the files alone: Envoy takes it as it stands.
    """
    request = Request(
        models=("fake:echo",) if config is None else (),
        config=str(config.absolute()) if config else "",
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
            certificate_pem="made at the start, under edge/ca.pem of the home",
            key_file=str(home.edge / "edge-SERIAL.key"),
        )
    plan = plan_edge(
        spec.edge,
        run=home.run,
        tls=tls,
        num_workers=spec.http.workers,
        longest_answer_s=AdmissionLimits().max_deadline_s,
        max_file_bytes=spec.jobs.max_file_bytes,
    )
    print(show_files(plan, only="" if file == "all" else file), end="")
    return 0
