"""Take what identifies a patient out of DICOM files of any size: rules, data sets, files, the sealed table."""

from __future__ import annotations

import base64
import csv
import hashlib
import hmac
import io
import json
import os
import re
import secrets
import struct
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset, read_sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, AllTransferSyntaxes, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

warnings.filterwarnings("ignore", module="pydicom")  # files of hospitals are rarely flawless; what is unreadable goes

# ---------------------------------------------------------------- 1. the rules

HEADER_BYTES = 64 << 20
"""Longest data set in front of the pixels, and behind them."""
MOST_READS = 1_000_000
"""Of a data set, and of all its sequences: one or two for each element or item, which takes 300 to 700 bytes of memory
even if it is empty."""
INFLATED_RATIO, INFLATED_BYTES = 100, 64 << 20
"""A deflated data set may grow to this many times its size, and to this size in any case. More is a bomb."""
PIXELS = {0x7FE00008, 0x7FE00009, 0x7FE00010}
TEXT = {"AE", "AS", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
BLOBS = {"OB", "OD", "OF", "OL", "OV", "OW", "UN"}
TABLES = {0x00281101, 0x00281102, 0x00281103, 0x00281201, 0x00281202, 0x00281203, 0x00283006, 0x52009229}
"""Blobs that stay: colour and lookup tables."""
NAMES_SOMEBODY = re.compile(
    "Patient|Person|Physician|Operator|Institution|Accession|Address|Telephone|Admission|Issuer"
)
WITH_TEXT = {"US", "IVUS", "SC", "OT", "ES", "XC", "RF", "GM", "OP", "DOC", "HD", "ECG"}
"""Modalities whose devices write into the picture."""
HELD_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.7": "a secondary capture may show anything, a screen too",
    "1.2.840.10008.5.1.4.1.1.88": "a structured report is text",
    "1.2.840.10008.5.1.4.1.1.104": "an encapsulated document",
    "1.2.840.10008.5.1.4.1.1.11": "a presentation state may draw text",
}


def read_profile() -> dict[int, str]:
    """Return the action of each attribute in the basic profile of PS3.15, annex E (2026c), by tag."""
    with open(Path(__file__).with_name("profile.csv"), encoding="ascii") as file:
        rows = [row for row in csv.DictReader(file) if "x" not in row["tag"]]  # overlays and curves go as groups
    return {int(row["tag"], 16): row["action"] for row in rows}


PROFILE = read_profile()


BROKEN = (NotImplementedError, EOFError, struct.error, pydicom.errors.BytesLengthException)
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, *BROKEN)
"""What the reader raises at broken values."""


class RefusedFile(Exception):
    """A file that is not what it says it is; nothing of it was written."""


# ---------------------------------------------------------------- 2. one data set


