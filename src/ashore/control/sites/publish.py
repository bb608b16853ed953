"""Writes models into the centre's tree, takes out what no model needs, and copies what one site lacks to a stick.

Segments are named by their digests: a killed call leaves some that nobody names, and the next one finds them. What
names them is signed afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from hashlib import sha256
from typing import Final

import msgspec

from ashore.control.sites.delta import Index, ModelFiles, cut_file, make_delta, unpack
from ashore.control.sites.model import ModelParts, Segment
from ashore.control.sites.ports import Tree, WrongBytes, read_whole
from ashore.core.errors import InvalidRequest, UnknownModel, UnknownVariant
from ashore.kit.store import ModelStore, StoredModel
from ashore.kit.store.manifest import descriptors

BASES: Final = 3
"""Earlier versions that a delta is made from."""
WORTH: Final = 0.6
"""Share of the whole above which a delta is not published."""


def publish_model(store: ModelStore, tree: Tree, reference: str, *, earlier: Sequence[ModelParts] = ()) -> ModelParts:
    """Write the segments of a model, and deltas from earlier ones; return the list to be signed.

    May be called twice; what is there is not written again.

    Args:
        store: The centre's store.
        tree: Where sites read.
        reference: The model, `name` or `name@variant`.
        earlier: Models that sites may have, the newest last. Those that the store has lost are left out.

    Raises:
        InvalidRequest: the model is sealed. UnknownModel, UnknownVariant, CorruptBlob, WeightsAway.
    """
    model = store.resolve(reference)
    new, keep = _files_of(store, model), partial(_keep, tree, [])
    parts = ModelParts(
        digest=model.digest,
        name=model.reference,
        files=tuple(cut_file(path, new, keep) for path in new.files),
    )
    deltas, bare = [], model.name
    likely = sorted(earlier, key=lambda one: one.name.partition("@")[0] == bare)  # others may be what it was tuned from
    for one in [one for one in likely if one.digest != parts.digest][-BASES:]:
        try:
            base = _files_of(store, store.resolve(f"{one.name.partition('@')[0]}@{one.digest}"))
        except (UnknownModel, UnknownVariant):
            continue
        written: list[Segment] = []
        delta = make_delta(base, new, partial(_keep, tree, written))
        if delta.size <= WORTH * parts.stored:
            deltas.append(delta)
        else:
            for segment in written:
                tree.remove(segment.path)
    return msgspec.structs.replace(parts, deltas=tuple(deltas))


def prune(tree: Tree, keep: Iterable[ModelParts]) -> int:
    """Delete segments that none of these models needs; return their bytes. Not while a model is being published."""
    needed = {one.path for parts in keep for one in _segments(tree, parts, frozenset())}
    needed |= {one.path for parts in keep for delta in parts.deltas for one in _of_delta(tree, delta.index)}
    idle = [(path, size) for path, size in tree.names("segments") if path not in needed]
    for path, _ in idle:
        tree.remove(path)
    return sum(size for _, size in idle)


def export(
    tree: Tree, stick: Tree, *, papers: Iterable[str], wanted: Iterable[ModelParts], have: frozenset[str]
) -> int:
    """Copy to a stick what a site needs to have the wanted models; return the bytes of the segments there.

    May be called again for a stick that was pulled out, or has gone bad: what is there is read, and papers follow the
    segments that they name.

    Args:
        tree: The centre's.
        stick: The same tree, for one site.
        papers: Signed files, in the order in which they are copied.
        wanted: Models that the site shall have.
        have: Digests of models that it reported.
    """
    total = 0
    for parts in wanted:
        if parts.digest in have:
            continue
        for segment in _segments(tree, parts, have):
            total += segment.stored
            if not _is_whole(stick, segment):
                stick.put(segment.path, read_whole(tree, segment.path, limit=segment.stored))
    for path in papers:
        stick.put(path, read_whole(tree, path, limit=1 << 30))
    return total


def _files_of(store: ModelStore, model: StoredModel) -> ModelFiles:
    """Return the blobs of a model, verified: manifest, config, and files."""
    if model.sealed is not None:
        raise InvalidRequest(
            f"{model.reference} is sealed; sites cannot open it, and the tree would hold its clear bytes",
            hint=f"publish a model that is not sealed, or run `ashore model unseal {model.name}` first",
        )
    store.open(f"{model.name}@{model.digest}")
    config, *files = descriptors(store.blob_path(model.digest).read_bytes())
    digests = {"/manifest": model.digest, "/config": config.digest} | {one.path: one.digest for one in files}
    return ModelFiles(
        digest=model.digest,
        files={path: store.blob_path(digest) for path, digest in digests.items()},
        sha256={path: digest.removeprefix("sha256:") for path, digest in digests.items()},
    )


def _keep(tree: Tree, written: list[Segment], segment: Segment, frame: bytes) -> None:
    """Write a segment that is not there."""
    if not tree.has(segment.path):
        tree.put(segment.path, frame)
        written.append(segment)


def _is_whole(tree: Tree, segment: Segment) -> bool:
    try:
        there = tree.has(segment.path) and read_whole(tree, segment.path, limit=segment.stored)
    except WrongBytes:
        return False
    return there is not False and sha256(there).hexdigest() == segment.sha256


def _segments(tree: Tree, parts: ModelParts, have: frozenset[str]) -> Iterable[Segment]:
    """Return the segments by which a site comes to a model: of the smallest delta from what it has, or all."""
    deltas = sorted((one for one in parts.deltas if one.base in have), key=lambda one: one.size)
    if deltas:
        return _of_delta(tree, deltas[0].index)
    return {one.sha256: one for file in parts.files for one in file.segments}.values()


def _of_delta(tree: Tree, index: Segment) -> Iterable[Segment]:
    frame = read_whole(tree, index.path, limit=index.stored)
    return (index, *msgspec.json.decode(unpack(index, frame), type=Index).segments)
