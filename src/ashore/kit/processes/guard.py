"""The guard: a tiny process that outlives a killed supervisor just long enough to kill its remaining children.

It reads lines from its standard input, the control pipe: `+123` adds the process group 123, `-123` removes it. At the
end of the pipe it kills the groups that are left and exits. The parent-death signal also ends direct children of the
supervisor; the guard also reaches their descendants. Uses only the standard library.
"""

import contextlib
import os
import signal
import sys


def main() -> int:
    """Read until the pipe ends, then kill the remaining groups."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
