"""A centre in memory, and a mirror between it and a site that does what a test says."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ashore.control.sites.centre import Office
from ashore.control.sites.joining import ask, take_answer
from ashore.control.sites.model import ModelParts, PartFile, Segment, Serve, Want
from ashore.control.sites.ports import Tree, WrongBytes
from ashore.control.sites.report import Served, SiteReport, sign_report
from ashore.control.sites.roles import (
    Model,
    Signing,
    model_path,
    new_key_file,
    read_metadata,
    sign_file,
    stored_path,
)
from ashore.control.sites.section import SitesSection
from ashore.control.sites.trust import Trusted, refresh
from ashore.core.clock import ManualClock
from ashore.core.errors import NotFound
from ashore.core.ids import TenantId
from ashore.core.principal import Principal
from ashore.data.audit.signing import new_signing_key
from ashore.kit.call import Actor
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import Database, open_scratch

NOW_S = 1_800_000_000
DAY_S = 86_400


class MemoryTree:
    """A tree; counts what is read."""

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        self.files = dict(files or {})
        self.requests: list[str] = []
        self.num_bytes = 0

    def read(self, path: str, *, start: int = 0, limit: int) -> Iterator[bytes]:
        self.requests.append(path)
        if path not in self.files:
            raise NotFound(f"no {path}")
        if len(self.files[path]) > limit:
            raise WrongBytes(f"{path} is longer than {limit}")
        self.num_bytes += len(self.files[path]) - start
        yield self.files[path][start:]

    def put(self, path: str, body: bytes) -> None:
        self.files[path] = body

    def has(self, path: str) -> bool:
        return path in self.files

    def names(self, under: str) -> Iterator[tuple[str, int]]:
        yield from [(name, len(data)) for name, data in self.files.items() if name.startswith(under + "/")]

    def remove(self, path: str) -> None:
        self.files.pop(path, None)


class Mirror(MemoryTree):
    """Gives what the tree has, but for what `change` says."""

    def __init__(self, tree: MemoryTree, change: Callable[[str, bytes | None], Iterator[bytes] | bytes | None]) -> None:
        super().__init__()
        self.tree, self.change = tree, change

    def read(self, path: str, *, start: int = 0, limit: int) -> Iterator[bytes]:
        given = self.change(path, self.tree.files.get(path))
        if given is None:
            raise NotFound(f"no {path}")
        yield from [given] if isinstance(given, bytes) else given


def parts_of(name: str) -> ModelParts:
    """Return the parts of a made-up model."""
    sha = hashlib.sha256(name.encode()).hexdigest()
    files = tuple(
        PartFile(path=path, size=4, sha256=sha, segments=(Segment(sha256=sha, stored=4, clear=4),))
        for path in ("manifest", "config", "model.bin")
    )
    return ModelParts(digest=f"sha256:{sha}", name=name, files=files)


@dataclass
class Centre:
    """The centre of a test: its keys, its tree, its sites."""

    folder: Path
    lives: SitesSection = field(default_factory=SitesSection)
    now_s: float = NOW_S
    tree: MemoryTree = field(default_factory=MemoryTree)
    secrets: dict[str, bytes] = field(default_factory=dict)
    models: dict[str, Model] = field(default_factory=dict)
    wants: dict[str, Want] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.keys = [self.folder / f"root-{number}.pem" for number in (1, 2, 3)]
        publics = [new_key_file(path) for path in self.keys]
        self.install(self.signing.first_root(publics, 2, None))
        self.root = self.tree.files["metadata/1.root.json"]

    @property
    def signing(self) -> Signing:
        return Signing(self.tree, self.secret, self.lives, self.now_s)

    def secret(self, name: str) -> bytes:
        return self.secrets.setdefault(name, secrets.token_bytes(32))

    def install(self, staged, keys: int = 2) -> str:
        path = self.folder / "staged.json"
        path.write_bytes(staged.to_bytes())
        for key in self.keys[:keys]:
            sign_file(path, key)
        return self.signing.install(read_metadata(path))

    def release(self, name: str) -> str:
        """Release a model, and return its digest."""
        parts = parts_of(name)
        data = msgspec.json.encode(parts)
        sha = hashlib.sha256(data).hexdigest()
        self.tree.put(stored_path(model_path(parts.digest), sha), data)
        self.models[parts.digest] = Model(sha, len(data))
        return parts.digest

    def want(self, site: str, *digests: str) -> None:
        """Have a site serve models, and publish it."""
        serve = tuple(Serve(alias="chat", model=one, name="chat") for one in digests)
        last = self.wants[site].sequence if site in self.wants else 0
        self.wants[site] = Want(site=site, sequence=max(last + 1, int(self.now_s)), serve=serve)
        self.publish(site)

    def publish(self, *changed: str, **more) -> tuple[str, ...]:
        encoded = {site: msgspec.json.encode(want) for site, want in self.wants.items()}
        return self.signing.publish(self.models, encoded, changed, **more)

    def at_site(self, folder: Path, site: str = "north", link=None, *, now_s: float | None = None, **more) -> Trusted:
        return refresh(
            link or self.tree, folder, site=site, root=self.root, now_s=self.now_s if now_s is None else now_s, **more
        )


ACTOR = Actor(principal=Principal(id="olga", kind="user", tenant=TenantId("default")))


def open_office(folder: Path, *, tree: Tree | None = None, database: Database | None = None) -> Office:
    """Return a centre on a scratch state, with its keys in `folder/keys`."""
    office = Office(
        database=database or open_scratch(), recorder=MemoryRecorder(), clock=ManualClock(now_s=NOW_S),
        folder=folder / "sites", tree=tree or MemoryTree(), section=SitesSection,
    )  # fmt: skip
    (folder / "keys").mkdir()
    keys = [folder / "keys" / f"root-{number}.pem" for number in (1, 2, 3)]
    sign_and_install(office, office.signing.first_root([new_key_file(key) for key in keys], 2, None), keys)
    return office


def sign_and_install(office: Office, staged, keys) -> str:
    """Sign a staged file with the first two keys, and install it."""
    path = keys[0].parent / "staged.json"
    path.write_bytes(staged.to_bytes())
    for key in keys[:2]:
        sign_file(path, key)
    return office.signing.install(read_metadata(path))


class SiteTwin:
    """A site without models: it joins, believes, serves what it is told, and reports."""

    def __init__(self, office: Office, folder: Path, name: str, *, group: str = "") -> None:
        self.office, self.folder, self.name = office, folder / name, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.audit = new_signing_key()
        self.token = office.create(ACTOR, name, group)
        self.sequence = 0
        self.clock = office.clock
        self.bad: frozenset[str] = frozenset()
        """Models that are worse here."""
        self.serving: dict[str, str] = {}

    def csr(self, key=None) -> bytes:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, self.name)])
        made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key or self.key, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.PEM)

    def join(self) -> SiteTwin:
        """Join, with the token of the centre."""
        answer = self.office.join(ask(self.token, self.csr(), self.audit.public.text))
        self.joined = take_answer(self.token, answer)
        certificate = x509.load_pem_x509_certificate(self.joined.certificate.encode())
        self.fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
        return self

    def sync(self, link=None) -> Trusted:
        """Believe what is new, and serve it; go back where it is worse here."""
        found = refresh(
            link or self.office.tree, self.folder, site=self.name, root=self.joined.root, now_s=self.clock.now_s()
        )
        assert found.want is not None
        self.want, self.sequence = found.want, max(self.sequence, found.want.taken)
        served = []
        for one in found.want.serve:
            if one.model in self.bad:
                kept = self.serving.get(one.alias, one.model)
                served.append(Served(alias=one.alias, digest=kept, state="went back", wanted=one.model))
            else:
                self.serving[one.alias] = one.model
                served.append(Served(alias=one.alias, digest=one.model))
        self.served = tuple(served)
        return found

    def report(self, **more) -> bytes:
        """Return the next report, signed."""
        self.sequence += 1
        made = SiteReport(
            site=self.name, sequence=self.sequence, at_s=self.clock.now_s(), version="1.0", want=self.want.sequence,
            root=1, served=self.served, **more,
        )  # fmt: skip
        return sign_report(made, self.key)


def key_and_csr(name: str) -> tuple[str, bytes]:
    """Return a new key and a certificate request with it, both as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return pem, made.public_bytes(serialization.Encoding.PEM)
