"""Data that a server reads is wrong, locked or missing: a release, the state, a backup, a certificate."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ashore.control.drills.faults.base import Fault
from ashore.control.drills.model import Check
from ashore.control.drills.undoing import Undoing
from ashore.core.errors import EnvironmentFault


def expire(folder: Path, undoing: Undoing) -> Path:
    """Replace the certificate in a folder by one with the same names and key that expired yesterday.

    Raises:
        EnvironmentFault: there is no certificate made by ashore.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    authority_file = folder / "ca.pem"
    chains = [one for one in sorted(folder.glob("*.pem")) if one.name != "ca.pem" and b"BEGIN CERT" in one.read_bytes()]
    keys = [one for one in sorted(folder.glob("*key*")) if b"PRIVATE KEY" in one.read_bytes()]
    if not chains or not authority_file.is_file():
        raise EnvironmentFault(f"{folder} has no certificate that ashore made", hint="rehearse it on a twin: --twin")
    authority = x509.load_pem_x509_certificate(authority_file.read_bytes())
    signer = None
    for file in keys:
        key = serialization.load_pem_private_key(file.read_bytes(), None)
        if isinstance(key, EllipticCurvePrivateKey) and key.public_key() == authority.public_key():
            signer = key
    chain = chains[0]
    before = x509.load_pem_x509_certificate(chain.read_bytes())
    if signer is None:
        raise EnvironmentFault("the key of the edge's authority is not at hand", hint="rehearse it on a twin: --twin")
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(before.subject)
        .issuer_name(authority.subject)
        .public_key(before.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=90))
        .not_valid_after(now - timedelta(days=1))
    )
    for extension in before.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    undoing.before("write", path=str(chain), value=chain.read_text())
    chain.write_bytes(builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return chain


class BadRelease(Fault):
    """A model whose engine cannot load is added to ashore.toml and applied."""

    def fire(self) -> None:
        path = self.scene.home.root / "ashore.toml"
        before = path.read_text()
        self.copy = self.scene.folder / "ashore.toml"
        self.copy.write_text(before)
        self.scene.undoing.before("write", path=str(path), value=before)
        path.write_text(before + '\n[[model]]\nname = "fake:echo?fail_load=1"\nalias = "broken"\n')
        self.said = self.scene.ashore("reload")

    def felt(self) -> str:
        words = (self.said.stdout + self.said.stderr).strip()
        seen = "fail_load" in words or "could not" in words or "failed" in words
        return words.splitlines()[-1] if self.said.returncode and words else words.splitlines()[0] if seen else ""

    def mend(self) -> None:
        self.scene.ashore("reload")


class LostNode(Fault):
    """A node of the backup is down. Backups continue, and everything can be restored."""

    def fire(self) -> None:
        self.node = self.scene.folder / "node-0"
        away = self.node.with_name("node-0.away")
        self.scene.undoing.before("move", path=str(away), to=str(self.node))
        os.rename(self.node, away)
        self.while_away = self.scene.ashore("backup", "run")
        self.listed = self.scene.ashore("backup", "list")

    def felt(self) -> str:
        return "" if self.node.exists() else f"{self.node.name} is not there"

    def mend(self) -> None:
        self.after = self.scene.ashore("backup", "scrub")

    def checks(self) -> tuple[Check, ...]:
        return (
            Check(
                name="backups to restore", held=self.listed.returncode == 0, seen=_last_line(self.listed),
                bound="listed without the node",
            ),
            Check(
                name="scrub after it came back", held=self.after.returncode == 0, seen=_last_line(self.after),
                bound="ends well",
            ),
        )  # fmt: skip


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    return ((done.stdout + done.stderr).strip().splitlines() or ["nothing was said"])[-1]


class FlippedBit(Fault):
    """A byte of a backup's shard is flipped. A scrub must find and repair it."""

    def fire(self) -> None:
        shards = sorted(
            (one for one in (self.scene.folder / "node-1").rglob("*") if one.is_file() and one.stat().st_size > 512),
            key=lambda one: -one.stat().st_size,
        )
        if not shards:
            raise EnvironmentFault("the backup of the twin has no shard", hint="report this")
        self.shard = shards[0]
        self.before = self.shard.read_bytes()
        at = len(self.before) // 2
        self.scene.undoing.before("bytes", path=str(self.shard), at=at, value=self.before[at : at + 1].hex())
        with open(self.shard, "r+b") as file:
            file.seek(at)
            file.write(bytes([self.before[at] ^ 0xFF]))
        self.scrub = self.scene.ashore("backup", "scrub")
        self.mended = self.shard.is_file() and self.shard.read_bytes() == self.before

    def felt(self) -> str:
        words = (self.scrub.stdout + self.scrub.stderr).strip()
        return next(
            (line.strip() for line in words.splitlines() if "damaged" in line or "repaired" in line), words[:120]
        )

    def checks(self) -> tuple[Check, ...]:
        return (
            Check(
                name="the shard",
                held=self.mended,
                seen="right" if self.mended else "wrong",
                bound="as before, byte for byte",
            ),
        )


class LostState(Fault):
    """Another process holds the state's write lock for seconds. Requests continue."""

    def fire(self) -> None:
        program = (
            "import sqlite3, sys, time\n"
            "c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)\n"
            "c.execute('BEGIN EXCLUSIVE')\nprint('locked', flush=True)\ntime.sleep(600)\n"
        )
        words = [sys.executable, "-I", "-S", "-c", program, str(self.scene.home.state_db)]
        self.holder = self.scene.undoing.start("end", words, stdout=subprocess.PIPE)
        assert self.holder.stdout is not None
        self.said = self.holder.stdout.readline().decode().strip()

    def felt(self) -> str:
        return "the state is locked" if self.said == "locked" else ""

    def mend(self) -> None:
        self.holder.wait()
        assert self.holder.stdout is not None
        self.holder.stdout.close()


class ExpiredCertificate(Fault):
    """The edge's certificate has expired. A restart creates a new one, and clients that trust the authority
    continue.
    """

    def fire(self) -> None:

        self.file = expire(self.scene.home.edge, self.scene.undoing)
        self.before = self.file.read_bytes()
        from ashore.control.doctor.probes.beside import ends_in

        self.left_s = ends_in(self.file, time.time()) or 0.0

    def felt(self) -> str:
        return f"it ended {-self.left_s / 86_400:.1f} days ago" if self.left_s < 0 else ""

    def mend(self) -> None:
        os.kill(self.scene.supervisor, signal.SIGTERM)
        self.scene.restart()

    def checks(self) -> tuple[Check, ...]:
        from ashore.control.doctor.probes.beside import ends_in

        left_s = ends_in(self.file, time.time()) or 0.0
        seen = f"it ends in {left_s / 86_400:.0f} days"
        return (Check(name="certificate", held=left_s > 86_400, seen=seen, bound="a new one after the start"),)
