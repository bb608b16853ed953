"""Ends the engine host when its supervisor ends, for whatever reason."""

from __future__ import annotations

import os
import signal
import threading
from typing import Final

_GRACE_S: Final = 1.0
_ORPHANED: Final = 4


def exit_at_end_of(control_fd: int) -> None:
    """Watch the control pipe in a thread of its own: at its end send SIGTERM to ourselves, and SIGKILL a second later.

    Works while the engine loads or computes, since it needs no event loop. Running orders have no readers left by then.
    """

    def watch() -> None:
        while os.read(control_fd, 4096):
            continue
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(_GRACE_S)
        os._exit(_ORPHANED)

    threading.Thread(target=watch, name="control-pipe", daemon=True).start()
