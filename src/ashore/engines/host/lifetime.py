"""How a host's life ends with its supervisor's, whatever happens to that."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
"""prctl(2)."""
_GRACE_S: Final = 1.0
_ORPHANED: Final = 4


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends (Linux; elsewhere the pipe must do)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def exit_at_end_of(control_fd: int) -> None:
    """Watch the control pipe in a thread of its own: at its end SIGTERM to ourselves, and a second later the hard way.

    Works while the engine loads or computes, for no loop has to turn. Nobody waits for running orders any more.
    """

    def watch() -> None:
        while os.read(control_fd, 4096):
            continue
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(_GRACE_S)
        os._exit(_ORPHANED)

    threading.Thread(target=watch, name="control-pipe", daemon=True).start()