@dataclass
class Cleaner:
    """Cleans data sets of one project. The same key gives the same pseudonyms, UIDs and shifts in every run."""

    key: bytes
    table: dict[str, str] = field(default_factory=dict)
    """Pseudonym or new UID to the old one."""
    _left: list[int] = field(default_factory=list)
    """Reads that the sequences of the data set in hand may still take."""

    def _keyed(self, kind: str, value: str) -> bytes:
        return hmac.digest(self.key, f"{kind}:{value}".encode(), hashlib.sha256)

    def uid(self, old: str) -> str:
        """Return the new UID of an old one; those that the standard itself lists stay."""
        if not old or UID(old).name != old:
            return old
        new = f"2.25.{int.from_bytes(self._keyed('uid', old)[:16])}"
        self.table[new] = old
        return new

    def pseudonym(self, ds: Dataset) -> str:
        """Return the pseudonym of the patient of a data set."""
        old = f"{ds.get('PatientID', '')}|{ds.get('IssuerOfPatientID', '')}"
        old = old if old != "|" else f"study {ds.get('StudyInstanceUID', '')}"
        new = "P-" + base64.b32encode(self._keyed("patient", old)[:10]).decode()
        self.table[new] = f"{old}|{ds.get('PatientName', '')}"
        return new

    def clean(self, ds: Dataset, who: str, names: set[str]) -> None:
        """Clean a data set in place, with all nested ones.

        Args:
            ds: The data set in front of the pixels, or the one behind them.
            who: The patient's pseudonym; the shift of dates depends on it.
            names: Names and numbers that were removed from this file; more are added.
        """
        self._left = [MOST_READS]
        days = timedelta(days=1 + int.from_bytes(self._keyed("days", who)[:4]) % 3650)
        self._walk(ds, days, names)
        _erase_echoes(ds, _pattern(names))

    def _walk(self, ds: Dataset, days: timedelta, names: set[str]) -> None:
        for tag in list(ds.keys()):
            try:
                keep = self._element(ds, tag, days, names)
            except UNREADABLE:
                keep = False  # it cannot be read, so it cannot be checked
            if not keep:
                del ds[tag]

    def _element(self, ds: Dataset, tag: BaseTag, days: timedelta, names: set[str]) -> bool:
        """Clean one element; return whether it stays."""
        vr = _known_vr(tag)
        if not vr or tag.group < 8 or 0x5000 <= tag.group < 0x50FF or 0x6000 <= tag.group < 0x60FF:
            return False
        raw = ds.get_item(tag)
        found = raw.VR
        if found not in (None, "UN", *vr.split(" or ")):
            return False
        if vr == "SQ" and isinstance(raw, RawDataElement) and raw.value:
            file, forms = Bounded(io.BytesIO(raw.value), len(raw.value), self._left), ds._character_set or ["iso8859"]
            items = read_sequence(file, raw.is_implicit_VR, raw.is_little_endian, len(raw.value), forms)  # type: ignore[arg-type]
            ds[tag] = DataElement(tag, "SQ", items)
        element, action = ds[tag], PROFILE.get(tag, "")
        if element.VR not in vr.split(" or "):
            return False
        if element.VR == "PN" or (action and element.VR in TEXT and NAMES_SOMEBODY.search(keyword_for_tag(tag))):
            names.update(_parts(element.value, split=element.VR == "PN"))
        if element.VR == "SQ":
            for item in element.value:  # also where it goes: what it names must not stand elsewhere
                self._walk(item, days, names)
            if action not in ("", "X/Z/U*"):
                element.value = []
            return action != "X"
        if action == "X" or (element.VR in BLOBS and tag not in TABLES):
            return False
        if element.VR == "UI":
            many = isinstance(element.value, pydicom.multival.MultiValue)
            element.value = [self.uid(one) for one in element.value] if many else self.uid(str(element.value or ""))
        elif element.VR in ("DA", "DT") and tag != Tag("PatientBirthDate"):
            element.value = _shifted(str(element.value or ""), days)
        elif action or element.VR in ("PN", "TM", "AE", "UR", "DA"):
            dummy = {"TM": "000000", "AS": "000Y", "DS": "0", "IS": "0"}.get(element.VR, "REMOVED")
            element.value = dummy if "D" in action and element.VR != "DA" else ""
        elif element.VR in ("DS", "IS"):
            return all(re.fullmatch(r" *[-+0-9.eE]* *", str(one)) for one in np.atleast_1d(element.value))
        return True


def _known_vr(tag: BaseTag) -> str:
    try:
        return "" if tag.is_private else dictionary_VR(tag)
    except KeyError:
        return ""


def _shifted(value: str, days: timedelta) -> str:
    """Return the earlier date of a date or a time stamp, without its time of day."""
    return (date(int(value[:4]), int(value[4:6]), int(value[6:8])) - days).strftime("%Y%m%d") if value else ""


def _parts(value: Any, *, split: bool) -> Iterator[str]:
    """Yield what names somebody: the whole value, and each word of a person's name."""
    for one in value if isinstance(value, pydicom.multival.MultiValue) else [value]:
        whole = str(one or "").strip()
        for part in {whole, *(re.split(r"[\s^=,]+", whole) if split else ())}:
            if len(part) >= (3 if part.isascii() else 2):
                yield part


def _pattern(names: set[str]) -> re.Pattern[str] | None:
    longest_first = sorted(names, key=len, reverse=True)
    words = [rf"\b{re.escape(one)}\b" if one.isalpha() and one.isascii() else re.escape(one) for one in longest_first]
    return re.compile("|".join(words), re.IGNORECASE) if words else None


def _erase_echoes(ds: Dataset, pattern: re.Pattern[str] | None) -> None:
    """Empty every text that repeats a name or number that was removed elsewhere in the data set."""
    for element in ds if pattern else ():
        if element.VR == "SQ":
            for item in element.value:
                _erase_echoes(item, pattern)
        elif element.VR in TEXT and pattern and pattern.search(str(element.value)):
            element.value = ""


# ---------------------------------------------------------------- 3. one file


