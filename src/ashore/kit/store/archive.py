"""A model as one tar of an OCI layout: readable by any OCI tool; paths in it are not trusted."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from ashore.core.errors import CorruptBlob
from ashore.core.foreign import foreign_errors
from ashore.core.ids import Digest
from ashore.kit.boundedreads import BoundedReads
from ashore.kit.folders import make_folder
from ashore.kit.sealing import MAX_ENVELOPE_BYTES, is_key_id
from ashore.kit.store.diskerrors import disk_errors
from ashore.kit.store.fingerprint import sha256_file
from ashore.kit.store.layout import IndexEntry, Layout, check_path, fsync_file, index_bytes
from ashore.kit.store.manifest import descriptors, parse_manifest
from ashore.kit.store.progress import Progress
from ashore.kit.store.refs import parse_reference

MAX_MEMBERS = 100_000
ENVELOPES = "envelopes"
MAX_SMALL_BYTES = 16 << 20
"""Largest index or manifest that is believed."""
_HINT = "this archive is malicious or damaged; nothing was imported"


def write_archive(
    layout: Layout, entry: IndexEntry, tar_path: Path, progress: Progress, *, envelopes: Mapping[str, bytes]
) -> Path:
    """Write the manifest of `entry` and its blobs to `tar_path`, which appears when it is complete. Equal models give
    equal tars: members are sorted, and owners and times are blank.

    Of a sealed model the envelope of its data key (`envelopes`, by id) goes along, and no key that opens that.
    """
    attached = tuple(one for one in layout.read_attached() if one.subject == entry.digest)
    digests = [entry.digest, *(one.digest for one in attached)]
    manifests = {digest: layout.blob_path(digest).read_bytes() for digest in digests}
    blobs = {b.digest: b for data in manifests.values() for b in descriptors(data)}
    total = sum(b.num_bytes for b in blobs.values())
    done = 0
    with disk_errors(tar_path), tempfile.NamedTemporaryFile(dir=tar_path.absolute().parent, delete=False) as out:
        scratch = Path(out.name)
        try:
            with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
                _add_bytes(tar, "oci-layout", (layout.root / "oci-layout").read_bytes())
                _add_bytes(tar, "index.json", index_bytes((entry,), attached))
                for digest in sorted(manifests):
                    _add_bytes(tar, f"blobs/sha256/{digest.removeprefix('sha256:')}", manifests[digest])
                for key_id in sorted(envelopes):
                    _add_bytes(tar, f"{ENVELOPES}/{key_id}.json", envelopes[key_id])
                for digest in sorted(blobs):
                    blob = blobs[digest]
                    layout.check_blob(digest, blob.num_bytes, full=False, what=f"{blob.path} of {entry.name}")
                    with layout.blob_path(digest).open("rb") as file:
                        tar.addfile(_member(f"blobs/sha256/{digest.removeprefix('sha256:')}", blob.num_bytes), file)
                    done += blob.num_bytes
                    progress("export", done, total)
            out.flush()
            fsync_file(scratch)
            scratch.replace(tar_path)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
    return tar_path


def unpack_archive(tar_path: Path, scratch: Path, progress: Progress) -> Layout:
    """Unpack a tar into a layout under `scratch`, hashing every blob.

    Raises:
        CorruptBlob: a path that leaves the folder, a link, a device, a sparse file, a blob that is not what its name
            says, or a manifest whose blobs are not all there.
    """
    layout = Layout(scratch)
    layout.create()
    with _open_tar(tar_path) as tar, disk_errors(scratch):
        total = tar_path.stat().st_size
        done = 0
        for number, member in enumerate(tar):
            if number > MAX_MEMBERS:
                raise CorruptBlob(f"{tar_path.name} has more than {MAX_MEMBERS} members", hint=_HINT)
            if member.isdir():
                continue
            check_path(member.name.removeprefix("./"))
            source = tar.extractfile(member) if member.isreg() and not member.issparse() else None
            if source is None:
                raise CorruptBlob(f"{tar_path.name}: {member.name!r} is a link, a device or sparse", hint=_HINT)
            _take(layout, member.name.removeprefix("./"), member.size, source, tar_path)
            done += member.size
            progress("import", done, total)
    entries = layout.read_index()
    if not entries:
        raise CorruptBlob(
            f"{tar_path.name} has no index.json with a model", hint="expected a tar file made by `ashore model export`"
        )
    for entry in entries:
        parse_reference(f"{entry.name}@{entry.variant}" if entry.variant else entry.name)
        _check_whole(layout, entry.digest, tar_path)
        parse_manifest(layout.blob_path(entry.digest).read_bytes(), entry)
    for attached in layout.read_attached():
        _check_whole(layout, attached.digest, tar_path)
    return layout


def _take(layout: Layout, name: str, num_bytes: int, source: IO[bytes], tar_path: Path) -> None:
    if name in ("index.json", "oci-layout"):
        if num_bytes > MAX_SMALL_BYTES:
            raise CorruptBlob(f"{tar_path.name}: {name} has {num_bytes} bytes", hint=_HINT)
        (layout.root / name).write_bytes(source.read())
        return
    folder, _, digest = name.rpartition("/")
    if folder == ENVELOPES and digest.endswith(".json") and is_key_id(digest.removesuffix(".json")):
        if num_bytes > MAX_ENVELOPE_BYTES:
            raise CorruptBlob(f"{tar_path.name}: {name} has {num_bytes} bytes", hint=_HINT)
        make_folder(layout.root / ENVELOPES)
        (layout.root / name).write_bytes(source.read())
        return
    if folder != "blobs/sha256" or len(digest) != 64:
        raise CorruptBlob(f"{tar_path.name}: {name!r} does not belong in an OCI layout", hint=_HINT)
    target = layout.blobs / digest
    with target.open("wb") as file:
        while chunk := source.read(1 << 20):
            file.write(chunk)
    seen = sha256_file(target)
    if seen != f"sha256:{digest}":
        raise CorruptBlob(f"{tar_path.name}: the blob {digest[:12]} has the hash {seen}", hint=_HINT)


def _check_whole(layout: Layout, digest: Digest, tar_path: Path) -> None:
    path = layout.blob_path(digest)
    if not path.exists() or path.stat().st_size > MAX_SMALL_BYTES:
        raise CorruptBlob(f"{tar_path.name} has no manifest {digest}", hint=_HINT)
    for blob in descriptors(path.read_bytes()):
        if not layout.has_blob(blob.digest, blob.num_bytes):
            raise CorruptBlob(f"{tar_path.name} has no {blob.path} ({blob.digest})", hint=_HINT)


@contextmanager
def _open_tar(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with (
            foreign_errors(f"{path} is not a complete tar file", hint="copy it again"),
            path.open("rb") as file,
            tarfile.open(fileobj=cast("IO[bytes]", BoundedReads(file, MAX_SMALL_BYTES)), mode="r:") as tar,
        ):
            yield tar
    except tarfile.TarError as error:
        raise CorruptBlob(f"{path} is not a complete tar file: {error}", hint="copy it again") from error


def _member(name: str, num_bytes: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = num_bytes
    member.mode = 0o444
    return member


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    import io

    tar.addfile(_member(name, len(data)), io.BytesIO(data))
