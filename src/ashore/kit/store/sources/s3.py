"""Models in a bucket of any S3 server: an OCI layout that `push` wrote, or plain files.

Address and login come from the usual `AWS_*` variables (`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, …). One prefix holds
one model, so two pushes never write one index.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from ashore.core.errors import AshoreError, CorruptBlob, RemoteRefused, SourceUnreachable, UnknownModel
from ashore.core.foreign import foreign_errors
from ashore.core.ids import Digest
from ashore.kit.bucket import S3_HINT, Bucket
from ashore.kit.folders import make_folder
from ashore.kit.store.diskerrors import disk_errors
from ashore.kit.store.fingerprint import sha256_file
from ashore.kit.store.layout import MANIFEST_MEDIA_TYPE, IndexEntry, check_path, index_bytes
from ashore.kit.store.manifest import Descriptor
from ashore.kit.store.ports import Origin
from ashore.kit.store.progress import Progress
from ashore.kit.store.refs import checked_digest, name_from, parse_reference
from ashore.kit.store.sources.selection import RemoteFile, choose_files

INDEX_HINT = "push the model again from an intact store"
CHUNK_BYTES = 4 << 20
MAX_FRUITLESS_TRIES = 4
_ABOUT = "ashore.attached.to"


class ModelBucket(Bucket):
    """A prefix of a bucket, with models."""

    connect_s, timeout_s = 15, 300

    @property
    def server(self) -> str:
        """Which server is asked, for people."""
        return self.endpoint or "amazonaws.com (AWS_ENDPOINT_URL is not set)"

    def missing(self, key: str) -> AshoreError:
        return UnknownModel(
            f"s3://{self.bucket}/{key} does not exist",
            hint="for a directory of plain files, end the address with a slash: s3://BUCKET/DIRECTORY/",
        )

    def refused(self, key: str) -> AshoreError:
        return RemoteRefused(f"{self.server} denies access to {key}", hint=S3_HINT)

    def away(self, key: str, said: str) -> AshoreError:
        return SourceUnreachable(f"cannot reach {self.server}: {said}", hint=S3_HINT)

    def download(self, name: str, target: Path, num_bytes: int, stage: str, progress: Progress) -> None:
        """Download an object to `target` through `target.part`, resuming from its content."""
        part = target.with_name(target.name + ".part")
        make_folder(part.parent)
        fruitless = 0
        while not target.exists():
            have = part.stat().st_size if part.exists() else 0
            if have >= num_bytes:
                part.touch()
                part.replace(target)
                return
            try:
                self._read_on(name, part, have, num_bytes, stage, progress)
            except SourceUnreachable:
                fruitless = 0 if part.exists() and part.stat().st_size > have else fruitless + 1
                if fruitless >= MAX_FRUITLESS_TRIES:
                    raise

    def _read_on(self, name: str, part: Path, have: int, num_bytes: int, stage: str, progress: Progress) -> None:
        with disk_errors(part), part.open("ab") as file:
            for chunk in self.chunks(name, start=have):
                file.write(chunk)
                have += len(chunk)
                progress(stage, have, num_bytes)


class S3LayoutRemote:
    """`s3://BUCKET/PATH`: an OCI layout under a prefix."""

    def __init__(self, text: str) -> None:
        self._bucket = ModelBucket(text)

    @property
    def suggested_name(self) -> str:
        return name_from(self._bucket.prefix)

    def read_manifest(self) -> bytes:
        with foreign_errors(f"index.json under {self._bucket.prefix} is not an OCI index", hint=INDEX_HINT):
            digest = checked_digest(json.loads(self._bucket.read("index.json"))["manifests"][0]["digest"])
        return self._bucket.read(f"blobs/sha256/{digest.removeprefix('sha256:')}")

    def fetch_blob(self, blob: Descriptor, target: Path, progress: Progress) -> None:
        key = _blob_key(blob.digest)
        self._bucket.download(key, target, blob.num_bytes, f"download {blob.path}", progress)
        seen = sha256_file(target)
        if seen != blob.digest:
            target.unlink()
            raise CorruptBlob(f"s3 object {self._bucket.key(key)} has the hash {seen}", hint=INDEX_HINT)

    def has_blob(self, blob: Descriptor) -> bool:
        return self._bucket.size(_blob_key(blob.digest)) == blob.num_bytes

    def send_blob(self, blob: Descriptor, path: Path, progress: Progress) -> None:
        def pieces() -> Iterator[bytes]:
            done = 0
            with path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
                    done += len(chunk)
                    progress(f"upload {blob.path}", done, blob.num_bytes)

        self._bucket.write(_blob_key(blob.digest), pieces())

    def hash_of(self, blob: Descriptor, progress: Progress) -> Digest:
        """Return the digest of a blob as read back from the bucket. Reads all of it."""
        import hashlib

        done, found = 0, hashlib.sha256()
        for chunk in self._bucket.chunks(_blob_key(blob.digest)):
            found.update(chunk)
            done += len(chunk)
            progress(f"read back {blob.path}", done, blob.num_bytes)
        return Digest(f"sha256:{found.hexdigest()}")

    def write_manifest(self, data: bytes, *, name: str) -> None:
        digest = _digest(data)
        reference = parse_reference(name)
        entry = IndexEntry(
            digest=digest, num_bytes=len(data), name=reference.name, variant=reference.variant, tagged=True, created_s=0
        )
        self._bucket.write(_blob_key(digest), data)
        self._bucket.write("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        self._bucket.write("index.json", index_bytes((entry,)))

    def write_referrer(self, data: bytes, *, subject: Digest) -> None:
        digest = _digest(data)
        index = json.loads(self._bucket.read("index.json"))
        others = [item for item in index["manifests"] if item["digest"] != digest]
        entry = {
            "mediaType": MANIFEST_MEDIA_TYPE,
            "artifactType": json.loads(data)["artifactType"],
            "digest": digest,
            "size": len(data),
            "annotations": {_ABOUT: subject},
        }
        self._bucket.write(_blob_key(digest), data)
        self._bucket.write("index.json", json.dumps({**index, "manifests": [*others, entry]}).encode())

    def read_referrers(self, subject: Digest) -> tuple[bytes, ...]:
        with foreign_errors(f"index.json under {self._bucket.prefix} is not an OCI index", hint=INDEX_HINT):
            items = json.loads(self._bucket.read("index.json"))["manifests"]
            about = [
                checked_digest(item["digest"]) for item in items if item.get("annotations", {}).get(_ABOUT) == subject
            ]
        found = tuple(self._bucket.read(_blob_key(digest)) for digest in about)
        for digest, data in zip(about, found, strict=True):
            if _digest(data) != digest:
                raise CorruptBlob(f"s3 object {_blob_key(digest)} has a different hash", hint="push the model again")
        return found


class S3FilesSource:
    """`s3://BUCKET/FOLDER/` or `s3://BUCKET/…/NAME.gguf`: plain files, as a hub has them."""

    def __init__(self, text: str, *, text_only: bool = False) -> None:
        self._text = text
        self._text_only = text_only
        self._bucket = ModelBucket(text)
        self._chosen: tuple[RemoteFile, ...] = ()

    def resolve(self) -> Origin:
        prefix = self._bucket.prefix
        if prefix.endswith(".gguf"):
            if (size := self._bucket.size("")) is None:
                raise self._bucket.missing(prefix)
            self._chosen = (RemoteFile(path="", num_bytes=size),)
        else:
            offered = [RemoteFile(path=path, num_bytes=size) for path, size in self._bucket.sizes("")]
            if not offered:
                raise UnknownModel(f"{self._text} has no files", hint="check the bucket and the path")
            self._chosen = choose_files(offered, "", self._text, text_only=self._text_only)
        return Origin(
            pinned=self._text.rstrip("/"),
            suggested_name=name_from(prefix),
            mutable=True,
            num_bytes=sum(f.num_bytes for f in self._chosen),
        )

    def fetch(self, origin: Origin, into: Path, progress: Progress) -> Path:
        folder = into / "files"
        for file in self._chosen:
            if file.path:
                check_path(file.path)
            local = file.path or self._bucket.prefix.rpartition("/")[2]
            self._bucket.download(file.path, folder / local, file.num_bytes, f"download {local}", progress)
        return folder


def _blob_key(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _digest(data: bytes) -> Digest:
    import hashlib

    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")
