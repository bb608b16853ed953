"""`ashore deploy`: render deployments, of ashore elsewhere or of this installation."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import cyclopts
from cyclopts import Parameter

from ashore.cli.bootstrap import find_programs
from ashore.cli.sure import AsJson, OwnJson, print_json
from ashore.cli.target import is_loopback
from ashore.cli.upplan import NOTHING_ASKED, Asked, Request, wishes_of
from ashore.control.backup import BackupSection
from ashore.core.addresses import split_url
from ashore.core.errors import InvalidSpec
from ashore.data.engines import card_of
from ashore.kit.sealing.keysource import parse_key_source
from ashore.kit.settings import Settings
from ashore.kit.textfile import read_toml_text
from ashore.machine.config import Spec
from ashore.machine.deployment import Service, render_unit
from ashore.machine.deployment.forms import (
    Description,
    Places,
    check_objects,
    compare,
    describe_deployment,
    find_kubectl,
    is_secret,
    kubernetes_objects,
    read_places,
    render_form,
    write,
)
from ashore.machine.edge import Tls, plan_edge, show_files

SERVICE_HOME: Final = Path("/var/lib/ashore")

app = cyclopts.App(name="deploy", help="Render configuration from ashore.toml; check it.")
render = cyclopts.App(name="render", help="Print a rendered configuration, or write it to a directory.")
check = cyclopts.App(name="check", help="Check rendered configuration where it is to run.")
app.command(render)
app.command(check)


@dataclass(frozen=True, slots=True, kw_only=True)
class FormWords:
    """What is rendered, and where to.

    Args:
        config: Path of ashore.toml.
        places: Path of places.toml: images, sizes, names of secrets, networks. Default: the defaults of its keys.
        out: Directory to write to; it is created. Files there that ashore rendered before and no longer renders are
            removed, other files stay. Default: print.
        dry_run: With --out: show the difference to the files that are there, and write nothing.
        as_json: Print JSON: the files with their text, or what --out changes.
    """

    config: Path = Path("ashore.toml")
    places: Path | None = None
    out: Path | None = None
    dry_run: Annotated[bool, Parameter(negative=())] = False
    as_json: OwnJson = False


Words = Annotated[FormWords, Parameter(name="*")]
AS_USUAL: Final = FormWords()


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

    Args:
        config: Path of an ashore.toml. The options below override it.
        host: Address that the edge listens on.
        port: Port of the edge; default 8443.
        workers: API workers behind it; default 1.
        file: Print only one of the files, as Envoy reads it.
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

    Args:
        models: As for `ashore up`.
        asked: As for `ashore up`.
        home: Home of the service; default: ASHORE_HOME, else /var/lib/ashore, which systemd then creates.
        user: System user that runs the service; default ashore.
    """
    request = asked.request(models)
    if is_secret("redis", request.redis):
        raise InvalidSpec(
            "--redis contains a password, and a unit can be read by everybody",
            hint='write [redis] url = { from_file = "/etc/ashore/redis-url" } in ashore.toml',
        )
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
            if not wish.fleet
        ),
        waits_for=_waits_for(settings.state_url),
    )
    print(render_unit(service), end="")
    return 0


def _offer(name: str, does: str) -> None:
    """Make the command that renders one form."""

    def command(*, words: Words = AS_USUAL) -> int:
        return _form(name, words)

    command.__doc__ = f"{does}\n\nArgs:\n    words: What is rendered, and where to.\n"
    render.command(command, name=name)


for _form_name, _does in {
    "image": "Render the Containerfile of ashore's image, for CPU or CUDA. Buildah, podman and docker build it.",
    "compose": "Render a compose file for one machine, for docker compose and podman-compose.",
    "quadlet": "Render units of podman under systemd (quadlet) for one machine.",
    "k8s": "Render the objects of Kubernetes: servers, services, network policies, and engines that vLLM runs.",
    "helm": "Render a Helm chart of the same objects as `k8s`, with images, replicas and sizes as values.",
    "bundle": "Render every form into one directory with checksums, to carry to a network without a way out.\n\n"
    "A form that cannot express what is asked is left out; README in the bundle says why.",
}.items():
    _offer(_form_name, _does)


