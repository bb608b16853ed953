"""`ashore stop`: end the server of this home, as Ctrl-C in its terminal does."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Final

from cyclopts import App

from ashore.core.errors import NotReady
from ashore.kit.settings import read_settings

app = App(name="stop", help="Stop the server of this home; running answers finish.")

LOOK_S: Final = 0.1


@app.default
def stop() -> None:
    """Stop the server of this home, and return when it has ended. Running answers finish first.

    Stop a server that systemd runs with systemctl.
    """
    from ashore.core.errors import HomeBusy
    from ashore.kit.processes import ask
    from ashore.kit.processes.lock import Holder, HomeLock, read_holder

    home = read_settings().home
    try:
        for _ in ask(home.control_socket, {"op": "status"}):  # the process that answers there is a server of this user
            pass
        holder = read_holder(home.lock)
    except NotReady:
        holder = None
    if holder is None:
        raise NotReady(f"no server is running from {home.root}", hint="`ashore up` starts one")
    os.kill(holder.pid, signal.SIGTERM)
    print(f"stopping {holder.address} (process {holder.pid}); running answers finish", file=sys.stderr)
    while True:
        try:
            HomeLock.acquire(home.lock, Holder(pid=os.getpid(), address="ashore stop")).release()
        except HomeBusy:
            time.sleep(LOOK_S)
        else:
            break
    print("stopped", file=sys.stderr)
