"""places.toml: where ashore.toml runs. Images, sizes, names of secrets, and networks; no fact of ashore.toml."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from msgspec import Meta, field

from ashore import __version__
from ashore.core.errors import InvalidSpec
from ashore.core.foreign import foreign_errors
from ashore.core.nearest import did_you_mean
from ashore.kit.accelerators import DEFAULT, Maker, makers
from ashore.kit.section import Section, read_section, toml
from ashore.kit.textfile import parse_toml, read_toml_text

Accelerator = Literal["cpu", "cuda"]
Engines = Literal["plain", "kserve", "ray"]
PullPolicy = Literal["IfNotPresent", "Always", "Never"]

UNITS: Final = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
OLDEST_KUBERNETES: Final = 30
"""1.30: the oldest whose schemas the tests hold the objects against."""
IMAGE_VOLUMES: Final = 35
"""1.35: the first whose servers mount images as volumes unasked; older ones drop the field silently."""
_SIZE: Final = re.compile(r"([1-9][0-9]*)(Ki|Mi|Gi|Ti)B?")
_NAME: Final = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_SECRET_KEY: Final = re.compile(r"[A-Za-z0-9._-]{1,253}")
_VERSION: Final = re.compile(r"1\.([0-9]{2})")


def size_bytes(text: str, where: str) -> int:
    """Return the bytes of a size such as `8GiB`.

    Raises:
        InvalidSpec: it has another form.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise InvalidSpec(f"{where} = {text!r} is not a size", hint='write a whole number and a unit: "8GiB", "512MiB"')
    return int(found[1]) * UNITS[found[2]]


class ImagePlace(Section, frozen=True, kw_only=True):
    """The images that the forms name."""

    reference: str = f"localhost/ashore:{__version__}"
    """Image of ashore, with your registry; best with `@sha256:…`."""
    accelerator: Accelerator = "cpu"
    """`cpu`: models that vLLM serves get containers of their own; `cuda`: vLLM and its GPUs are in ashore's image and
    container."""
    base: str = ""
    """What ashore's image is built on; empty: `docker.io/library/debian:13-slim`, or `vllm` for `cuda`."""
    vllm: str = ""
    """Image of vLLM, with your registry, for models that it serves."""
    maker: str = DEFAULT
    """Maker of the accelerators that containers with GPUs get: `nvidia`, `amd`, `intel`, `ascend`, `hygon`, `metax`,
    `mthreads`, `iluvatar`, `cambricon` or `kunlun`."""
    pull: PullPolicy = "IfNotPresent"
    """When Kubernetes pulls an image."""
    pull_secret: str = ""
    """Name of the Secret with the login of your registry; empty: none is needed."""

    def checked(self, where: str) -> Self:
        if self.maker not in makers():
            raise InvalidSpec(
                f"{where} maker = {self.maker[:40]!r} is not known",
                hint=did_you_mean(self.maker, makers()) or f"write one of {', '.join(makers())}",
            )
        return self

    @property
    def cards(self) -> Maker:
        """The accelerators of containers that have some."""
        return makers()[self.maker]


class ServerPlace(Section, frozen=True, kw_only=True):
    """The server: one container, or several equal ones on Kubernetes."""

    name: str = "ashore"
    """Name of the service, and the beginning of the names of all objects."""
    replicas: Annotated[int, Meta(ge=1, le=64)] = 1
    """Servers behind one address. More than one need a Postgres in `[state] url`. Kubernetes only."""
    cpus: Annotated[int, Meta(ge=1, le=1024)] = 4
    """Processors of each."""
    memory: str = "8GiB"
    """Memory of each."""
    home: str = "50GiB"
    """Size of the volume with its home: models, audit log, files."""
    gpus: Annotated[int, Meta(ge=0, le=64)] = 0
    """GPUs of each, for an image with `accelerator = "cuda"`."""
    offline: bool = True
    """Download no model: they are in the home, or on a volume."""

    def checked(self, where: str) -> Self:
        if _NAME.fullmatch(self.name) is None:
            raise InvalidSpec(
                f"{where} name = {self.name!r}", hint="use at most 40 lower-case letters, digits and -, a letter first"
            )
        for key in ("memory", "home"):
            size_bytes(getattr(self, key), f"{where} {key}")
        return self