@check.command(name="k8s")
def check_k8s(
    *,
    config: Path = Path("ashore.toml"),
    places: Path | None = None,
    context: str = "",
    kubectl: str = "kubectl",
    as_json: AsJson = False,
) -> int:
    """Ask your API server whether it would accept every rendered object. A dry run on the server: nothing is stored.

    Exits with 2 if an object is refused.

    Args:
        config: Path of ashore.toml.
        places: Path of places.toml.
        context: Context of kubectl's configuration; default: the current one.
        kubectl: Path of kubectl.
    """
    program = find_kubectl(kubectl)
    found = check_objects(kubernetes_objects(_described(config, places)), kubectl=program, context=context)
    if as_json:
        print_json({"items": found})
    else:
        for one in found:
            print(f"{'ok     ' if one.accepted else 'refused'}  {one.kind} {one.name}")
            if not one.accepted:
                print(f"         {one.said}")
    refused = [one for one in found if not one.accepted]
    if refused:
        raise InvalidSpec(
            f"the API server refuses {len(refused)} of {len(found)} objects",
            hint="change ashore.toml or places.toml; `no matches for kind` means that its controller is not installed",
        )
    return 0


def _described(config: Path, places: Path | None) -> Description:
    text = read_toml_text(config, hint="give --config ashore.toml")
    return describe_deployment(text, read_places(places) if places else Places(), where=str(config))


def _form(name: str, words: FormWords) -> int:
    """Render a form: print it, write it, or show the changes of a write."""
    if words.dry_run and words.out is None:
        raise InvalidSpec("--dry-run compares with a directory", hint="add --out DIR, or leave out --dry-run to print")
    deployed = _described(words.config, words.places)
    files = render_form(name, deployed)
    if words.out is None:
        if words.as_json:
            print_json({"form": name, "files": files, "notes": deployed.notes})
        else:
            print("\n".join(f"# --- {path}\n{text}" for path, text in files.items()), end="")
            _tell(deployed.notes)
        return 0
    compared = compare(files, words.out)
    if not words.dry_run:
        write(compared, words.out)
    if words.as_json:
        items = [{"path": one.path, "state": one.state, "difference": one.difference} for one in compared]
        print_json({"form": name, "out": str(words.out), "written": not words.dry_run, "items": items,
                    "notes": deployed.notes})  # fmt: skip
        return 0
    for one in compared:
        if words.dry_run and one.state != "same":
            print(one.difference, end="")
        elif not words.dry_run:
            print(f"{one.state if one.state != 'stale' else 'removed':<8} {words.out / one.path}")
    if words.dry_run and all(one.state == "same" for one in compared):
        print(f"{words.out} is as rendered")
    _tell(deployed.notes)
    return 0


def _tell(notes: tuple[str, ...]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def _executable() -> Path:
    """Return the `ashore` of this installation, by a path that survives upgrades."""
    return Path(sys.executable).absolute().parent / "ashore"


def _written_to(spec: Spec) -> tuple[Path, ...]:
    """Return the folders outside the home that the server writes to."""
    places = (*spec.section("backup", BackupSection).nodes, *spec.audit.anchors, spec.audit.archive)
    return tuple(sorted({Path(place) for place in places if place.startswith("/")}))


def _read_from(request: Request, spec: Spec, settings: Settings) -> list[Path]:
    """Return the files outside the home that the server reads: its configuration, the edge's certificate, and the key
    files of sealed models.
    """
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
    """Return the unit of the database, if it runs on this machine."""
    local = not split_url(state_url).hostname or is_loopback(state_url)
    return ("postgresql.service",) if state_url.startswith("postgres") and local else ()
