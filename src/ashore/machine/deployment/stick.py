"""Checks a stick, the directory that `make bundle` writes, before anything of it is unpacked.

Who signed the list of its files, whether the files are those of the list, whether it is an older release than the one
that is installed, and whether its tars hold plain files alone. The signature is one of `ssh-keygen -Y sign`, by an
Ed25519 key, in the namespace `ashore-bundle`.
Source: PROTOCOL.sshsig of OpenSSH.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import stat
import struct
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from ashore.core.errors import Conflict, CorruptBlob, InvalidRequest
from ashore.kit.carried import Release
from ashore.kit.textfile import read_text_file

NAMESPACE: Final = "ashore-bundle"
SUMS: Final = "SHA256SUMS"
SIGNATURES: Final = (f"{SUMS}.sig", f"{SUMS}.asc", "packages/InRelease", "packages/repodata/repomd.xml.asc")
"""Written after the list: each is checked by the program that reads it."""
_ARMOUR: Final = re.compile(r"-----BEGIN SSH SIGNATURE-----\n([A-Za-z0-9+/=\n]+)-----END SSH SIGNATURE-----\n?")
_LINE: Final = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9][A-Za-z0-9._+/-]*)")
_AGAIN: Final = "do not install it; copy the stick again, from where it was made"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What a signed list says."""

    release: Release
    hashes: dict[str, str]
    """SHA-256 by path below the stick."""


def read_list(stick: Path, key: Path) -> Listed:
    """Return the list of a stick, whose signature was checked with a public key.

    Args:
        stick: The directory with SHA256SUMS and SHA256SUMS.sig.
        key: Public key as `ssh-keygen` writes it: `ssh-ed25519 AAAA…`.

    Raises:
        InvalidRequest: a file is missing, or the key is not one.
        CorruptBlob: another key signed it, or what is signed is not the list of a release.
    """
    missing = "expected the directory that `make bundle` wrote, with --ssh-key"
    text = read_text_file(stick / SUMS, "the list of the stick", hint=missing)
    signature = read_text_file(stick / SIGNATURES[0], "the signature of the stick", hint=missing)
    _check_signature(text.encode(), signature, key)
    head, *lines = text.splitlines()
    release = Release.parse(head[2:]) if head.startswith("# ") else None
    matches = [_LINE.fullmatch(line) for line in lines]
    hashes = {match[2]: match[1] for match in matches if match}
    if release is None or len(hashes) != len(lines) or any(".." in PurePosixPath(one).parts for one in hashes):
        raise CorruptBlob(f"{stick / SUMS} is signed and is not the list of a stick", hint=_AGAIN)
    return Listed(release=release, hashes=hashes)


def refuse_older(release: Release, installed: Release | None) -> None:
    """Check that a release may follow the installed one.

    Raises:
        Conflict: it is older: faults that were mended since would come back, with a valid signature.
    """
    if installed is not None and release.made_s < installed.made_s:
        raise Conflict(
            f"the stick has ashore {release.version}, which is older than the installed {installed.version}",
            hint="give --older if you want to go back to it",
        )


def check_files(stick: Path, listed: Listed) -> int:
    """Check that a stick has the files of its list, and no others; return how many bytes they have.

    Raises:
        CorruptBlob: a file is missing, changed, not plain or not in the list, or a tar has what no release has.
    """
    there = {path.relative_to(stick).as_posix() for path in stick.rglob("*") if path.is_symlink() or not path.is_dir()}
    more = sorted(there - listed.hashes.keys() - {SUMS, *SIGNATURES})
    faults = [f"not in {SUMS}: {name!a}" for name in more]
    total = 0
    for name, wanted in listed.hashes.items():
        seen, num_bytes = _hash(stick / name)
        total += num_bytes
        if seen != wanted:
            faults.append(f"{'changed' if seen else 'missing'}: {name}")
    if not faults:
        tars = [name for name in listed.hashes if name.endswith((".tar", ".tar.gz"))]
        faults = [f"{name}: {fault}" for name in tars for fault in _odd_members(stick / name)]
    if faults:
        raise CorruptBlob(f"{stick} is not the stick that was signed: {'; '.join(faults[:20])}", hint=_AGAIN)
    return total


