"""A real rsyslog for tests, with TLS on a port of its own: killed and started again on the same address."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from debian_packages import unpacked

from ashore.machine.edge.certificate import keep_certificate

PACKAGES = ("rsyslog", "rsyslog-openssl", "libestr0", "libfastjson4", "liblognorm5")
CONF = """global(workDirectory="{folder}" maxMessageSize="64k" DefaultNetstreamDriver="ossl"
  DefaultNetstreamDriverCAFile="{ca}" DefaultNetstreamDriverCertFile="{chain}" DefaultNetstreamDriverKeyFile="{key}")
module(load="imtcp" StreamDriver.Name="ossl" StreamDriver.Mode="1" StreamDriver.AuthMode="anon")
template(name="whole" type="string" string="%structured-data% %msg%\\n")
input(type="imtcp" port="{port}" address="127.0.0.1" ruleset="all")
ruleset(name="all") {{ action(type="omfile" file="{out}" template="whole") }}
"""


def certificate(folder: Path) -> tuple[Path, Path, Path]:
    """Make an authority and a certificate for this machine; return authority, chain and key."""
    made = keep_certificate(folder, ["127.0.0.1", "localhost"], datetime.now(UTC))
    return made.authority_file, folder / "edge.pem", made.key_file


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Rsyslog:
    """Started by `start`, killed by `kill`."""

    def __init__(self, folder: Path) -> None:
        root = None if shutil.which("rsyslogd") else unpacked("rsyslog", PACKAGES)
        if root is None and not shutil.which("rsyslogd"):
            pytest.skip("rsyslog is not installed, and apt-get cannot download it")
        self.ca, chain, key = certificate(folder / "tls")
        self.port, self.out = free_port(), folder / "siem.log"
        self._conf, self._pid = folder / "rsyslog.conf", folder / "rsyslog.pid"
        conf = CONF.format(folder=folder, ca=self.ca, chain=chain, key=key, port=self.port, out=self.out)
        self._conf.write_text(conf)
        self._words = ["rsyslogd", "-n", "-f", str(self._conf), "-i", str(self._pid)]
        self._environ = dict(os.environ)
        if root is not None:
            (library,) = (root / "usr" / "lib").glob("*-linux-gnu*")
            self._words = [str(root / "usr" / "sbin" / "rsyslogd"), *self._words[1:], "-M", str(library / "rsyslog")]
            self._environ["LD_LIBRARY_PATH"] = str(library)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def to(self) -> str:
        return f"syslog+tls://127.0.0.1:{self.port}"

    def start(self) -> Rsyslog:
        """Start it, and return once it listens."""
        self._pid.unlink(missing_ok=True)
        with self._conf.with_suffix(".err").open("ab") as err:
            self._process = subprocess.Popen(self._words, env=self._environ, stdout=err, stderr=err)
        until_s = time.monotonic() + 30
        while time.monotonic() < until_s:
            if self._process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return self
            except OSError:
                time.sleep(0.02)
        raise AssertionError(f"rsyslog did not start: {self._conf.with_suffix('.err').read_text()}")

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once. May be called twice."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """Let it write what it has, and end."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(30)
