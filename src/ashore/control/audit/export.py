"""Exports records as CSV, JSON lines or CEF, with a manifest signed by the home's key.

With the public key anyone can verify the file and the query that it answers.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import msgspec

from ashore import __version__
from ashore.control.audit.verify import Problem
from ashore.core.errors import Conflict, NotFound
from ashore.data.audit import Query, shown_moment
from ashore.data.audit.canonical import printable
from ashore.data.audit.checkpoints import CHECKPOINTS
from ashore.data.audit.model import FORMAT, Record
from ashore.data.audit.search import Hit, oldest_first
from ashore.data.audit.segments import LocalShelf, chains_in, segment_path, segments_of
from ashore.data.audit.signing import PublicKey, SigningKey
from ashore.kit.folders import make_folder

Format = Literal["csv", "jsonl", "cef"]
SIGNED: Final = f"ashore audit export {FORMAT}\n".encode()
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.sig"
BLOCK_BYTES: Final = 1 << 20

COLUMNS: Final = (
    "at", "chain", "seq", "kind", "action", "actor", "tenant", "key", "origin", "resource", "outcome", "reason",
    "model", "release", "route", "cache", "prompt_tokens", "completion_tokens", "cached_tokens", "masked", "error",
    "latency_ms", "request_id", "prompt", "answer", "detail", "at_us", "mono_us",
)  # fmt: skip
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for the beginning of a formula, its full-width twins too."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was exported, when and for which query."""

    at_us: int
    by: str
    checkpoint: int
    """Number of the last checkpoint when it was made; 0: none."""
    columns: tuple[str, ...]
    file: str
    form: Format
    format: int = FORMAT
    home: str
    key_id: str
    num_bytes: int
    query: dict[str, str | int]
    records: int
    sha256: str
    version: str


_encode: Final = msgspec.json.Encoder(order="sorted").encode


