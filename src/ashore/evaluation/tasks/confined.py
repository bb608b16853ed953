"""`python -I confined.py FOLDER SECONDS`: run FOLDER/program.py with next to no rights.

The kernel then permanently forbids this process: sockets of every kind, starting programs, processes and threads,
signals to others, tracing, mounting, new namespaces (seccomp); files outside FOLDER except to read the interpreter and
its libraries (Landlock, if the kernel has it); more time, memory or disk than given (rlimits). A token from standard
input is written at the end, so that exiting early does not look like success. Sources: seccomp(2), landlock(7), the
kernel's syscall tables for x86-64 and arm64.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
import sys
from typing import Final

MEMORY_BYTES: Final = 1 << 30
FILE_BYTES: Final = 1 << 20
UNCONFINED: Final = 97

_SET_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER_MODE = 38, 22, 2
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 1
"""SECCOMP_RET_ALLOW, and SECCOMP_RET_ERRNO with EPERM."""
_X32_BIT: Final = 0x40000000

# In the order of `_NAMES`.
_NAMES = (
    "socket connect bind listen accept accept4 sendto sendmsg ptrace kill process_vm_readv process_vm_writev "
    "io_uring_setup mount unshare setns bpf keyctl execve execveat clone clone3 perf_event_open pidfd_send_signal "
    "pidfd_open add_key request_key userfaultfd socketpair"
)
_TABLES: Final = {
    "x86_64": (
        0xC000003E,
        (41, 42, 49, 50, 43, 288, 44, 46, 101, 62, 310, 311, 425, 165, 272, 308, 321, 250, 59, 322, 56, 435, 298, 424,
         434, 248, 249, 323, 53, 57, 58),
    ),
    "aarch64": (
        0xC00000B7,
        (198, 203, 200, 201, 202, 242, 206, 211, 117, 129, 270, 271, 425, 40, 97, 268, 280, 219, 221, 281, 220, 435,
         241, 424, 434, 217, 218, 282, 199),
    ),
}  # fmt: skip
"""AUDIT_ARCH and what is refused; on x86-64 `fork` (57) and `vfork` (58) too, which arm64 does not have."""

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EVERY_ACCESS: Final = (1 << 13) - 1
"""The rights of Landlock's first version."""
_READ_ACCESS: Final = (1 << 2) | (1 << 3) | 1
"""Read files, list folders, and map code."""
_FILE_ACCESS: Final = 0b111
"""Those of the rights that a single file has."""
_READABLE: Final = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/urandom", "/proc/self")


def main(folder: str, seconds: str) -> None:
    """Run the program; does not return."""
    token = sys.stdin.buffer.read(64)
    out = os.dup(1)
    with open(os.path.join(folder, "program.py"), encoding="utf-8") as file:
        text = file.read()
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
        libc.syscall.argtypes = [ctypes.c_long] * 5
        libc.syscall.restype = ctypes.c_long
        if libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "no_new_privs")
        _limit(float(seconds))
        _landlock(libc, folder)
        _seccomp(libc)
    except (OSError, KeyError, AttributeError, ValueError) as error:  # another system, or another processor
        os.write(out, f"{type(error).__name__}: {error}".encode())
        os._exit(UNCONFINED)
    os.chdir(folder)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    exec(compile(text, "program.py", "exec"), {"__name__": "__main__"})
    os.write(out, token)
    os._exit(0)


def _limit(seconds: float) -> None:
    whole = max(1, int(seconds + 0.999))
    for limit, value in (
        (resource.RLIMIT_CPU, whole),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_NOFILE, 32),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))


def _seccomp(libc: ctypes.CDLL) -> None:
    """Forbid the calls of the table, and every call of another architecture."""
    arch, numbers = _TABLES[platform.machine()]
    program = [
        struct.pack("HBBI", _LOAD, 0, 0, 4),
        struct.pack("HBBI", _JUMP_EQUAL, 1, 0, arch),
        struct.pack("HBBI", _RETURN, 0, 0, _REFUSE),
        struct.pack("HBBI", _LOAD, 0, 0, 0),
        struct.pack("HBBI", _JUMP_AT_LEAST, len(numbers) + 1, 0, _X32_BIT),
        *(struct.pack("HBBI", _JUMP_EQUAL, len(numbers) - place, 0, n) for place, n in enumerate(numbers)),
        struct.pack("HBBI", _RETURN, 0, 0, _ALLOW),
        struct.pack("HBBI", _RETURN, 0, 0, _REFUSE),
    ]
    code = ctypes.create_string_buffer(b"".join(program))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    if libc.prctl(_SET_SECCOMP, _FILTER_MODE, ctypes.addressof(head), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def _landlock(libc: ctypes.CDLL, folder: str) -> None:
    """Allow writes to the folder and reads of the interpreter; no-op on a kernel without Landlock."""
    rules = ctypes.create_string_buffer(struct.pack("Q", _EVERY_ACCESS))
    ruleset = libc.syscall(_CREATE_RULESET, ctypes.addressof(rules), 8, 0, 0)
    if ruleset < 0:
        return
    readable = {*_READABLE, sys.prefix, sys.base_prefix, *(p for p in sys.path if os.path.isabs(p))}
    for path, access in ((folder, _EVERY_ACCESS), (os.devnull, _FILE_ACCESS), *((p, _READ_ACCESS) for p in readable)):
        if not os.path.exists(path):
            continue
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        allowed = access if os.path.isdir(path) else access & _FILE_ACCESS
        rule = ctypes.create_string_buffer(struct.pack("=Qi", allowed, descriptor))
        if libc.syscall(_ADD_RULE, ruleset, 1, ctypes.addressof(rule), 0):
            raise OSError(ctypes.get_errno(), f"landlock rule for {path}")
        os.close(descriptor)
    if libc.syscall(_RESTRICT_SELF, ruleset, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "landlock")
    os.close(ruleset)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
