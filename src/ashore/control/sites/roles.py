"""The centre's signatures, as TUF has them: who may say what is new, and a tree of metadata that says it.

    root       threshold of the operators' own keys, in files that they carry; names the keys of the others
    targets    models/*     who releases models; its key is at the centre, or in a file as well
    sites      wants/*, delegated by targets to the director, at the centre: what each site shall serve
    snapshot, timestamp     at the centre: which versions belong together, and how fresh they are

A model reaches a site only where both agree: targets released it, and the director wants it there. Every version but
that of root is the Unix time of its signing, or one more than the last: a centre restored from an old backup goes on
above what sites have seen, and a site without a clock of its own knows how late it is at least.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ashore.control.sites.ports import Tree, read_whole
from ashore.control.sites.section import SitesSection
from ashore.core.errors import Conflict, InvalidSpec, NotFound
from ashore.kit.wholefile import write_whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from tuf.api.metadata import Metadata, Root

METADATA: Final = "metadata"
METADATA_BYTES: Final = 8 << 20
KEPT_S: Final = 7 * 86_400
FAR_S: Final = 3_650 * 86_400
"""A version that is further ahead of this clock was not signed by a centre whose clock was wrong."""
SITES: Final = "sites"
ONLINE: Final = ("timestamp", "snapshot", "targets", "director")
"""Keys of the centre; that of targets may be with the operators in its place."""
GENERATIONS: Final = "x-ashore-generations"
"""Field of root: the number of the key of each role at the centre; 0: it is in a file."""
DIRECTOR: Final = "x-ashore-director"
"""Field of targets: likewise, for the director's key."""

Secret = Callable[[str], bytes]
"""Gives 32 secret bytes by name, made on first use: the seed of a key."""


@dataclass(frozen=True, slots=True)
class Model:
    """A released model: the file of its parts in the tree."""

    sha256: str
    size: int


def model_path(digest: str) -> str:
    """Return the target path of a model."""
    return f"models/{digest.removeprefix('sha256:')}.json"


def want_path(site: str) -> str:
    """Return the target path of what a site shall serve."""
    return f"wants/{site}/want.json"


def stored_path(target: str, digest: str) -> str:
    """Return where the file of a target lies: its own name has the digest before it, so that readers of the version
    before still find theirs."""
    folder, _, name = target.rpartition("/")
    return f"targets/{folder}/{digest}.{name}"


def new_key_file(path: Path) -> Any:
    """Make a key in a file that an operator carries, and return its public half.

    Raises:
        Conflict: the file exists.
    """
    from securesystemslib.signer import CryptoSigner

    if path.exists():
        raise Conflict(f"{path} exists", hint="give another folder; a key is never overwritten")
    key = CryptoSigner.generate_ed25519()
    write_whole(path, key.private_bytes)
    return key.public_key


def sign_file(path: Path, key_file: Path) -> int:
    """Add the signature of a key to a staged root or targets, and return how many it has now. Needs no home.

    Raises:
        InvalidSpec: a file is not what it should be.
    """
    staged = read_metadata(path)
    staged.sign(_signer(_read_key(key_file)), append=True)
    write_whole(path, staged.to_bytes())
    return len(staged.signatures)


def public_of(key_file: Path) -> Any:
    """Return the public half of a key in a file.

    Raises:
        InvalidSpec: it has none.
    """
    return _signer(_read_key(key_file)).public_key


