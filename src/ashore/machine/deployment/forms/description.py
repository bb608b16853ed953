"""What is deployed, said once: from ashore.toml and places.toml to one description, which every form is rendered from.

Pure: no file is read but the two, no process is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import parse_qsl

from ashore.core.addresses import split_url
from ashore.core.errors import InvalidSpec
from ashore.data.cache import OF_A_FILE
from ashore.data.engines import CARDS, Program, card_by_name, loaded
from ashore.kit.section import FROM_FILE, is_from_file, read_section
from ashore.kit.settings import read_settings
from ashore.kit.store import is_source
from ashore.kit.textfile import parse_toml
from ashore.kit.writtentoml import write_toml
from ashore.machine.config import Spec
from ashore.machine.deployment.forms.leaves import Leaf, changed, leaves_of, object_name
from ashore.machine.deployment.forms.peers import Peer, peers_of
from ashore.machine.deployment.forms.places import ModelPlace, Places, VolumePlace, size_bytes
from ashore.machine.deployment.forms.secrets import FOLDER, Hidden, Secret, hide
from ashore.machine.deployment.unit import LOWEST_OPEN_PORT, STOP_MARGIN_S
from ashore.machine.planning import ModelSection

UID: Final = 10001
"""User and group of every container."""
HOME: Final = "/var/lib/ashore"
CONFIGURATION: Final = "/etc/ashore/ashore.toml"
ENGINE_PORT: Final = 8000
EVERYWHERE: Final = "0.0.0.0"
MADE: Final = "Made by `ashore deploy render`."
"""Begins the head of every rendered file: files that have it are ours to replace."""
_STAND_INS: Final = {
    "url": "https://secret.invalid",
    "redis": "redis://secret.invalid",
    "state": "postgresql://secret.invalid",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """One port of the server."""

    name: str
    port: int
    tls: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One model that vLLM serves in containers of its own."""

    alias: str
    name: str
    """Of its service, which ashore.toml then calls."""
    model: str
    program: str
    """As the image finds it."""
    image: str
    weights: str
    flags: tuple[str, ...]
    """Of `vllm serve WEIGHTS`, but for address, port and ranks."""
    options: Mapping[str, Any]
    """As ashore.toml has them."""
    context_tokens: int
    nodes: int
    replicas: int
    gpus: int
    """Of each node."""
    cpus: int
    memory_bytes: int
    volumes: tuple[VolumePlace, ...]
    node_selector: Mapping[str, str]
    key: Secret | None
    """The key that callers give, if ashore.toml has one."""

    @property
    def url(self) -> str:
        return f"http://{self.name}:{ENGINE_PORT}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """All that a form says."""

    name: str
    image: str
    accelerator: str
    arguments: tuple[str, ...]
    """Of `ashore`."""
    configuration: str
    """ashore.toml as the container reads it: listening on every address, secrets by the names of their files."""
    listeners: tuple[Listener, ...]
    """The first is the one that is probed."""
    secrets: tuple[Secret, ...]
    engines: tuple[Engine, ...]
    volumes: tuple[VolumePlace, ...]
    """Of the server's container."""
    peers: tuple[Peer, ...]
    """Hosts that the server calls."""
    unplaced: tuple[tuple[str, int], ...]
    """Those, with their ports, of which places.toml does not say where they are."""
    stop_s: int
    """How long a stop may take."""
    start_s: int
    """How long a start may take."""
    cpus: int
    memory_bytes: int
    home_bytes: int
    gpus: int
    shared_state: bool
    """Whether the state is in a database that several servers can use."""
    redis: str
    """`host:port` of the shared cache, where it needs no password; else empty."""
    places: Places
    notes: tuple[str, ...]
    """What the operator should know."""
    values: frozenset[str]
    """Secrets that no file may contain."""

    @property
    def front(self) -> Listener:
        return self.listeners[0]

    @property
    def url_scheme(self) -> str:
        return "https" if self.front.tls else "http"

    @property
    def about_cards(self) -> str:
        """What one should know of the accelerators that containers get; empty: they get none."""
        if not (self.gpus or any(engine.gpus for engine in self.engines)):
            return ""
        maker = self.places.image.cards
        trap = f" {maker.trap[0].upper()}{maker.trap[1:]}." if maker.trap else ""
        return f"Accelerators of {maker.title}: tried by {maker.tried}. Image: {maker.image}.{trap}"

    def secret_key(self, secret: Secret) -> str:
        """Return what the operator calls a secret."""
        return self.places.secrets.keys.get(secret.name, secret.name)


