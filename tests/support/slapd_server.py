"""A real slapd for tests, with LDAPS and StartTLS on ports of its own, and entries loaded before it starts."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from debian_packages import unpacked
from fake_directory import BASE, READER, READER_PASSWORD, Trust
from syslog_server import free_port

PACKAGES = ("slapd", "libargon2-1", "libldap2", "libltdl7", "libodbc2", "libperl5.40", "libsasl2-2", "libwrap0")
ROOT, ROOT_PASSWORD = f"cn=root,{BASE}", "root"
CONF = """include {schema}/core.schema
include {schema}/cosine.schema
include {schema}/inetorgperson.schema
pidfile {folder}/slapd.pid
modulepath {modules}
moduleload back_mdb
TLSCACertificateFile {ca}
TLSCertificateFile {chain}
TLSCertificateKeyFile {key}
sizelimit 500
database mdb
suffix "{base}"
rootdn "{root}"
rootpw {password}
directory {folder}/db
maxsize 1073741824
index objectClass,uid,cn,entryUUID,member eq
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{reader}" read by * none
limits dn.exact="{reader}" size.prtotal=unlimited
"""
TOP = f"""dn: {BASE}
objectClass: dcObject
objectClass: organization
o: Corp

dn: ou=people,{BASE}
objectClass: organizationalUnit

dn: ou=groups,{BASE}
objectClass: organizationalUnit

dn: {READER}
objectClass: organizationalRole
objectClass: simpleSecurityObject
userPassword: {READER_PASSWORD}
"""


def person(login: str, **more: str) -> str:
    """Return the LDIF of one person."""
    lines = "".join(f"{name}: {value}\n" for name, value in more.items())
    return f"dn: uid={login},ou=people,{BASE}\nobjectClass: inetOrgPerson\ncn: {login}\nsn: {login}\n{lines}"


def group(name: str, *members: str) -> str:
    """Return the LDIF of one group; a member without `=` is a login."""
    dns = (one if "=" in one else f"uid={one},ou=people,{BASE}" for one in members)
    lines = "".join(f"member: {one}\n" for one in dns)
    return f"dn: cn={name},ou=groups,{BASE}\nobjectClass: groupOfNames\n{lines}"


class Slapd:
    """Started by `start`, ended by `stop`."""

    def __init__(self, folder: Path, trust: Trust) -> None:
        root = Path("/") if shutil.which("slapd") else unpacked("slapd", PACKAGES)
        if root is None:
            pytest.skip("slapd is not installed, and apt-get cannot download it")
        trust.server_context()
        self.port, self.plain_port = free_port(), free_port()
        self._folder, self._conf = folder, folder / "slapd.conf"
        (folder / "db").mkdir()
        (key,) = trust.folder.glob("edge-*.key")
        self._conf.write_text(
            CONF.format(
                folder=folder, schema=root / "etc/ldap/schema", modules=root / "usr/lib/ldap", ca=trust.authority,
                chain=trust.folder / "chain.pem", key=key, base=BASE, root=ROOT, password=ROOT_PASSWORD, reader=READER,
            )
        )  # fmt: skip
        self._program, self._environ = str(root / "usr/sbin/slapd"), dict(os.environ)
        if root != Path("/"):
            libraries = [str(one) for one in (root / "usr/lib").glob("*-linux-gnu*")]
            self._environ["LD_LIBRARY_PATH"] = ":".join(libraries)
        self._process: subprocess.Popen[bytes] | None = None

    def load(self, *entries: str) -> None:
        """Load entries while it is down."""
        words = [self._program, "-T", "add", "-q", "-f", str(self._conf)]
        done = subprocess.run(
            words, input="\n".join((TOP, *entries)), env=self._environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> Slapd:
        """Start it, and return once it listens."""
        urls = f"ldaps://127.0.0.1:{self.port} ldap://127.0.0.1:{self.plain_port}"
        log = self._folder / "slapd.log"
        with log.open("ab") as out:
            words = [self._program, "-f", str(self._conf), "-h", urls, "-d", "0"]
            self._process = subprocess.Popen(words, env=self._environ, stdout=out, stderr=out)
        until_s = time.monotonic() + 60
        while time.monotonic() < until_s and self._process.poll() is None:
            try:
                for port in (self.port, self.plain_port):
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return self
            except OSError:
                time.sleep(0.02)
        raise AssertionError(f"slapd did not start: {log.read_text()}")

    def pause(self, paused: bool) -> None:
        """Have it hang, or go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP if paused else signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