def _hash(path: Path) -> tuple[str, int]:
    """Return the SHA-256 and size of a plain file; of anything else an empty hash."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return "", 0
    with open(opened, "rb") as file:
        about = os.fstat(opened)
        return (
            (hashlib.file_digest(file, "sha256").hexdigest(), about.st_size) if stat.S_ISREG(about.st_mode) else ("", 0)
        )


def _odd_members(path: Path) -> Iterator[str]:
    """Yield what a tar has beside plain files and directories below itself. Unpacks nothing."""
    try:
        with tarfile.open(path, mode="r:*") as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                if name.is_absolute() or ".." in name.parts:
                    yield f"{member.name!a} leaves the directory"
                elif not (member.isreg() or member.isdir()) or member.issparse():
                    yield f"{member.name!a} is neither a file nor a directory"
                elif member.mode & 0o6000:
                    yield f"{member.name!a} runs with rights of its owner"
    except (tarfile.TarError, EOFError, OSError) as fault:
        yield f"not a complete tar: {fault}"


def _check_signature(message: bytes, armoured: str, key: Path) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    wanted = _public_key(key)
    try:
        if (match := _ARMOUR.fullmatch(armoured)) is None:
            raise ValueError("it is not armoured")
        blob = base64.b64decode(match[1], validate=False)
        if blob[:10] != b"SSHSIG" + struct.pack(">I", 1):
            raise ValueError("it is not a signature of ssh-keygen")
        signer, namespace, reserved, algorithm, signature = _strings(blob[10:], 5)
        if signer != wanted:
            raise ValueError("another key made it")
        if namespace != NAMESPACE.encode():
            raise ValueError(f"it was made for {namespace!a}")
        if algorithm not in (b"sha256", b"sha512"):
            raise ValueError(f"its hash is {algorithm!a}")
        digest = hashlib.new(algorithm.decode(), message).digest()
        signed = b"SSHSIG" + b"".join(map(_string, (namespace, reserved, algorithm, digest)))
        kind, raw = _strings(signature, 2)
        if kind != b"ssh-ed25519":
            raise ValueError(f"its kind is {kind!a}")
        Ed25519PublicKey.from_public_bytes(_strings(wanted, 2)[1]).verify(raw, signed)
    except (InvalidSignature, ValueError, binascii.Error) as fault:
        raise CorruptBlob(
            f"the signature of {SUMS} is not one of the key {key}: {str(fault) or 'the list has changed'}", hint=_AGAIN
        ) from fault


def _public_key(path: Path) -> bytes:
    """Return the Ed25519 key of a `.pub` as ssh encodes it."""
    form = "expected one line as ssh-keygen writes it: ssh-ed25519 AAAA…"
    words = read_text_file(path, "the key of the release", hint=form).split()
    try:
        blob = base64.b64decode(words[1], validate=True)
        kind, raw = _strings(blob, 2)
        if words[0] != "ssh-ed25519" or kind != b"ssh-ed25519" or len(raw) != 32:
            raise ValueError(words[0])
    except (IndexError, ValueError) as fault:
        raise InvalidRequest(f"{path} is not an Ed25519 public key", hint=form) from fault
    return blob


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _strings(data: bytes, count: int) -> list[bytes]:
    """Return that many length-prefixed strings, which are all that `data` has."""
    found = []
    for _ in range(count):
        if len(data) < 4 or len(data) < 4 + (num_bytes := int.from_bytes(data[:4])):
            raise ValueError("it is cut off")
        found.append(data[4 : 4 + num_bytes])
        data = data[4 + num_bytes :]
    if data:
        raise ValueError("it has more than one part")
    return found
