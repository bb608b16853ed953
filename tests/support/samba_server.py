"""A domain controller of Active Directory for tests: Samba's, provisioned in a folder, with its LDAP server alone.

Its ports are those of Active Directory, 389 and 636, on loopback: there is one at a time, and it needs root.
"""

from __future__ import annotations

import base64
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from fake_directory import Trust

from ashore.control.directory import DirectorySection

BASE = "DC=ad,DC=example"
PEOPLE, GROUPS = f"OU=People,{BASE}", f"OU=Groups,{BASE}"
ADMIN, PASSWORD = "administrator@ad.example", "Passw0rd!x"
READER = f"CN=ashore,{PEOPLE}"
ENABLED, DISABLED = 512, 514
"""Of userAccountControl."""
CONF = """
\tserver services = ldap
\tinterfaces = lo
\tbind interfaces only = yes
\ttls certfile = {chain}
\ttls keyfile = {key}
\ttls cafile = {ca}
\tlog file = {folder}/log
\tpid directory = {folder}
\tncalrpc dir = {folder}/ncalrpc
\tntp signd socket directory = {folder}/ntp
"""


def entry(dn: str, **values: str | list[str]) -> str:
    """Return the LDIF of an entry; what is not ASCII goes as Base64."""
    lines = [_line("dn", dn)]
    for name, some in values.items():
        lines += [_line(name, one) for one in ([some] if isinstance(some, str) else some)]
    return "\n".join(lines) + "\n"


def person(cn: str, login: str, *, flags: int = ENABLED, password: str = "", **more: str) -> str:
    """Return the LDIF of a person; `cn` as it stands in a DN."""
    made = entry(
        f"CN={cn},{PEOPLE}", objectClass="user", sAMAccountName=login, userAccountControl=str(flags), **more
    )  # fmt: skip
    quoted = base64.b64encode(f'"{password}"'.encode("utf-16-le")).decode()
    return made + (f"unicodePwd:: {quoted}\n" if password else "")


def group(cn: str, *members: str, below: str = GROUPS) -> str:
    """Return the LDIF of a group. Its members: DNs."""
    return entry(f"CN={cn},{below}", objectClass="group", sAMAccountName=cn.replace("\\,", ""), member=[*members])


class Samba:
    """Provisioned when made, started by `start`, ended by `stop`."""

    def __init__(self, folder: Path, trust: Trust) -> None:
        if not (shutil.which("samba") and shutil.which("samba-tool") and shutil.which("ldbmodify")):
            pytest.skip("Samba is not installed: apt-get install samba-ad-dc samba-ad-provision ldb-tools")
        if os.geteuid():
            pytest.skip("Samba as a domain controller needs root")
        if any(_listens(port) for port in (389, 636)):
            pytest.skip("something listens on port 389 or 636 of this machine")
        self._folder, self._log = folder, folder / "samba.log"
        words = ("--realm=AD.EXAMPLE", "--domain=ADX", f"--adminpass={PASSWORD}", "--dns-backend=NONE")
        self._run("samba-tool", "domain", "provision", "--server-role=dc", f"--targetdir={folder}/dc", *words)
        trust.server_context()
        (key,) = trust.folder.glob("edge-*.key")
        self._conf, self._database = folder / "dc/etc/smb.conf", folder / "dc/private/sam.ldb"
        written = self._conf.read_text().replace("server services", "# server services").replace("log file", "# log")
        conf = CONF.format(folder=folder, ca=trust.authority, chain=trust.folder / "chain.pem", key=key)
        self._conf.write_text(written.replace("[global]\n", f"[global]{conf}", 1))
        self._process: subprocess.Popen[bytes] | None = None

    def load(self, *entries: str) -> None:
        """Add entries."""
        self._run("ldbadd", "-H", str(self._database), f"--configfile={self._conf}", given="\n".join((*entries, "")))

    def change(self, dn: str, *lines: str) -> None:
        """Change an entry, as the lines of an LDIF say: `replace: NAME`, `NAME: VALUE`."""
        given = "\n".join((_line("dn", dn), "changetype: modify", *lines, "", ""))
        self._run("ldbmodify", "-H", str(self._database), f"--configfile={self._conf}", given=given)

    def move(self, dn: str, new: str) -> None:
        """Give an entry another DN."""
        self._run("ldbrename", "-H", str(self._database), f"--configfile={self._conf}", dn, new)

    def remove(self, dn: str) -> None:
        self._run("ldbdel", "-H", str(self._database), f"--configfile={self._conf}", dn)

    def start(self) -> Samba:
        """Start it, and return once it listens."""
        words = ["samba", "-i", "-M", "single", "-s", str(self._conf), "--debug-stdout"]
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(words, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        until_s = time.monotonic() + 60
        while time.monotonic() < until_s and self._process.poll() is None:
            if _listens(389) and _listens(636):
                return self
            time.sleep(0.05)
        raise AssertionError(f"Samba did not start: {self._log.read_text()[-3000:]}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def section(self, trust: Trust, **more: Any) -> DirectorySection:
        """Return how ashore.toml names it."""
        values: dict[str, Any] = {
            "name": "corp", "kind": "ad", "urls": ("ldaps://localhost",), "ca_file": str(trust.authority),
            "bind_dn": READER, "bind_password": PASSWORD, "people": PEOPLE, "groups": GROUPS, "map": {}, **more,
        }  # fmt: skip
        return DirectorySection(**values)

    def _run(self, *words: str, given: str = "") -> None:
        done = subprocess.run(words, input=given, capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode == 0 and "ERR:" not in done.stderr, (
            f"{words[:2]}: {done.stdout[-1500:]}{done.stderr[-1500:]}"
        )


def _line(name: str, value: str) -> str:
    if value.isascii():
        return f"{name}: {value}"
    return f"{name}:: {base64.b64encode(value.encode()).decode()}"


def _listens(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex(("127.0.0.1", port)) == 0
