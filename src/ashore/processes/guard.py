"""The guard: a tiny process that outlives a supervisor killed by force just long enough to kill what it left.

It reads lines from its standard input, the control pipe: `+123` adds the process group 123, `-123` removes it. At the
end of the pipe it kills the groups that are left and exits. The parent-death signal ends direct children of the
supervisor as well; the guard also reaches what those had started. Runs with nothing but the standard library.
"""

import contextlib
import os
import signal
import sys


def main() -> int:
    """Read until the pipe ends, then kill what is left."""
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