class SecretsPlace(Section, frozen=True, kw_only=True):
    """Names of the secrets. Their values are in no file that ashore writes."""

    name: str = ""
    """Name of the Secret of Kubernetes that holds them; empty: that of the server."""
    keys: dict[str, str] = field(default_factory=dict)
    """Key in that Secret, or name of the secret of podman, for a name of ours: `state-url = "prod-db"`. Those that are
    left out have our name."""

    def checked(self, where: str) -> Self:
        for ours, theirs in self.keys.items():
            if _SECRET_KEY.fullmatch(theirs) is None:
                raise InvalidSpec(
                    f"{where} [keys] {ours} = {theirs[:12]!r} is not a name", hint="use letters, digits, . _ and -"
                )
        return self


class ModelPlace(Section, frozen=True, kw_only=True):
    """Where vLLM serves one model, in containers of its own."""

    alias: Annotated[str, Meta(min_length=1, examples=['"r1"'])]
    """Alias of the model in ashore.toml."""
    weights: Annotated[str, Meta(pattern="^/", examples=['"/models/r1"'])]
    """Folder of its weights inside the container; a `[[volume]]` holds it."""
    nodes: Annotated[int, Meta(ge=1, le=64)] = 1
    """Machines that one replica spans."""
    gpus: Annotated[int, Meta(ge=0, le=64)] = 0
    """GPUs of each node; 0: the option `tensor_parallel_size` of the model, else 1."""
    cpus: Annotated[int, Meta(ge=1, le=1024)] = 8
    """Processors of each node."""
    memory: str = "64GiB"
    """Memory of each node."""
    node_selector: dict[str, str] = field(default_factory=dict)
    """Labels of the machines of Kubernetes that it may run on."""

    def checked(self, where: str) -> Self:
        size_bytes(self.memory, f"{where} memory")
        return self


class VolumePlace(Section, frozen=True, kw_only=True):
    """A folder that is there before the container: models, a place for backups. `claim` or `image` says what is behind
    it on Kubernetes, `host` on one machine."""

    path: Annotated[str, Meta(pattern="^/.", examples=['"/models"'])]
    """Folder inside the containers."""
    claim: str = ""
    """Name of a PersistentVolumeClaim, for Kubernetes."""
    image: str = ""
    """Image that holds the files, read-only, for Kubernetes from 1.35 on."""
    host: str = ""
    """Folder of the machine, for compose and quadlet."""
    read_only: bool = True
    """Whether containers may only read it."""

    def checked(self, where: str) -> Self:
        if (self.claim and self.image) or not (self.claim or self.image or self.host):
            raise InvalidSpec(
                f"{where} {self.path} has {'claim and image' if self.claim else 'nothing behind it'}",
                hint="give claim or image for Kubernetes, host for compose and quadlet",
            )
        if self.image and not self.read_only:
            raise InvalidSpec(f"{where} {self.path} is an image, which is read-only", hint="remove read_only = false")
        return self


