"""The step between the supervisor and a child's own program: `python -I -S launch.py SUPERVISOR_PID PROGRAM ARG...`.

Ties the process to its supervisor, forbids core dumps, and becomes the program. A separate file instead of a function
between fork and exec, which would run in a copy of a process whose other threads may hold locks.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1
"""prctl(2), Linux. Survives exec; meant is the end of the thread that started this process."""


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends (Linux; elsewhere a pipe does this)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main() -> None:
    """Set the limits and exec the program. Does not return."""
    supervisor, program = int(sys.argv[1]), sys.argv[2:]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError), open("/proc/self/coredump_filter", "w") as file:
        file.write("0")  # the limit does not apply to programs that receive dumps through a pipe; this survives exec
    die_with_parent()
    if os.getppid() != supervisor:  # it ended before the line above
        sys.exit(1)
    try:
        os.execvp(program[0], program)
    except OSError as fault:
        sys.exit(f"{program[0]} cannot be run: {fault.strerror}")


if __name__ == "__main__":
    main()