class Bounded:
    """A file of which no more can be read than it has, nor more than a header may have."""

    def __init__(self, file: BinaryIO, size: int, reads: list[int] | None = None) -> None:
        """`reads`: how many it may take, counted down; several files may share them."""
        self._file, self._size, self._left, self._reads = file, size, HEADER_BYTES, reads or [MOST_READS]
        self.seek, self.tell = file.seek, file.tell

    def read(self, number: int = -1) -> bytes:
        there = self._size - self._file.tell()
        if number > max(there, 16):
            raise RefusedFile(f"an element says that it has {number:,} bytes, but the file has only {there:,} more")
        content = self._file.read(there if number < 0 else number)
        self._left -= len(content)
        self._reads[0] -= 1
        if self._reads[0] < 0:
            raise RefusedFile(f"more than {MOST_READS:,} elements stand in front of the pixels or behind them")
        if self._left < 0:
            raise RefusedFile(f"more than {HEADER_BYTES >> 20} MiB stand in front of the pixels or behind them")
        return content


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of one file."""

    path: Path | None
    """The clean file; None where it was held back."""
    held: str = ""
    who: str = ""
    pixels: str = ""
    """Digest of the pixels as they were written."""


def deidentify(source: Path, folder: Path, cleaner: Cleaner) -> Written:
    """Write a clean copy of a DICOM file into `folder`, under its new UID; pixels are copied as a stream.

    Raises:
        RefusedFile: it is not a DICOM file, says that it is longer than it is, or is a bomb. Nothing is written.
    """
    with open(source, "rb") as file, tempfile.TemporaryFile(dir=folder) as inflated:
        try:
            return _deidentify(file, inflated, folder, cleaner)
        except (*UNREADABLE, RecursionError, OSError) as fault:
            if getattr(fault, "errno", None):  # the disk is at fault, not the file
                raise
            raise RefusedFile(f"not a sound DICOM file: {type(fault).__name__} {fault}"[:200]) from fault


def _deidentify(file: BinaryIO, inflated: BinaryIO, folder: Path, cleaner: Cleaner) -> Written:
    size = os.fstat(file.fileno()).st_size
    if file.read(132)[128:] != b"DICM":
        raise RefusedFile("not a DICOM file: DICM is missing at byte 128")
    old_meta = _read(file, size, ExplicitVRLittleEndian, lambda tag, *_: tag >> 16 != 2)
    syntax = UID(str(old_meta.get("TransferSyntaxUID", "")))
    if syntax not in AllTransferSyntaxes or syntax.is_private:
        raise RefusedFile(f"unknown transfer syntax {str(syntax)[:64]!r}")
    if syntax == DeflatedExplicitVRLittleEndian:
        size, file, syntax = _inflate(file, inflated, size), inflated, ExplicitVRLittleEndian
    ds = _read(file, size, syntax, lambda tag, *_: tag in PIXELS)
    if held := why_held(ds):
        return Written(path=None, held=held)
    if not ds.get("SOPInstanceUID") or not ds.get("SOPClassUID"):
        raise RefusedFile("it has no SOP instance or class UID: not an image of a study")
    who, names = cleaner.pseudonym(ds), set[str]()
    cleaner.clean(ds, who, names)
    ds.PatientID = ds.PatientName = who
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = "PS3.15 basic profile; dates shifted; what is not in the dictionary removed"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    target = folder / f"{ds.SOPInstanceUID}.dcm"
    part = target.with_suffix(".part")
    try:
        with open(part, "wb") as out:
            out.write(_written(ds, syntax, meta=True))
            digest = _copy_pixels(file, out, size, syntax)
            if file.tell() < size:
                behind = _read(file, size, syntax)
                cleaner.clean(behind, who, names)
                out.write(_written(behind, syntax, meta=False))
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)
    return Written(path=target, who=who, pixels=digest)


def _read(file: BinaryIO, size: int, syntax: UID, stop: Callable[..., bool] | None = None) -> Dataset:
    return read_dataset(Bounded(file, size), syntax.is_implicit_VR, syntax.is_little_endian, stop_when=stop)


def _written(ds: Dataset, syntax: UID, *, meta: bool) -> bytes:
    if meta:
        ds.save_as(whole := io.BytesIO(), enforce_file_format=True)
        return b"\0" * 128 + whole.getvalue()[128:]  # the preamble may hold anything
    out = pydicom.filebase.DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = syntax.is_implicit_VR, syntax.is_little_endian
    pydicom.filewriter.write_dataset(out, ds)
    return out.getvalue()


def _inflate(file: BinaryIO, out: BinaryIO, size: int) -> int:
    """Inflate the rest of a file into another one, and return how long it became."""
    stream, written, most = zlib.decompressobj(-zlib.MAX_WBITS), 0, max(INFLATED_BYTES, INFLATED_RATIO * size)
    try:
        while chunk := stream.unconsumed_tail or file.read(1 << 20):
            written += out.write(stream.decompress(chunk, 1 << 22))
            if written > most:
                raise RefusedFile(f"{size:,} deflated bytes became more than {most:,}: a bomb")
    except zlib.error as fault:
        raise RefusedFile(f"the deflated data set is broken: {fault}") from fault
    if not stream.eof:
        raise RefusedFile("the deflated data set is broken: it does not end")
    out.seek(0)
    return written


def why_held(ds: Dataset) -> str:
    """Return why a file must not pass without a person who looks at it: text in its pixels. Empty: it may pass."""
    kind = str(ds.get("SOPClassUID", ""))
    for start, reason in HELD_CLASSES.items():
        if kind == start or kind.startswith(f"{start}."):
            return reason
    said = str(ds.get("BurnedInAnnotation", "")).strip().upper()
    if said == "YES":
        return "it says itself that text is burned in"
    if said != "NO" and str(ds.get("Modality", "")).strip().upper() in WITH_TEXT:
        return f"devices of modality {ds.Modality} write into the picture, and it does not say that this one did not"
    return ""


def _copy_pixels(file: BinaryIO, out: BinaryIO, size: int, syntax: UID) -> str:
    """Copy the pixel element, a few MiB at a time; in compressed frames, comments are blanked. Return its digest."""
    digest, order = hashlib.blake2b(digest_size=16), "<" if syntax.is_little_endian else ">"

    def copy(number: int, *, frame: bool = False) -> None:
        if number > size - file.tell():
            raise RefusedFile(
                f"the pixels say that they have {number:,} bytes, but the file has {size - file.tell():,}"
            )
        while number:
            block = file.read(min(number, 4 << 20))
            number -= len(block)
            block = blank_comments(block) if frame else block
            frame = False
            digest.update(block)
            out.write(block)

    if file.tell() == size:
        return ""
    long = not syntax.is_implicit_VR
    head = file.read(12 if long else 8)
    (length,) = struct.unpack(f"{order}I", head[-4:]) if len(head) == (12 if long else 8) else (0,)
    out.write(head)
    if length != 0xFFFFFFFF:
        copy(length)
        return digest.hexdigest()
    while True:
        item = file.read(8)
        if len(item) < 8 or item[:4] not in (b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"):
            raise RefusedFile("the compressed frames do not end as they should")
        out.write(item)
        if item[2:4] == b"\xdd\xe0":
            return digest.hexdigest()
        copy(struct.unpack("<I", item[4:])[0], frame=True)


def blank_comments(frame: bytes) -> bytes:
    """Return a JPEG or JPEG 2000 frame with zeros in its comments and application data; no length changes."""
    if frame[:2] not in (b"\xff\xd8", b"\xff\x4f"):
        return frame
    content, at = bytearray(frame), 2
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] not in (0xDA, 0x90):
        kind, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4])
        keep = 0xE0, 0xE8, 0xEE  # JFIF, SPIFF and Adobe say what the colours mean
        if kind in (0xFE, 0x64) or (0xE0 <= kind <= 0xEF and kind not in keep):
            end = min(at + 2 + length, len(content))
            content[at + 4 : end] = bytes(max(0, end - at - 4))
        at += 2 + max(2, length)
    return bytes(content)


# ---------------------------------------------------------------- 4. the table that leads back


def seal_table(cleaner: Cleaner, path: Path) -> None:
    """Write the table of pseudonyms, readable only with the project's key."""
    nonce = secrets.token_bytes(12)
    key = hmac.digest(cleaner.key, b"table", hashlib.sha256)
    path.write_bytes(nonce + AESGCM(key).encrypt(nonce, json.dumps(cleaner.table).encode(), None))


def open_table(key: bytes, path: Path) -> dict[str, str]:
    """Return the table of pseudonyms: pseudonym or new UID to the old one."""
    sealed = path.read_bytes()
    table = AESGCM(hmac.digest(key, b"table", hashlib.sha256)).decrypt(sealed[:12], sealed[12:], None)
    return dict(json.loads(table))
