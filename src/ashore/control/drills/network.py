"""Neighbours of a twin: a cache, a database, a bucket, engines, a directory and others. Each behind a line of our own.

The lines (`link.py`) are laid before the server starts and stay until it has ended; only the fault changes their
conditions. Inserting something between two connected programs would test that, and not a bad network. All of it runs on
loopback, in processes that the watcher ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ashore.control.drills import link, receivers, watcher
from ashore.control.drills.centre import Centre
from ashore.control.drills.madeup import make_text
from ashore.control.drills.programs import find
from ashore.control.drills.undoing import Undoing
from ashore.core.errors import EngineFailed, EnvironmentFault
from ashore.kit.folders import make_folder
from ashore.kit.processes import python_command

START_S: Final = 60.0
BUCKET: Final = "anchors"
S3_KEYS: Final = {"AWS_ACCESS_KEY_ID": "rehearsal", "AWS_SECRET_ACCESS_KEY": "rehearsal", "AWS_REGION": "us-east-1"}
BASE: Final = "cn=drill"
READER: Final = f"cn=reader,{BASE}"
PEOPLE: Final = ("stays", "leaves")
"""Logins of the people of a directory. Both are in the group `staff`."""
SLAPD: Final = """modulepath {modules}
moduleload back_mdb
attributetype ( 2.5.4.31 NAME 'member' SUP distinguishedName )
objectclass ( 2.5.6.9 NAME 'groupOfNames' SUP top STRUCTURAL MUST ( cn $ member ) )
objectclass ( 2.16.840.1.113730.3.2.2 NAME 'inetOrgPerson' SUP top STRUCTURAL MUST cn MAY ( uid $ userPassword ) )
TLSCACertificateFile {tls}/ca.pem
TLSCertificateFile {tls}/node.pem
TLSCertificateKeyFile {tls}/node.key
database mdb
suffix "{base}"
directory {data}
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{reader}" read by * none
"""
"""slapd.conf(5). The classes are those of RFC 4519 and 2798, as far as a twin needs them."""
ENGINE: Final = "fake:random?tok_per_s=200&tokens=40"


def free_ports(number: int, *, room: int = 0) -> list[int]:
    """Return free loopback ports; with `room`, also with a free port above each at that distance."""
    found: list[int] = []
    with contextlib.ExitStack() as held:
        while len(found) < number:
            one = held.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            if room:
                port = port % 20_000 + 10_000
                try:
                    for each in (port, port + room):
                        held.enter_context(socket.socket()).bind(("127.0.0.1", each))
                except OSError:
                    continue
            found.append(port)
    return found


class Network:
    """The neighbours of one twin, and the lines to them."""

    def __init__(self, folder: Path, undoing: Undoing, names: Sequence[str]) -> None:
        """Create it; starts nothing.

        Args:
            folder: For the files of lines and neighbours.
            undoing: Whose watcher ends everything.
            names: Which neighbours, as `Twin.neighbours` says.
        """
        self.folder = folder
        self.centre: Centre | None = None
        """Of which the server is a branch office."""
        self.weather = folder / "weather.json"
        self.other_port = 0
        """Where a second server listens that shares the state without a line between; 0: there is none."""
        self._seen = folder / "lines.json"
        self._undoing = undoing
        self._names = tuple(names)
        self._password: Final = secrets.token_urlsafe(24)
        """Of the database, whose superuser runs programs: other people of this machine reach its port, too."""
        self._commands: dict[str, tuple[list[str], dict[str, Any]]] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._near: dict[str, int] = {}
        """Port of each line, at the server's end."""
        self._far: dict[str, int] = {}
        """Port of each neighbour."""
        self._lock: Path | None = None
        """File in which Postgres says whether it takes connections: its port is open before."""

    def start(self) -> None:
        """Start the neighbours and open the lines. Returns when each neighbour listens.

        Raises:
            EnvironmentFault: a program is missing.
            EngineFailed: one did not start.
        """
        for name in self._names:
            kind = name.partition("-")[0]
            getattr(self, f"_{kind}")(name)
        near = free_ports(len(self._names))
        self._near = dict(zip(self._names, near, strict=True))
        for name in self._names:
            self._wait(name, self._far[name])
        self.weather.write_text("{}")
        config = self.folder / "lines.conf"
        lines = {name: [self._near[name], "127.0.0.1", self._far[name]] for name in self._names}
        config.write_text(json.dumps({"lines": lines, "weather": str(self.weather), "seen": str(self._seen)}))
        self._run("lines", [sys.executable, "-I", "-S", link.__file__, str(config)], {})
        for name in self._names:
            self._wait("lines", self._near[name])
        if "bucket" in self._names:
            self._make_bucket()

    def toml(self, alias: str) -> str:
        """Return the lines of ashore.toml for a server that uses the neighbours, and the model behind `alias`."""
        said = ""
        if "cache" in self._near:
            said += f'[redis]\nurl = "redis://127.0.0.1:{self._near["cache"]}"\n'
        if "state" in self._near:
            said += f'[state]\nurl = "{self._state_url(self._near["state"])}"\n'
        if "centre" in self._near:
            said += f'[sites]\nrole = "site"\ncentre = "{self.centre_url}"\npoll_s = 1\nreport_s = 1\njudge_s = 4\n'
        if "directory" in self._near:
            said += f'[[directory]]\nname = "corp"\nkind = "openldap"\nevery_s = 5\nbind_dn = "{READER}"\n'
            said += f'urls = ["ldaps://127.0.0.1:{self._near["directory"]}"]\nca_file = "{self._tls / "ca.pem"}"\n'
            said += f'bind_password = "{self._password}"\npeople = "{BASE}"\ngroups = "{BASE}"\n'
            said += f'[directory.map]\nstaff = "cn=staff,{BASE}"\n'
        if "siem" in self._near:
            said += f'[[feed]]\nname = "siem"\nto = "syslog+tls://127.0.0.1:{self._near["siem"]}"\n'
            said += f'ca_file = "{self._tls / "ca.pem"}"\n'
        if mails := [name for name in self._near if name.startswith("mail")]:
            said += "[alert]\nlook_s = 10\nwait_s = 0\ngroup_s = 0\n"
            for name in mails:
                said += f'[[alert.channel]]\nname = "{name}"\nkind = "mail"\nsender = "ashore@drill.example"\n'
                said += f'server = "smtp://127.0.0.1:{self._near[name]}"\nto = ["on-call@drill.example"]\n'
                said += f'ca_file = "{self._tls / "ca.pem"}"\n'
        engines = [f"http://127.0.0.1:{port}" for name, port in self._near.items() if name.startswith("engine")]
        if engines:
            make_text(self.folder / "text")
            said += f'[[model]]\nname = "{self.folder / "text"}"\nalias = "{alias}"\n[model.engine]\nfleet = true\n'
            said += f'options = {{ served_model_name = "{alias}" }}\n'
            for number, address in enumerate(engines, start=1):
                said += f'[[fleet.node]]\nnode = "{number}"\naddress = "{address}"\nmodel = "{alias}"\n'
        return said

    @property
    def anchors(self) -> tuple[str, ...]:
        """Where the server copies its audit checkpoints."""
        return (f"s3://{BUCKET}/chain",) if "bucket" in self._near else ()

    @property
    def centre_url(self) -> str:
        """How the server reaches its centre."""
        return f"https://127.0.0.1:{self._near['centre']}"

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables of the server: how it reaches its bucket."""
        if "bucket" not in self._near:
            return {}
        return {**S3_KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._near['bucket']}"}

    def without_line(self, text: str) -> str:
        """Return a text of ashore.toml with the database itself instead of the line to it."""
        return text.replace(self._state_url(self._near["state"]), self._state_url(self._far["state"]))

    def turn(self, weather: Mapping[str, Mapping[str, float]]) -> None:
        """Set the conditions of some lines, and reset the others."""
        self.weather.write_text(json.dumps(weather))

    def seen(self) -> dict[str, dict[str, int]]:
        """Return the counts of each line so far."""
        told: dict[str, dict[str, int]] = json.loads(self._seen.read_bytes())
        return told

    def kill(self, name: str) -> int:
        """Kill a neighbour with all its processes, and return the port it listened on."""
        process = self._running[name]
        for pid in watcher.below(process.pid):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        return self._far[name]

    def is_alive(self, name: str) -> bool:
        return self._running[name].poll() is None

    def restart(self, name: str) -> None:
        """Restart a killed neighbour."""
        words, options = self._commands[name]
        self._run(name, words, options)
        self._wait(name, self._far[name])

    def process(self, name: str) -> int:
        """Return the process of a neighbour."""
        return self._running[name].pid

    def received(self, name: str) -> Path:
        """Return the file of what a receiver took; there is none before the first thing."""
        return self.folder / f"{name}.got"

    def dismiss(self, login: str) -> None:
        """Remove a person from the directory, which is started again for it."""
        self.kill("directory")
        self._slap("modify", f"dn: uid={login},{BASE}\nchangetype: delete\n")
        self.restart("directory")

    def objects(self) -> int:
        """Return the objects in the bucket, bypassing the line."""
        return sum(len(page) for page in self._store().list())

    def _cache(self, name: str) -> None:
        (port,) = free_ports(1)
        self._far[name] = port
        words = [_program("valkey-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly"]
        self._run(name, [*words, "no", "--dir", str(self.folder)], {})

    def _state(self, name: str) -> None:
        """Create a Postgres cluster in a folder of its own user, because Postgres refuses to run as root."""
        (port,) = free_ports(1)
        self._far[name] = port
        where = Path(tempfile.mkdtemp(prefix="ashore-drill-state-"))
        self._undoing.before("twin", pid=0, start="", path=str(where), mounted="")
        options: dict[str, Any] = {"cwd": where, "env": {"LC_ALL": "C", "PATH": os.environ.get("PATH", "")}}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(where, nobody.pw_uid, nobody.pw_gid)
            options |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        data, secret = where / "data", where / "password"
        self._lock = data / "postmaster.pid"
        secret.touch(mode=0o600)
        secret.write_text(self._password)
        if "user" in options:
            os.chown(secret, options["user"], options["group"])
        words = [_program("initdb"), "-D", str(data), "-U", "ashore", "-A", "scram-sha-256", "--pwfile", str(secret)]
        words += ["--no-sync", "-E", "UTF8"]
        done = subprocess.run(words, **options, capture_output=True, text=True, check=False, timeout=120)
        secret.unlink()
        if done.returncode:
            raise EngineFailed(f"no Postgres for the twin: {done.stderr.strip()[-500:]}", hint="report this")
        server = [_program("postgres"), "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(where)]
        self._run(name, [*server, "-c", "fsync=off"], options)

    @property
    def _tls(self) -> Path:
        """Folder with the certificate of the neighbours that speak TLS; made at the first use."""
        folder = self.folder / "tls"
        if not folder.is_dir():
            command = python_command("ashore.cli.main", "fleet", "certificate", "drill", "--address", "127.0.0.1")
            env = {**_without_ashore(), "ASHORE_HOME": str(self.folder / "authority")}
            subprocess.run([*command, "--to", str(folder)], env=env, capture_output=True, check=True, timeout=120)
        return folder

    def _directory(self, name: str) -> None:
        (port,) = free_ports(1)
        self._far[name], data = port, self.folder / "people"
        make_folder(data)
        modules = Path(_program("slapd")).resolve().parents[1] / "lib" / "ldap"
        conf = SLAPD.format(modules=modules, tls=self._tls, base=BASE, data=data, reader=READER)
        self._slapd_conf.write_text(conf)
        people = [f"dn: uid={one},{BASE}\nobjectClass: inetOrgPerson\nuid: {one}\ncn: {one}\n" for one in PEOPLE]
        members = "".join(f"member: uid={one},{BASE}\n" for one in PEOPLE)
        reader = f"dn: {READER}\nobjectClass: inetOrgPerson\ncn: reader\nuserPassword: {self._password}\n"
        staff = f"dn: cn=staff,{BASE}\nobjectClass: groupOfNames\ncn: staff\n{members}"
        top = f"dn: {BASE}\nobjectClass: inetOrgPerson\ncn: drill\n"
        self._slap("add", "\n".join((top, reader, *people, staff)))
        words = [_program("slapd"), "-f", str(self._slapd_conf), "-h", f"ldaps://127.0.0.1:{port}", "-d", "0"]
        self._run(name, words, {})

    @property
    def _slapd_conf(self) -> Path:
        return self.folder / "slapd.conf"

    def _slap(self, what: str, ldif: str) -> None:
        """Change the directory while it does not run."""
        words = [_program("slapd"), "-T", what, "-f", str(self._slapd_conf)]
        done = subprocess.run(words, input=ldif, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise EngineFailed(f"no directory for the twin: {done.stderr.strip()[-500:]}", hint="report this")

    def _siem(self, name: str, kind: str = "syslog") -> None:
        (port,) = free_ports(1)
        self._far[name] = port
        words = [sys.executable, "-I", "-S", receivers.__file__, kind, str(port), str(self._tls)]
        self._run(name, [*words, str(self.received(name))], {})

    def _mail(self, name: str) -> None:
        self._siem(name, "mail")

    def _bucket(self, name: str) -> None:
        master, volume, filer, port, grpc = free_ports(5, room=10_000)  # each listener also uses its port + 10000
        self._far[name] = port
        folder = self.folder / "bucket"
        make_folder(folder)
        words = [
            _program("weed"), "-logtostderr=true", "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", "-s3", f"-s3.port={port}",
            f"-s3.port.grpc={grpc}", "-volume.max=20", "-master.volumeSizeLimitMB=64", "-master.telemetry=false",
            "-s3.port.iceberg=0", "-s3.port.lance=0",
        ]  # fmt: skip
        kept = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        self._run(name, words, {"env": {**kept, **S3_KEYS}, "cwd": folder})

    def _centre(self, name: str) -> None:
        port, grpc = free_ports(2)
        self._far[name] = port
        self.centre = Centre(self.folder)
        self._run(name, self.centre.command(port, grpc), {"env": self.centre.env})

    def _engine(self, name: str) -> None:
        (port,) = free_ports(1)
        self._far[name] = port
        words = python_command("ashore.cli.main", "engine", "serve", ENGINE, "--served-model-name", "rehearsal")
        # files left in TMPDIR by a kill are deleted with the folder
        env = {**_without_ashore(), "ASHORE_HOME": str(self.folder / name), "TMPDIR": str(self.folder)}
        self._run(name, [*words, "--port", str(port)], {"env": env})

    def _store(self) -> Any:
        from obstore.store import S3Store

        return S3Store(
            BUCKET,
            endpoint=f"http://127.0.0.1:{self._far['bucket']}",
            access_key_id=S3_KEYS["AWS_ACCESS_KEY_ID"],
            secret_access_key=S3_KEYS["AWS_SECRET_ACCESS_KEY"],
            region=S3_KEYS["AWS_REGION"],
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )

    def _make_bucket(self) -> None:
        """Create the bucket once the server accepts it: it listens before it can store."""
        from datetime import timedelta

        import httpx
        import obstore

        store, end_s = self._store(), time.monotonic() + START_S
        while True:
            try:
                httpx.put(obstore.sign(store, "PUT", "", timedelta(seconds=60)), timeout=5)
                obstore.put(store, "probe", b"x")
                return
            except (httpx.HTTPError, obstore.exceptions.BaseError, OSError) as fault:
                if time.monotonic() > end_s:
                    raise EngineFailed(f"the bucket of the twin takes nothing: {fault}", hint="report this") from fault
                time.sleep(0.25)

    def _state_url(self, port: int) -> str:
        return f"postgresql://ashore:{self._password}@127.0.0.1:{port}/postgres"

    def _run(self, name: str, words: list[str], options: dict[str, Any]) -> None:
        with open(self.folder / f"{name}.out", "ab") as sink:
            one = self._undoing.start("beside", words, stdout=sink, stderr=sink, **options)
        self._commands[name], self._running[name] = (words, options), one

    def _wait(self, name: str, port: int) -> None:
        end_s = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                if name != "state" or self._lock is None or self._lock.read_text().split()[-1:] == ["ready"]:
                    return
            if self._running[name].poll() is not None or time.monotonic() > end_s:
                said = (self.folder / f"{name}.out").read_text(errors="replace")[-1500:]
                raise EngineFailed(f"{name}, a neighbour of the twin, did not start:\n{said}", hint="report this")
            time.sleep(0.05)


def _without_ashore() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("ASHORE_")}


def _program(name: str) -> str:
    found = find(name)
    if found is None:
        raise EnvironmentFault(f"this machine has no {name}", hint="install it, or leave this drill out")
    return str(found)