def csv_row(hit: Hit) -> bytes:
    """Return a hit as one line of CSV, safe against formulas and line breaks."""
    row = io.StringIO()
    csv.writer(row, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow([_cell(value) for value in _values(hit)])
    return row.getvalue().encode()


def csv_head() -> bytes:
    return ",".join(f'"{name}"' for name in COLUMNS).encode() + b"\n"


def jsonl_row(hit: Hit) -> bytes:
    """Return a hit as one line of JSON: the record as stored, and its place."""
    told: dict[str, Any] = msgspec.to_builtins(hit.record)
    return plain_json({**told, "at": shown_moment(hit.record.at_us), "chain": hit.place.chain}) + b"\n"


def cef_row(hit: Hit) -> bytes:
    """Return a hit as one line of CEF."""
    return cef_line(hit.record, hit.place.chain) + b"\n"


def cef_line(record: Record, chain: str) -> bytes:
    """Return a record in ArcSight's Common Event Format, version 0, without the end of the line."""
    severity = 6 if record.outcome in ("denied", "failed") else 3
    facts = {
        "rt": record.at_us // 1000,
        "suser": record.actor,
        "src": record.origin,
        "act": record.action,
        "outcome": record.outcome,
        "reason": record.reason or record.error,
        "externalId": f"{chain}#{record.seq}",
        "request": record.route,
        "cs1Label": "tenant",
        "cs1": record.tenant,
        "cs2Label": "resource",
        "cs2": record.resource or record.model,
        "cs3Label": "release",
        "cs3": record.release,
        "cs4Label": "key",
        "cs4": record.key,
        "cs5Label": "requestId",
        "cs5": record.request_id,
        "cs6Label": "detail",
        "cs6": plain_json({**record.detail, **record.masked}).decode() if record.detail or record.masked else "",
        "cn1Label": "promptTokens",
        "cn1": record.prompt_tokens,
        "cn2Label": "completionTokens",
        "cn2": record.completion_tokens,
    }
    kept = {name: value for name, value in facts.items() if value not in ("", 0)}
    told = " ".join(
        f"{name}={_cef_value(str(value))}" for name, value in kept.items() if not _is_idle_label(name, kept)
    )
    name = _cef_head(record.action)
    return f"CEF:0|ashore|ashore|{_cef_head(__version__)}|{name}|{name}|{severity}|{told}".encode()


ROWS: Final[dict[str, Callable[[Hit], bytes]]] = {"csv": csv_row, "jsonl": jsonl_row, "cef": cef_row}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The query and the requester."""

    query: Query
    form: Format
    by: str
    at_us: int
    home: str
    checkpoint: int


def export(root: Path, into: Path, order: Order, key: SigningKey) -> Manifest:
    """Write records, manifest and signature into a new folder, and return the manifest.

    Raises:
        Conflict: the folder exists.
    """
    if into.exists() or into.is_symlink():
        raise Conflict(f"{into} already exists", hint="name a new directory")
    make_folder(into, mode=0o700)
    name = f"records.{order.form}"
    with (into / name).open("xb") as file:
        written = write_rows(file, oldest_first(LocalShelf(root), order.query), order.form)
        file.flush()
        os.fsync(file.fileno())
    asked = {name: value for name, value in msgspec.to_builtins(order.query).items() if value and name != "limit"}
    manifest = Manifest(
        at_us=order.at_us,
        by=order.by,
        checkpoint=order.checkpoint,
        columns=COLUMNS if order.form == "csv" else (),
        file=name,
        form=order.form,
        home=order.home,
        key_id=key.public.key_id,
        num_bytes=written.num_bytes,
        query=asked,
        records=written.records,
        sha256=written.sha256,
        version=__version__,
    )
    body = _encode(manifest)
    (into / MANIFEST).write_bytes(body)
    (into / SIGNATURE).write_bytes(base64.b64encode(key.sign(SIGNED + body)) + b"\n")
    return manifest


@dataclass(frozen=True, slots=True)
class Written:
    """What `write_rows` wrote."""

    records: int
    num_bytes: int
    sha256: str


def write_rows(file: BinaryIO, hits: Iterator[Hit], form: Format) -> Written:
    """Write hits in a format; holds one in memory."""
    digest, records, num_bytes = hashlib.sha256(), 0, 0
    make = ROWS[form]
    head = csv_head() if form == "csv" else b""
    file.write(head)
    digest.update(head)
    num_bytes += len(head)
    for hit in hits:
        row = make(hit)
        file.write(row)
        digest.update(row)
        records, num_bytes = records + 1, num_bytes + len(row)
    return Written(records, num_bytes, digest.hexdigest())


def copy_chains(root: Path, into: Path) -> int:
    """Copy the chains for an auditor who verifies them elsewhere; return the number of files.

    Checkpoints go first, so that every one covers records that are copied after it.

    Raises:
        Conflict: the folder exists.
    """
    if into.exists() or into.is_symlink():
        raise Conflict(f"{into} already exists", hint="name a new directory")
    make_folder(into, mode=0o700)
    files = [root / CHECKPOINTS]
    files += [segment_path(root, chain, number) for chain in chains_in(root) for number in segments_of(root, chain)]
    for file in files:
        target = into / file.relative_to(root)
        make_folder(target.parent, mode=0o700)
        shutil.copyfile(file, target)
    return len(files)


def verify_export(folder: Path, trusted: Sequence[PublicKey]) -> tuple[Manifest | None, Problem | None]:
    """Return the manifest, and the fault found: the signature, the file's bytes, or none.

    Raises:
        NotFound: the folder is not an export.
    """
    for name in (MANIFEST, SIGNATURE):
        if not (folder / name).is_file():  # nor a pipe, which would block the verifier for ever
            raise NotFound(
                f"{folder} is not an export: it has no file {name}", hint=f"an export has {MANIFEST} and {SIGNATURE}"
            )
    try:
        body, signature = (folder / MANIFEST).read_bytes(), (folder / SIGNATURE).read_bytes()
    except OSError as fault:
        raise NotFound(
            f"{folder} is not a readable export: {fault.strerror}", hint=f"an export has {MANIFEST} and {SIGNATURE}"
        ) from fault
    try:
        raw = base64.b64decode(signature.strip(), validate=True)
    except ValueError:
        raw = b""
    if not any(key.verifies(raw, SIGNED + body) for key in trusted):
        return None, _problem(folder / SIGNATURE, "none of the given keys signed the manifest")
    manifest = msgspec.json.decode(body, type=Manifest)
    path = folder / Path(manifest.file).name
    digest = hashlib.sha256()
    if path.exists() and not path.is_file():
        return manifest, _problem(path, "it is not a file")
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
    except OSError as fault:
        return manifest, _problem(path, f"it cannot be read: {fault.strerror}")
    if digest.hexdigest() != manifest.sha256:
        return manifest, _problem(
            path, f"its hash is {digest.hexdigest()[:16]}…; the signed hash is {manifest.sha256[:16]}…"
        )
    return manifest, None


def _problem(path: Path, what: str) -> Problem:
    return Problem(file=str(path), line=0, seq=0, what=what)


def _values(hit: Hit) -> list[object]:
    record = hit.record
    told: dict[str, object] = {name: getattr(record, name) for name in record.__struct_fields__}
    told |= {"at": shown_moment(record.at_us), "chain": hit.place.chain}
    told |= {name: plain_json(told[name]).decode() if told[name] else "" for name in ("detail", "masked")}
    return [told[name] for name in COLUMNS]


def _cell(value: object) -> str:
    """Return a value as a cell: on one line, and not a formula."""
    if isinstance(value, int | float):
        return str(value)
    text = printable(str(value))
    return f"'{text}" if text.startswith(FORMULA) else text


def plain_json(value: object) -> bytes:
    """Return JSON on one line, without hidden characters."""
    return printable(_encode(value).decode()).encode()


def _cef_head(text: str) -> str:
    return printable(text).replace("\\", "\\\\").replace("|", "\\|")


def _cef_value(text: str) -> str:
    return printable(text).replace("\\", "\\\\").replace("=", "\\=")


def _is_idle_label(name: str, kept: dict[str, object]) -> bool:
    return name.endswith("Label") and name.removesuffix("Label") not in kept