def describe_deployment(text: str, places: Places, *, where: str = "ashore.toml") -> Description:
    """Return what ashore.toml and places.toml together say.

    Args:
        text: ashore.toml.
        places: places.toml.
        where: Names ashore.toml in messages.

    Raises:
        InvalidSpec: a file is wrong, or no form could say it.
    """
    written = parse_toml(text, where)
    spec = read_section(Spec, changed(written, _stand_in), where)
    if not spec.models:
        raise InvalidSpec(f"{where} names no model", hint='add [[model]] name = "smollm2"')
    if "home" in spec.written:
        raise InvalidSpec(f"{where} [settings] home belongs to one machine", hint="remove it; the home is a volume")
    hidden = hide(written)
    _refuse_unknown_names(hidden, places)
    engines = _engines(spec, places, hidden)
    document = _localised(hidden, spec, places, engines, where)
    listeners = _listeners(spec, where)
    settings = read_settings({}, _plain_settings(document))
    shared = _is_shared(document)
    if places.server.replicas > 1 and not shared:
        raise InvalidSpec(
            f"places.toml [server] replicas = {places.server.replicas}, and {where} has no Postgres in [state] url: "
            "each server would have accounts, budgets and releases of its own",
            hint='set [state] url = "postgresql://…", or replicas = 1',
        )
    volumes = _volumes(document, spec, places)
    peers, unplaced = peers_of(written, spec, places)
    head = (
        f"{MADE} From ashore.toml and places.toml; secrets are in {FOLDER}.\nChange those two files, and render again."
    )
    return Description(
        name=places.server.name,
        image=places.image.reference,
        accelerator=places.image.accelerator,
        arguments=("up", "--config", CONFIGURATION, *(["--offline"] if places.server.offline else [])),
        configuration=write_toml(document, head=head, inline=frozenset({FROM_FILE})),
        listeners=listeners,
        secrets=hidden.secrets,
        engines=engines,
        volumes=volumes,
        peers=peers,
        unplaced=unplaced,
        stop_s=int(settings.drain_timeout_s) + STOP_MARGIN_S,
        start_s=int(settings.start_timeout_s),
        cpus=places.server.cpus,
        memory_bytes=size_bytes(places.server.memory, "[server] memory"),
        home_bytes=size_bytes(places.server.home, "[server] home"),
        gpus=places.server.gpus if places.image.accelerator == "cuda" else 0,
        shared_state=shared,
        redis=_open_redis(document),
        places=places,
        notes=tuple(_notes(spec, places, engines)),
        values=hidden.values,
    )


def _stand_in(leaf: Leaf) -> Any:
    """Return a stand-in for a file or library that need not be on this machine."""
    if leaf.path[0] == "otel" and leaf.key in ("endpoint", "headers_file", "ca_file"):
        return ""
    if not is_from_file(leaf.value):
        return leaf.value
    return _STAND_INS.get(str(leaf.path[0]), _STAND_INS["url"] if leaf.key.endswith(("url", "endpoint")) else "secret")


def _plain_settings(document: Mapping[str, Any]) -> dict[str, object]:
    return {key: value for key, value in document.get("settings", {}).items() if not is_from_file(value)}


def _refuse_unknown_names(hidden: Hidden, places: Places) -> None:
    ours = {secret.name for secret in hidden.secrets}
    for name in places.secrets.keys:
        if name not in ours:
            raise InvalidSpec(
                f"places.toml [secrets] [keys] has {name!r}, and ashore.toml has no such secret",
                hint=f"its secrets are {', '.join(sorted(ours)) or 'none'}",
            )


def _engines(spec: Spec, places: Places, hidden: Hidden) -> tuple[Engine, ...]:
    """Return the models that run outside the server's container."""
    aliases = {_alias(model): model for model in spec.models}
    programs: dict[str, Program] = {
        card.kind: card.program for card in CARDS if card.program is not None and card.program.flags
    }
    outside = {
        alias: model for alias, model in aliases.items() if model.engine.kind in programs and not model.engine.fleet
    }
    if places.image.accelerator == "cuda":
        outside = {}
    for place in places.models:
        if place.alias not in outside:
            raise InvalidSpec(
                f"places.toml [[model]] {place.alias!r} is no model that runs in a container of its own",
                hint='such models have [model.engine] kind = "vllm", no fleet = true, and [image] accelerator = "cpu": '
                + (", ".join(outside) or "there are none"),
            )
    placed = {place.alias: place for place in places.models}
    engines = []
    for number, model in enumerate(spec.models):
        alias = _alias(model)
        if alias not in outside:
            continue
        if alias not in placed:
            raise InvalidSpec(
                f"the model {alias} is served by vLLM, and places.toml does not say where its weights are",
                hint=f'add [[model]] alias = "{alias}", weights = "/models/…" and a [[volume]] with that path; or set '
                '[image] accelerator = "cuda"',
            )
        engines.append(_engine(model, programs[model.engine.kind], placed[alias], places, hidden, number))
    names = [engine.name for engine in engines]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InvalidSpec(f"two models would have the service {twice}", hint="give them aliases that differ more")
    return tuple(engines)


