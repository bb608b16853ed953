"""Writes to a file several times, and says after each how long it took until it was safe. Standard library alone.

It is a process of its own: a write that hangs cannot be interrupted, and the doctor would wait for it.
"""

from __future__ import annotations

import os
import sys
import time

WRITES = 8
WRITE_BYTES = 4096
LONGEST_S = 1.0
"""No further write is tried after so long."""


def main(path: str) -> None:
    """Print `0 MOMENT QUEUED` before the first write and after each, `ERRNO 0 QUEUED` after a fault.

    MOMENT is of the monotonic clock; QUEUED says for how long this process has had no processor so far.
    """
    began_s = time.monotonic()
    _say(0, began_s)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            for number in range(WRITES):
                os.pwrite(descriptor, bytes([number]) * WRITE_BYTES, number * WRITE_BYTES)
                os.fsync(descriptor)
                _say(0, time.monotonic())
                if time.monotonic() - began_s > LONGEST_S:
                    break
        finally:
            os.close(descriptor)
            os.unlink(path)
    except OSError as fault:
        _say(fault.errno or 0, 0.0)


def queued_s() -> float:
    """As in `patience.py`."""
    try:
        with open("/proc/self/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def _say(code: int, moment_s: float) -> None:
    sys.stdout.write(f"{code} {moment_s} {queued_s()}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
