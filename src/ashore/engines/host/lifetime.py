"""Ends the engine host when its supervisor ends, however that happens."""

from __future__ import annotations

import os
import signal
import threading
from typing import Final

_GRACE_S: Final = 1.0
_ORPHANED: Final = 4


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