def _engine(
    model: ModelSection, program: Program, place: ModelPlace, places: Places, hidden: Hidden, number: int
) -> Engine:
    flags_of = loaded(program.flags)
    volume = places.volume_of(place.weights)
    if volume is None:
        raise InvalidSpec(
            f"places.toml [[model]] {place.alias} weights = {place.weights!r} is on no [[volume]]",
            hint='add [[volume]] path = "/models" with claim, image or host',
        )
    if not places.image.vllm:
        raise InvalidSpec(
            f"the model {place.alias} is served by vLLM, and places.toml names no image of it",
            hint='add [image] vllm = "registry.corp.example/vllm/vllm-openai@sha256:…"',
        )
    if model.adapters:
        raise InvalidSpec(
            f"the model {place.alias} has adapters, which a vLLM in another container cannot read",
            hint='serve it with url = "http://…", or set [image] accelerator = "cuda"',
        )
    options = {name: value for name, value in model.engine.options.items() if name not in ("api_key", "executable")}
    _refuse_secret_flags(options, place.alias, hidden, number)
    limits = {
        "max_model_len": model.engine.context_tokens,
        "max_num_seqs": model.engine.max_sequences,
    }
    parallel = options.get("tensor_parallel_size", 1)
    at = ("model", number, "engine", "options", "api_key")
    hidden_key = next((leaf for leaf in leaves_of(hidden.document) if leaf.path == at), None)
    key = None
    if hidden_key is not None:
        name = str(hidden_key.value[FROM_FILE]).removeprefix(f"{FOLDER}/")
        key = next(secret for secret in hidden.secrets if secret.name == name)
    return Engine(
        alias=place.alias,
        name=f"{places.server.name}-{object_name(place.alias)}"[:52].rstrip("-"),
        model=model.name,
        program=program.name,
        image=places.image.vllm,
        weights=place.weights,
        flags=(
            "--served-model-name", model.name,
            *flags_of({name: value for name, value in limits.items() if value}),
            "--enable-prefix-caching" if model.engine.prefix_cache else "--no-enable-prefix-caching",
            "--enable-prompt-tokens-details", "--max-logprobs", "20",
            *flags_of(options),
        ),
        options=options,
        context_tokens=model.engine.context_tokens,
        nodes=place.nodes,
        replicas=model.replicas,
        gpus=place.gpus or (parallel if isinstance(parallel, int) else 1),
        cpus=place.cpus,
        memory_bytes=size_bytes(place.memory, "[[model]] memory"),
        volumes=(volume,),
        node_selector=place.node_selector,
        key=key,
    )  # fmt: skip


def _refuse_secret_flags(options: Mapping[str, Any], alias: str, hidden: Hidden, number: int) -> None:
    at = ("model", number, "engine", "options")
    secret = {leaf.key for leaf in leaves_of(hidden.document) if leaf.path[:4] == at and is_from_file(leaf.value)}
    if shown := sorted(secret & set(options)):
        raise InvalidSpec(
            f"the option {shown[0]} of the model {alias} is a secret or looks like one, and a flag of vLLM is visible "
            "to everybody who may look at the container",
            hint="only api_key may be secret in a container of vLLM; remove the option, or set [image] accelerator = "
            '"cuda"',
        )


def _alias(model: ModelSection) -> str:
    return model.alias or model.name


def _localised(hidden: Hidden, spec: Spec, places: Places, engines: Sequence[Engine], where: str) -> dict[str, Any]:
    """Return ashore.toml as the container reads it."""

    def change(leaf: Leaf) -> Any:
        if leaf.holds == "place" and isinstance(leaf.value, str) and "://" not in leaf.value and leaf.value:
            _refuse_other_folder(leaf, places, str(leaf.value))
        if leaf.path == ("redis", "url") and isinstance(leaf.value, str):
            for name, path in parse_qsl(split_url(leaf.value).query):
                if name in OF_A_FILE:
                    _refuse_other_folder(leaf, places, path)
        return leaf.value

    document = changed(hidden.document, change)
    for table, ours in (("http", not spec.has_edge), ("grpc", not spec.has_edge), ("edge", spec.has_edge)):
        if ours:
            document.setdefault(table, {})["host"] = EVERYWHERE
    outside = {engine.alias: engine for engine in engines}
    for written, model in zip(document["model"], spec.models, strict=True):
        if _alias(model) not in outside and is_source(model.name) and card_by_name(model.name) is None:
            _refuse_source(model, places, where)
        if (engine := outside.get(_alias(model))) is not None:
            key = written["engine"].get("options", {}).get("api_key")
            kept = {name: value for name, value in written["engine"].items() if name != "options"}
            written["engine"] = {**kept, "fleet": True, **({"key": f"file:{key[FROM_FILE]}"} if key else {})}
            written.pop("replicas", None)
            node = {"node": engine.name, "address": engine.url, "model": engine.alias}
            document.setdefault("fleet", {}).setdefault("node", []).append(node)
    if engines:
        egress = document.setdefault("egress", {})
        network = places.kubernetes.service_network
        egress["allow"] = [*egress.get("allow", ()), *(f"{one.name}:{ENGINE_PORT}@{network}" for one in engines)]
    return document


