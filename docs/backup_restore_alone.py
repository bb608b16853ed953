"""Restore an ashore backup without ashore: `python backup_restore_alone.py KEY_FILE OUT NODE_DIR NODE_DIR …`

Reads the format of docs/reference/backup-format.md. Needs Python 3.11, `cryptography`, `blake3` and `numpy`.
OUT becomes a home: files, state and keys in their places, models as an OCI layout in OUT/store.
"""

import base64
import datetime
import hashlib
import json
import struct
import sys
from pathlib import Path

import numpy as np
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

EXP, LOG, value = np.zeros(512, np.int64), np.zeros(256, np.int64), 1  # powers of 2 in GF(2^8) by 0x11d, and logarithms
for power in range(255):
    EXP[power] = EXP[power + 255] = value
    LOG[value], value = power, value << 1 ^ 0x11D * (value >> 7)


def times(factor, row):
    """Return a row of numbers of the field times one of them."""
    return np.where(row == 0, 0, EXP[LOG[factor] + LOG[row]])


def decode(k, shards):
    """Return the k data fragments from k shards {number: fragment}, by Gauss and Jordan."""
    numbers = sorted(shards)[:k]
    parity = lambda i: [1 if ONE_PARITY else int(EXP[255 - LOG[i ^ j]]) for j in range(k)]  # noqa: E731
    lines = [parity(i) if i >= k else [int(i == j) for j in range(k)] for i in numbers]
    rows = [np.concatenate([np.array(one), shards[i].astype(np.int64)]) for one, i in zip(lines, numbers, strict=True)]
    for column in range(k):
        pivot = next(r for r in range(column, k) if rows[r][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = times(int(EXP[255 - LOG[rows[column][column]]]), rows[column])
        for r in range(k):
            if r != column and rows[r][column]:
                rows[r] = rows[r] ^ times(int(rows[r][column]), rows[column])
    return [row[k:].astype(np.uint8) for row in rows]


def cipher(secret, salt, info):
    return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(secret))


def read_object(ref):
    """Return the bytes of one object from any k good fragments of each stripe."""
    heads, data = {}, []
    for path in (node / "objects" / ref["name"][:2] / f"{ref['name']}-{ref['salt'][:16]}" for node in NODES):
        shard = path.read_bytes() if path.exists() else b""
        if len(shard) >= 152 and blake3(shard[:120]).digest() == shard[120:152]:
            heads[shard[10]] = shard
    sealed = next((s[48:120] for s in heads.values() if s[88:120].hex() == ref["salt"]), None)
    chunk, _, size = struct.unpack_from(">IIQ", sealed or b"\0\0\0\1" + bytes(20), 8)
    key = cipher(SECRET, bytes.fromhex(ref["salt"]), b"ashore sealed file 1")
    count = max(1, -(-size // chunk))
    for stripe in range(count):
        clear, full = min(chunk, size - stripe * chunk), -(-(chunk + 16) // (K * 64)) * 64
        long, good = -(-(clear + 16) // (K * 64)) * 64, {}
        for number, shard in heads.items():
            block = shard[152 + stripe * (full + 32) :][: long + 32]
            if blake3(shard[120:152] + struct.pack(">Q", stripe) + block[:long]).digest() == block[long:]:
                good[number] = np.frombuffer(block[:long], np.uint8)
        if len(good) < K:
            raise SystemExit(f"stripe {stripe} of {ref['name']} has {len(good)} good fragments; {K} are needed")
        whole = [good[i] for i in range(K)] if all(i in good for i in range(K)) else decode(K, good)
        bound = sealed + struct.pack(">QB", stripe, stripe == count - 1)
        data.append(key.decrypt(stripe.to_bytes(12, "big"), np.concatenate(whole).tobytes()[: clear + 16], bound))
    assert hashlib.sha256(b"".join(data)).hexdigest() == ref["sha256"]
    return b"".join(data)


def write(path, data, mode=0o600):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)


key_line = "".join(line.strip() for line in Path(sys.argv[1]).read_text().splitlines() if not line.startswith("#"))
recovery = base64.b32decode(key_line.removeprefix("ASHORE-BACKUP-1").replace("-", ""))[:32]
out, NODES = Path(sys.argv[2]), [Path(arg) for arg in sys.argv[3:] if (Path(arg) / "ashore-backup-node.json").exists()]
mark = json.loads((NODES[0] / "ashore-backup-node.json").read_bytes().rstrip().rpartition(b"\n")[0])
vault, envelope = bytes.fromhex(mark["vault_id"]), base64.b64decode(mark["envelope"])
SECRET = cipher(recovery, vault, b"ashore backup envelope 1").decrypt(envelope[:12], envelope[12:], vault)
K, ONE_PARITY = int(mark["code"].split("+")[0]), "1" in mark["code"].split("+")  # one: the exclusive or
newest = max((p for node in NODES for p in (node / "commits").glob("0*")), key=lambda p: p.name)
closed, bound = newest.read_bytes(), vault + b"commit" + int(newest.name).to_bytes(8, "big")
commit = json.loads(cipher(SECRET, vault, b"ashore backup commits 1").decrypt(closed[:12], closed[12:], bound))
listing = json.loads(read_object(commit["listing"]))
entries, kind = [], "application/vnd.oci.image.manifest.v1+json"
blob_path = lambda digest: out / "store/blobs/sha256" / digest[7:]  # noqa: E731
entry = lambda digest, **more: {"mediaType": kind, "digest": digest, "size": blob_path(digest).stat().st_size, **more}  # noqa: E731
for model in listing["models"]:
    for blob in model["blobs"] + [blob for one in model["attached"] for blob in one["blobs"]]:
        write(blob_path(blob["digest"]), read_object(blob["object"]), 0o444)
    notes = {f"ashore.{key}": model[key] for key in ("name", "variant")} | {"ashore.created": str(model["created_s"])}
    if model["tagged"]:
        notes["org.opencontainers.image.ref.name"] = "@".join(filter(None, (model["name"], model["variant"])))
    entries.append(entry(model["digest"], annotations=notes))
    for digest in (one["digest"] for one in model["attached"]):
        about = json.loads(blob_path(digest).read_bytes())
        made = datetime.datetime.fromisoformat(about["annotations"]["org.opencontainers.image.created"]).timestamp()
        what = {"ashore.attached.to": model["digest"], "ashore.attached.kind": about["artifactType"].split(".")[-2]}
        what["ashore.created"] = str(int(made))
        entries.append(entry(digest, artifactType=about["artifactType"], annotations=what))
for file in listing["files"]:
    write(out / file["path"], read_object(file["object"]), file["mode"])
write(out / "store/oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
write(out / "store/index.json", json.dumps({"schemaVersion": 2, "manifests": entries}).encode())
print(f"backup {commit['generation']}: {len(listing['files'])} files and {len(listing['models'])} models are in {out}")