class PeerPlace(Section, frozen=True, kw_only=True):
    """Where a host is that ashore.toml names, for network policies, which know no host names. Exactly one of
    `network` and `namespace` says it."""

    host: Annotated[str, Meta(min_length=1, examples=['"db.corp.example"'])]
    """Host as ashore.toml names it; for a secret address, the name of the secret: `state-url`; for S3, `s3`."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    """Its port; 0: the one that ashore.toml says."""
    network: str = ""
    """Addresses that it may have: `10.0.5.0/24`."""
    namespace: str = ""
    """Namespace of its pods."""
    labels: dict[str, str] = field(default_factory=dict)
    """Labels of its pods in that namespace; none: all of them."""

    def checked(self, where: str) -> Self:
        if bool(self.network) == bool(self.namespace):
            raise InvalidSpec(f"{where} {self.host} has both or neither of network and namespace", hint="give one")
        if self.network:
            with foreign_errors(f"{where} network = {self.network!r}", InvalidSpec, hint="write 10.0.5.0/24"):
                ip_network(self.network)
        return self


class KubernetesPlace(Section, frozen=True, kw_only=True):
    """What only Kubernetes needs to know."""

    version: str = "1.34"
    """The oldest version that the objects must work on."""
    namespace: str = "ashore"
    """Namespace of all objects."""
    create_namespace: bool = False
    """Also render the namespace, with the rules of Pod Security at `restricted`."""
    storage_class: str = ""
    """StorageClass of the homes; empty: the cluster's default."""
    access_mode: Literal["ReadWriteOncePod", "ReadWriteOnce"] = "ReadWriteOncePod"
    """`ReadWriteOncePod` needs a CSI driver, and keeps two servers off one home."""
    service: Literal["ClusterIP", "LoadBalancer", "NodePort"] = "ClusterIP"
    """Type of the Service that clients call."""
    clients: tuple[str, ...] = ()
    """Namespaces that may call ashore; empty: every caller."""
    dns_namespace: str = "kube-system"
    """Namespace of the name server."""
    service_network: str = "10.0.0.0/8"
    """Addresses of Services."""
    engines: Engines = "plain"
    """What runs vLLM: `plain`: Deployments, and a LeaderWorkerSet where a model spans nodes; `kserve`:
    LLMInferenceService; `ray`: RayService."""
    gpu_resource: str = ""
    """Name of one GPU as the device plugin has it: `nvidia.com/mig-3g.40gb` for a part of one; empty: that of the
    plugin of `[image] maker`."""
    gpu_taint: bool = True
    """Tolerate the taint of that name on machines with GPUs."""
    node_selector: dict[str, str] = field(default_factory=dict)
    """Labels of the machines that servers may run on."""
    ray_version: str = "2.60.0"
    """Version of Ray in the image of vLLM, for `engines = "ray"`."""
    ray_namespace: str = "kuberay-system"
    """Namespace of KubeRay, which calls the head of each RayService at port 8265."""

    def checked(self, where: str) -> Self:
        found = _VERSION.fullmatch(self.version)
        if found is None or int(found[1]) < OLDEST_KUBERNETES:
            raise InvalidSpec(
                f"{where} version = {self.version!r}", hint=f'expected "1.{OLDEST_KUBERNETES}" or later, such as "1.34"'
            )
        if _NAME.fullmatch(self.namespace) is None:
            raise InvalidSpec(
                f"{where} namespace = {self.namespace!r}", hint="use at most 40 lower-case letters, digits and -"
            )
        with foreign_errors(f"{where} service_network", InvalidSpec, hint="write 10.96.0.0/12"):
            ip_network(self.service_network)
        return self

    @property
    def minor(self) -> int:
        return int(self.version.partition(".")[2])


class Places(Section, frozen=True, kw_only=True):
    """All of places.toml."""

    image: ImagePlace = ImagePlace()
    server: ServerPlace = ServerPlace()
    secrets: SecretsPlace = SecretsPlace()
    models: Annotated[tuple[ModelPlace, ...], toml("model")] = ()
    volumes: Annotated[tuple[VolumePlace, ...], toml("volume")] = ()
    peers: Annotated[tuple[PeerPlace, ...], toml("peer")] = ()
    kubernetes: KubernetesPlace = KubernetesPlace()

    def checked(self, where: str) -> Self:
        for what, names in (
            ("[[model]] alias", [one.alias for one in self.models]),
            ("[[volume]] path", [one.path for one in self.volumes]),
        ):
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise InvalidSpec(f"{where} has {what} = {twice!r} twice", hint="remove one")
        return self

    @property
    def gpu_resource(self) -> str:
        """Name of one GPU on Kubernetes."""
        return self.kubernetes.gpu_resource or self.image.cards.resource

    def volume_of(self, path: str) -> VolumePlace | None:
        """Return the volume that holds a folder."""
        holding = [one for one in self.volumes if Path(path).is_relative_to(one.path)]
        return max(holding, key=lambda one: len(one.path), default=None)


def read_places(path: Path) -> Places:
    """Return what places.toml says.

    Raises:
        InvalidSpec: it is missing, is not TOML, or says something that ashore does not know.
    """
    return parse_places(read_toml_text(path, hint="check the path of --places"), where=str(path))


def parse_places(text: str, *, where: str = "places.toml") -> Places:
    """Return the places in `text`; `where` stands in messages."""
    return read_section(Places, parse_toml(text, where), where)