def _refuse_other_folder(leaf: Leaf, places: Places, named: str) -> None:
    path = PurePosixPath(named)
    if not path.is_absolute() or not (path.is_relative_to(HOME) or places.volume_of(str(path))):
        raise InvalidSpec(
            f"{leaf.shown} names {named!r}, a path of this machine, which no container has",
            hint=f"put it below {HOME}, or on a [[volume]] of places.toml, or use s3://",
        )


def _refuse_source(model: ModelSection, places: Places, where: str) -> None:
    kind = model.name.partition(":")[0]
    if kind in ("hf", "ms", "pypi", "oci", "oci+http", "s3") and not places.server.offline:
        return
    if kind in ("hf", "ms", "pypi") and places.server.offline:
        return  # it may be in the home under that name
    if model.name.startswith("/") and places.volume_of(model.name):
        return
    if kind in ("oci", "oci+http", "s3"):
        return
    raise InvalidSpec(
        f"{where} [[model]] name = {model.name!r} is a path of this machine, which no container has",
        hint="name a model of the store or a source, or a path on a [[volume]] of places.toml",
    )


def _listeners(spec: Spec, where: str) -> tuple[Listener, ...]:
    if spec.has_edge:
        tls = spec.edge.tls != "off"
        found: tuple[Listener, ...] = (Listener(name="https" if tls else "http", port=spec.edge.port, tls=tls),)
    else:
        grpc = (Listener(name="grpc", port=spec.grpc.port),) if spec.grpc.port else ()
        found = (Listener(name="http", port=spec.http.port), *grpc)
    for one in found:
        if one.port < LOWEST_OPEN_PORT:
            raise InvalidSpec(
                f"{where} listens on port {one.port}, for which a container without capabilities has no right",
                hint=f"use a port from {LOWEST_OPEN_PORT} on; the Service or the published port may be {one.port}",
            )
    return found


def _is_shared(document: Mapping[str, Any]) -> bool:
    url = document.get("state", {}).get("url") or document.get("settings", {}).get("state_url", "")
    return is_from_file(url) or str(url).startswith("postgres")


def _open_redis(document: Mapping[str, Any]) -> str:
    url = document.get("redis", {}).get("url", "")
    if not isinstance(url, str) or not url.startswith("redis://"):
        return ""
    return url.removeprefix("redis://").partition("/")[0]


def _volumes(document: Mapping[str, Any], spec: Spec, places: Places) -> tuple[VolumePlace, ...]:
    """Return the volumes that the server's container needs: all but those that only engines read."""
    weights = {places.volume_of(place.weights) for place in places.models}
    named = [str(leaf.value) for leaf in leaves_of(document) if leaf.holds == "place"]
    named += [model.name for model in spec.models]
    used = {places.volume_of(path) for path in named if path.startswith("/")}
    return tuple(volume for volume in places.volumes if volume in used or volume not in weights)


def _notes(spec: Spec, places: Places, engines: Sequence[Engine]) -> list[str]:
    notes = []
    if spec.has_edge and spec.edge.tls == "generate":
        notes.append(
            '[edge] tls is "generate": each server signs its own certificate, with an authority in its home. Clients '
            "need edge/ca.pem of each; with several servers, give certificate and key."
        )
    if not spec.has_edge:
        notes.append("there is no edge: clients reach ashore without TLS, unless an Ingress or Gateway adds it.")
    if engines and not all(engine.key for engine in engines):
        notes.append(
            "an engine without options.api_key answers whoever reaches it: the network policy keeps others out, where "
            "the network plugin enforces policies."
        )
    if places.server.replicas > 1 and spec.redis.url in ("", "embedded"):
        notes.append("[redis] url is not a shared server: each server caches answers for itself.")
    if places.server.offline:
        notes.append("servers download no model: import each into the home, or mount a volume that has it.")
    return notes
