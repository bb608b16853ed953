"""One engine host as a child of this process, for commands that measure a model."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ashore.core.errors import HostDied
from ashore.data.engines.client import HostClient
from ashore.data.engines.hostlaunch import HostLaunch, host_command
from ashore.kit.processes import resident_bytes_of
from ashore.kit.processes.child import ended
from ashore.kit.processes.launchfiles import write_launch
from ashore.kit.processes.logs import open_log

STOP_S: Final = 5.0
"""A host that still runs so long after SIGTERM is killed: nothing of a measurement is worth keeping."""
LONGEST_LOAD_S: Final = 3600.0
POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class HostProcess:
    """A running host; `host_process` starts and ends it."""

    process: subprocess.Popen[bytes]
    socket: Path

    async def connect(self, client: HostClient) -> None:
        """Wait for the greeting, or for the end of the host.

        Raises:
            AshoreError: the host reported why it cannot load. HostDied: it ended without a report.
        """
        greeting = asyncio.create_task(client.connect(timeout_s=LONGEST_LOAD_S))
        try:
            while not (await asyncio.wait({greeting}, timeout=POLL_S))[0]:
                if self.process.poll() is not None:
                    code = self.process.returncode
                    raise HostDied(f"the host ended with exit code {code} before its engine was loaded")
            greeting.result()
        finally:
            greeting.cancel()

    def stop(self) -> int:
        """Stop the host, killing it if necessary, and return its exit code. May be called twice."""
        return ended(self.process, STOP_S)

    def resident_bytes(self) -> int:
        """Return the memory that the host uses now; 0 if the system does not report it."""
        return resident_bytes_of(self.process.pid)


@contextmanager
def host_process(launch: HostLaunch, *, log: Path | None = None) -> Iterator[HostProcess]:
    """Start a host, and stop it at the end of the block. It ends with this process in any case.

    Args:
        launch: Model and engine.
        log: File to which the host's output is appended; None: it is dropped.
    """
    with (
        tempfile.TemporaryDirectory(prefix="ashore-host-") as scratch,
        os.fdopen(open_log(log or Path(os.devnull)), "ab") as words,
    ):
        launch_path, socket = Path(scratch) / "launch.json", Path(scratch) / "host.sock"
        write_launch(launch, launch_path)
        read_end, write_end = os.pipe()
        try:
            host = subprocess.Popen(
                host_command(socket, launch_path, control_fd=read_end),
                pass_fds=(read_end,),
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
            )
        except BaseException:
            os.close(write_end)
            raise
        finally:
            os.close(read_end)
        running = HostProcess(host, socket)
        try:
            yield running
        finally:
            running.stop()
            os.close(write_end)
