"""Run a command as on Linux 4.18: every system call that came later answers ENOSYS.   python old_kernel.py COMMAND...

A tree of an old system shows an old C library on a new kernel; this shows the kernel. On x86-64 and arm64 all calls
added after 4.18 have numbers from 424 (pidfd_send_signal, 5.1) on, so one comparison of a seccomp filter is enough.
"""

import ctypes
import os
import struct
import sys

LOAD, AT_LEAST, GIVE = 0x20, 0x35, 0x06
ENOSYS, ALLOW = 0x00050000 | 38, 0x7FFF0000
NO_NEW_PRIVILEGES, SECCOMP = 38, 22
RULES = [(LOAD, 0, 0, 0), (AT_LEAST, 0, 1, 424), (GIVE, 0, 0, ENOSYS), (GIVE, 0, 0, ALLOW)]
code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *rule) for rule in RULES))
program = struct.pack("<HxxxxxxQ", len(RULES), ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(SECCOMP, 2, program, 0, 0):
    raise SystemExit(f"no seccomp: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[1], sys.argv[1:])