def _read_key(path: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    hint = "give a file of `ashore site keys create`"
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as fault:
        raise InvalidSpec(f"{path} has no key: {fault}", hint=hint) from fault
    except OSError as fault:
        raise InvalidSpec(f"{path}: {fault.strerror}", hint=hint) from fault
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidSpec(f"{path} has a {type(key).__name__}", hint=hint)
    return key


def read_metadata(path: Path) -> Metadata[Any]:
    """Return a staged file.

    Raises:
        InvalidSpec: it is not one.
    """
    from tuf.api.metadata import Metadata
    from tuf.api.serialization import DeserializationError

    try:
        return Metadata[Any].from_bytes(path.read_bytes())
    except DeserializationError as fault:
        raise InvalidSpec(
            f"{path} is not a staged file: {fault}", hint="`ashore site keys rotate` makes one"
        ) from fault


def _signer(key: Ed25519PrivateKey) -> Any:
    from securesystemslib.signer import CryptoSigner

    return CryptoSigner(key)


class Signing:
    """Signs and publishes. One process at a time: the caller holds a lock."""

    def __init__(self, tree: Tree, secret: Secret, lives: SitesSection, now_s: float) -> None:
        """Create it; touches nothing. `lives`: says how long signatures are good."""
        self.tree, self._secret, self._lives, self._now_s = tree, secret, lives, int(now_s)

    # the operators' part

    def first_root(self, keys: Iterable[Any], threshold: int, targets: Any | None) -> Metadata[Root]:
        """Return version 1, unsigned.

        Args:
            keys: Public keys of the operators.
            threshold: How many must sign.
            targets: Public key of who releases models; None: the centre has it.
        """
        from tuf.api.metadata import Metadata, Root

        root = Root(version=1, consistent_snapshot=True)
        root.unrecognized_fields[GENERATIONS] = {role: int(role != "targets" or targets is None) for role in ONLINE}
        for key in keys:
            root.add_key(key, "root")
        root.roles["root"].threshold = threshold
        for role in ("timestamp", "snapshot", "targets"):
            root.add_key(targets if role == "targets" and targets is not None else self._key(role, 1).public_key, role)
        root.expires = self._expires(self._lives.root_days, self._now_s)
        return Metadata(root)

    def next_root(self, rotate: Collection[str], *, keys: Iterable[Any] = (), targets: Any | None = None) -> Any:
        """Return the next version, unsigned, with new keys at the centre for the roles in `rotate`.

        Args:
            rotate: Of `ONLINE`; empty: the same keys, for a new expiry.
            keys: Public keys that replace the operators'; empty: they stay.
            targets: Public key that replaces that of targets, where it is in a file.
        """
        from tuf.api.metadata import Metadata

        root = Metadata[Any].from_bytes(self.root.to_bytes()).signed
        generations = dict(root.unrecognized_fields[GENERATIONS])
        fresh = {}
        for role in rotate:
            if role == "targets" and targets is not None:
                generations[role], fresh[role] = 0, targets
                continue
            if not generations[role]:
                raise InvalidSpec("the key of targets is in a file", hint="give the file of the new key: --targets-key")
            generations[role] += 1
            fresh[role] = self._key(role, generations[role]).public_key
        if keys := list(keys):
            fresh["root"] = None
        for role, key in fresh.items():
            if role == "director":
                continue  # targets names it
            for old in list(root.roles[role].keyids):
                root.revoke_key(old, role)
            for one in keys if role == "root" else [key]:
                root.add_key(one, role)
        root.unrecognized_fields[GENERATIONS] = generations
        root.version += 1
        root.expires = self._expires(self._lives.root_days, self._now_s)
        return Metadata(root)

    def install(self, staged: Metadata[Any]) -> str:
        """Publish a staged root or targets that enough operators have signed, and return its name. Sites see it with
        the next `publish`. May be called twice.

        Raises:
            Conflict: it does not follow the one before, or lacks signatures.
        """
        from tuf.api.exceptions import UnsignedMetadataError
        from tuf.api.metadata import Root

        signed, hint = staged.signed, "install the earlier ones first, in order"
        name = f"{signed.version}.{signed.type}.json"
        if isinstance(signed, Root):
            judges = [signed, *([self._file(f"{signed.version - 1}.root.json").signed] if signed.version > 1 else [])]
            if not self._has(name) and self._has("1.root.json") and not self._has(f"{signed.version - 1}.root.json"):
                raise Conflict(f"root {signed.version} has no root {signed.version - 1} before it here", hint=hint)
        else:
            judges = [self.root.signed]
            if signed.version <= self._meta().get("targets.json", 0):
                raise Conflict(f"targets {signed.version} is older than what is published", hint="stage it again")
        try:
            for judge in judges:
                judge.verify_delegate(signed.type, staged.signed_bytes, staged.signatures)
        except UnsignedMetadataError as fault:
            raise Conflict(f"{name}: {fault}", hint="sign it with more of the keys: `ashore site keys sign`") from fault
        if self._has(name) and self._file(name).signed_bytes != staged.signed_bytes:
            raise Conflict(f"another {name} is published", hint="stage the next one: `ashore site keys rotate`")
        self._put(name, staged)
        return name

    # the centre's part

    @property
    def root(self) -> Metadata[Root]:
        """The newest root.

        Raises:
            NotFound: there is none yet.
        """
        newest = 0
        while self._has(f"{newest + 1}.root.json"):
            newest += 1
        if not newest:
            raise NotFound("this centre has no keys yet", hint="`ashore site keys create FOLDER` makes them")
        return self._file(f"{newest}.root.json")

    def stage_targets(self, models: Mapping[str, Model]) -> Metadata[Any]:
        """Return the next targets, unsigned, for an operator who has the key."""
        from tuf.api.metadata import Metadata

        generation = self.root.signed.unrecognized_fields[GENERATIONS]["director"]
        return Metadata(self._targets(models, self._meta().get("targets.json", 0), generation))

    def publish(
        self, models: Mapping[str, Model], wants: Mapping[str, bytes], changed: Collection[str] = (),
        *, targets: Metadata[Any] | None = None,
    ) -> tuple[str, ...]:  # fmt: skip
        """Sign what is new, and what has used half of its life; return the names of what was signed. May be called
        again at any time: what is current stays as it is. Readers of the tree see all of it or nothing.

        Args:
            models: Every released model, by digest.
            wants: What each site shall serve, by name. A site that is not named here is no longer known.
            changed: Sites whose want is new.
            targets: Signed by an operator, in place of what the centre would sign.

        Raises:
            Conflict: the key of targets is in a file, and nothing is signed with it yet.
        """
        from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp

        root = self.root.signed
        meta, done, generations = self._meta(), [], root.unrecognized_fields[GENERATIONS]

        def renew(role: str, made: Any, key: Any) -> Any:
            signed = Metadata(made)
            signed.sign(key)
            self._put(f"{made.version}.{role}.json", signed)
            meta[f"{role}.json"] = made.version
            done.append(role)
            return made

        # targets: what is released, and who directs
        before = self._read("targets", meta)
        current: Any = before.signed if before is not None and _verifies(root, "targets", before) else None
        if targets is not None:
            meta["targets.json"], current = targets.signed.version, targets.signed
            done.append("targets")
        elif generation := generations["targets"]:
            fresh = self._targets(models, meta.get("targets.json", 0), generations["director"])
            is_same = current is not None and _said(current) == _said(fresh)
            if not is_same or self._is_due(current.version, self._lives.targets_days):
                current = renew("targets", fresh, self._key("targets", generation))
        elif current is None:
            raise Conflict("targets is not signed yet", hint="`ashore site keys stage`, then sign and install its file")

        # what each site shall serve
        director, days = self._key("director", current.unrecognized_fields[DIRECTOR]), self._lives.director_days
        known: Any = self._read(SITES, meta)
        old = known.signed.targets if known is not None and _verifies(current, SITES, known) else None
        files = {want_path(site): (old or {}).get(want_path(site)) for site in wants if site not in changed}
        for site, data in wants.items():
            if files.get(path := want_path(site)) is None:
                files[path] = TargetFile.from_data(path, data, ["sha256"])
                self.tree.put(stored_path(path, sha256(data).hexdigest()), data)
        version = meta.get(f"{SITES}.json", 0)
        if files != old or self._is_due(version, days):
            renew(SITES, self._dated(Targets, version, days, targets=files), director)

        # which versions belong together, and how fresh they are
        stamp, shot = self._newest("timestamp"), self._newest("snapshot")
        version = 0 if shot is None else shot.signed.version
        if done or shot is None or not _verifies(root, "snapshot", shot) or self._is_due(version, days):
            parts = {name: MetaFile(number) for name, number in meta.items()}
            shown = self._dated(Snapshot, version, days, meta=parts)
            version = renew("snapshot", shown, self._key("snapshot", generations["snapshot"])).version
        last = 0 if stamp is None else stamp.signed.version
        is_good = stamp is not None and _verifies(root, "timestamp", stamp)
        if "snapshot" in done or not is_good or self._is_due(last, self._lives.timestamp_days):
            one = self._dated(Timestamp, last, self._lives.timestamp_days, snapshot_meta=MetaFile(version))
            signed = Metadata(one)
            signed.sign(self._key("timestamp", generations["timestamp"]))
            self._put("timestamp.json", signed)
            if last // 86_400 < self._now_s // 86_400:  # once a day
                self._prune(version, meta)
            done.append("timestamp")
        return tuple(done)

    def _prune(self, snapshot: int, meta: Mapping[str, int]) -> None:
        """Remove metadata that is no longer named, once no site can be in the middle of reading it."""
        named = {f"{version}.{name}" for name, version in meta.items()} | {f"{snapshot}.snapshot.json"}
        for path, _ in list(self.tree.names(METADATA)):
            name = path.rpartition("/")[2]
            version, _, role = name.partition(".")
            is_old = version.isdigit() and int(version) < self._now_s - KEPT_S
            if is_old and role != "root.json" and name not in named:
                self.tree.remove(path)

    def standing(self) -> Iterator[tuple[str, int, float, tuple[str, ...], bool]]:
        """Yield role, version, Unix time of its expiry, the ids of its keys, and whether the centre holds them."""
        root = self.root.signed
        held = root.unrecognized_fields[GENERATIONS]
        yield "root", root.version, root.expires.timestamp(), tuple(root.roles["root"].keyids), False
        meta = self._meta()
        for role in ("targets", SITES, "snapshot", "timestamp"):
            found = self._read(role, meta) if role in ("targets", SITES) else self._newest(role)
            if found is not None:
                at_centre = role != "targets" or bool(held["targets"])
                yield role, found.signed.version, found.signed.expires.timestamp(), tuple(found.signatures), at_centre

    def papers(self, site: str) -> Iterator[str]:
        """Yield the paths of everything that is signed for one site and of what that names, the timestamp last."""
        meta, snapshot, root = self._meta(), self._newest("snapshot"), self.root.signed
        assert snapshot is not None
        yield from (f"{METADATA}/{number + 1}.root.json" for number in range(root.version))
        for role in ("targets", SITES):
            found = self._read(role, meta)
            if found is not None:
                files = found.signed.targets if role == "targets" else [want_path(site)]
                yield from (stored_path(path, found.signed.targets[path].hashes["sha256"]) for path in files)
                yield f"{METADATA}/{found.signed.version}.{role}.json"
        yield from (f"{METADATA}/{snapshot.signed.version}.snapshot.json", f"{METADATA}/timestamp.json")

    def _targets(self, models: Mapping[str, Model], version: int, generation: int) -> Any:
        from tuf.api.metadata import DelegatedRole, Delegations, TargetFile, Targets

        made = self._dated(Targets, version, self._lives.targets_days)
        for digest, model in models.items():
            path = model_path(digest)
            made.targets[path] = TargetFile(model.size, {"sha256": model.sha256}, path)
        director = self._key("director", generation).public_key
        role = DelegatedRole(SITES, [director.keyid], 1, True, paths=[want_path("*")])
        made.delegations = Delegations({director.keyid: director}, {SITES: role})
        made.unrecognized_fields[DIRECTOR] = generation
        return made

    def _key(self, role: str, generation: int) -> Any:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return _signer(Ed25519PrivateKey.from_private_bytes(self._secret(f"sites-{role}-{generation}")))

    def _meta(self) -> dict[str, int]:
        """Return the version of each role in the newest snapshot, by file name."""
        found = self._newest("snapshot")
        return {} if found is None else {name: one.version for name, one in found.signed.meta.items()}

    def _newest(self, role: str) -> Metadata[Any] | None:
        if not self._has("timestamp.json"):
            return None
        stamp = self._file("timestamp.json")
        return stamp if role == "timestamp" else self._file(f"{stamp.signed.snapshot_meta.version}.snapshot.json")

    def _read(self, role: str, meta: Mapping[str, int]) -> Metadata[Any] | None:
        version = meta.get(f"{role}.json")
        return None if version is None else self._file(f"{version}.{role}.json")

    def _has(self, name: str) -> bool:
        return self.tree.has(f"{METADATA}/{name}")

    def _file(self, name: str) -> Metadata[Any]:
        from tuf.api.metadata import Metadata

        return Metadata[Any].from_bytes(read_whole(self.tree, f"{METADATA}/{name}", limit=METADATA_BYTES))

    def _put(self, name: str, signed: Metadata[Any]) -> None:
        from tuf.api.serialization.json import JSONSerializer

        self.tree.put(f"{METADATA}/{name}", signed.to_bytes(JSONSerializer(compact=True)))

    def _dated(self, kind: Callable[..., Any], last: int, days: float, **fields: Any) -> Any:
        """Return a role above its last version. It expires so long after its version: where this clock was ahead when
        that was signed, sites do not believe an earlier time any more."""
        version = max(last + 1, self._now_s)
        return kind(version=version, expires=self._expires(days, version), **fields)

    def _expires(self, days: float, from_s: int) -> datetime:
        return datetime.fromtimestamp(min(from_s, self._now_s + FAR_S), UTC) + timedelta(seconds=int(days * 86_400))

    def _is_due(self, version: int, days: float) -> bool:
        """Return whether a signature has used half of its life; its version says when it was made."""
        return self._now_s - version > days * 43_200


def _verifies(judge: Any, role: str, signed: Metadata[Any]) -> bool:
    from tuf.api.exceptions import UnsignedMetadataError

    try:
        judge.verify_delegate(role, signed.signed_bytes, signed.signatures)
    except UnsignedMetadataError:
        return False
    return True


def _said(targets: Any) -> Any:
    """Return what targets says apart from when."""
    return targets.targets, targets.delegations, targets.unrecognized_fields
