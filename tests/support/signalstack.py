"""Mends what OpenVINO's CPU plugin leaves behind in a process that goes on after its last engine was closed.

The plugin gives the loading thread an alternate signal stack and unmaps it when it is destroyed; destroyed on another
thread, it leaves the first one with a stack that is gone, and the next signal there (SIGCHLD, a test's timeout) is a
segmentation fault. Seen with openvino 2026.4.1. An engine host ends with its engine and never meets this.
"""

from __future__ import annotations

import ctypes

SS_DISABLE = 2
"""sigaltstack(2)."""


class _StackT(ctypes.Structure):
    _fields_ = (("ss_sp", ctypes.c_void_p), ("ss_flags", ctypes.c_int), ("ss_size", ctypes.c_size_t))


def use_ordinary_signal_stack() -> None:
    """Let signals of the calling thread run on its ordinary stack. May be called twice."""
    stack = _StackT(None, SS_DISABLE, 0)
    ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None)
