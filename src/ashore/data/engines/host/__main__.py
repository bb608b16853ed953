"""`python -m ashore.data.engines.host --socket PATH --launch FILE [--control-fd N]`: run one engine.

Exit codes: 0 drained; 2 and 4 as in `ashore.core.errors` (a model that cannot be loaded, an engine that broke); 70 a
bug.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Final

import msgspec

from ashore.core.errors import AshoreError, UnsupportedByEngine
from ashore.data.engines.cards import card_of, make_engine
from ashore.data.engines.failures import failure_of
from ashore.data.engines.frames import PROTOCOL_VERSION, LoadFailed
from ashore.data.engines.host.link import Link, LinkClosed
from ashore.data.engines.host.loop import HostLoop
from ashore.data.engines.hostlaunch import HostLaunch
from ashore.data.engines.model import EngineInfo
from ashore.data.engines.ports import CanImport, CanKeepPrefixes, CanLoadAdapter, Engine
from ashore.data.engines.prefixes import secret_of
from ashore.kit.processes import Pulse, beat_in_thread, listen_on, silence_host, take_pulse
from ashore.kit.processes.entry import log_to_stderr
from ashore.kit.processes.hugepages import use_huge_pages
from ashore.kit.processes.launch import die_with_parent
from ashore.kit.processes.launchfiles import read_launch
from ashore.kit.sealing.clearfiles import ClearFiles, SealedFiles, take_key

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


_TELL_FAILURE_S: Final = 2.0
"""How long a host that failed to load reports that to workers that wait for its greeting."""

_KEPT_BYTES: Final = 32 << 20
"""Files of a sealed model up to this size stay open: tokenizers and settings that an engine may read later."""

_LOADING_PATIENCE_S: Final = 240
"""A host that loads beats too, but a library may hold the interpreter for minutes meanwhile."""
_PATIENCE_S: Final = 6
"""Silence of a host that serves. Engines let go of the interpreter while they compute, so a beat is late by
milliseconds; that of a process that was stopped never comes."""

_log = logging.getLogger("ashore.host")


class _Life:
    """Heartbeat of this host while its engine's thread makes progress."""

    def __init__(self, pulse: Pulse) -> None:
        """Start the heartbeat of a host that loads."""
        self._loop: HostLoop | None = None
        self._step_timeout_s = 0.0
        self._pulse = pulse
        beat_in_thread(pulse, self._patience_s)

    def serve(self, loop: HostLoop, step_timeout_s: float) -> None:
        """Continue the heartbeat while no turn of `loop` takes longer than the limit.

        The first beat is immediate, before a worker can connect: otherwise a host stopped before the next beat would
        get the minutes allowed for loading.
        """
        self._step_timeout_s, self._loop = step_timeout_s, loop
        self._pulse.beat(_PATIENCE_S)

    def _patience_s(self) -> int | None:
        if self._loop is None:
            return _LOADING_PATIENCE_S
        return _PATIENCE_S if self._loop.awake_s <= self._step_timeout_s else None


def main(argv: Sequence[str] | None = None) -> int:
    """Run a host until it is drained and return its exit code."""
    arguments = _parse(argv)
    silence_host()
    log_to_stderr("INFO")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor stops us in order
    if arguments.control_fd is not None:
        die_with_parent()
        exit_at_end_of(arguments.control_fd)
    life = _Life(take_pulse())
    listener = listen_on(arguments.socket)
    try:
        launch = read_launch(arguments.launch, HostLaunch)
        opening = _start_opening(launch.files.sealed)
        engine = make_engine(launch.options.kind)
        started_s = time.monotonic()
        info, opened = _load(engine, launch, opening)
        _keep_prefixes(engine, launch)
    except Exception as error:  # noqa: BLE001 - the outermost place; the workers that wait are told
        level_traceback = not isinstance(error, AshoreError)
        _log.error("%s: cannot load: %s", arguments.launch, failure_of(error).message, exc_info=level_traceback)
        _tell_failure(listener, error)
        return error.exit_code if isinstance(error, AshoreError) else 70
    huge_bytes = use_huge_pages() if card_of(launch.options.kind).memory.ours else 0  # others read no weights here
    _log.info(
        "%s ready in %.2f s: %s, %s, %d MiB in huge pages",
        info.model, time.monotonic() - started_s, info.version, info.precision, huge_bytes >> 20,
    )  # fmt: skip
    try:
        return _serve(engine, info, listener, launch, life)
    finally:
        if opened is not None:
            opened.close()


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ashore.data.engines.host", description="Run one engine for API workers.")
    parser.add_argument("--socket", type=Path, required=True, help="unix socket to listen on")
    parser.add_argument("--launch", type=Path, required=True, help="launch file, JSON")
    parser.add_argument("--control-fd", type=int, help="inherited pipe; the host exits when the other end closes")
    return parser.parse_args(argv)


def _start_opening(sealed: SealedFiles | None) -> Future[ClearFiles] | None:
    """Start opening a sealed model in a thread, while imports run; None if the files are not sealed."""
    if sealed is None:
        return None
    with_thread = ThreadPoolExecutor(1, thread_name_prefix="opening")
    opening = with_thread.submit(lambda: ClearFiles(sealed, take_key(sealed)))
    with_thread.shutdown(wait=False)
    return opening


def _load(
    engine: Engine, launch: HostLaunch, opening: Future[ClearFiles] | None
) -> tuple[EngineInfo, ClearFiles | None]:
    """Load model and adapters. The decrypted weights of a sealed model are then released, since the engine holds its
    own copy; its small files stay open, in memory, as long as the returned object."""
    if opening is None or launch.files.sealed is None:
        return _load_clear(engine, launch), None
    if isinstance(engine, CanImport):
        engine.import_library()  # while the model is being opened
    clear = opening.result()
    files = msgspec.structs.replace(launch.files, directory=str(clear.path), sealed=None)
    info = _load_clear(engine, msgspec.structs.replace(launch, files=files))
    clear.drop(file.path for file in launch.files.sealed.files if file.clear_bytes > _KEPT_BYTES)
    return info, clear


def _keep_prefixes(engine: Engine, launch: HostLaunch) -> None:
    """Let the engine keep prefixes where it can; without them it answers as well."""
    if launch.prefixes is None or not isinstance(engine, CanKeepPrefixes):
        return
    try:
        engine.keep_prefixes(launch.prefixes, secret_of(launch.prefixes, launch.files))
    except (AshoreError, OSError) as error:
        _log.warning("prefixes of prompts will not survive a restart: %s", error)


def _load_clear(engine: Engine, launch: HostLaunch) -> EngineInfo:
    info = engine.load(launch.files, launch.options)
    for name, directory in launch.adapters.items():
        if not isinstance(engine, CanLoadAdapter):
            raise UnsupportedByEngine(
                f"adapter {name!r}: the engine {info.kind!r} does not support adapters with {info.model}",
                hint="serve the model without adapters or with another engine",
            )
        engine.load_adapter(name, directory)
    return info


def _serve(engine: Engine, info: EngineInfo, listener: socket.socket, launch: HostLaunch, life: _Life) -> int:
    loop = HostLoop(engine, info, listener, drain_s=launch.drain_s)
    terminations = 0

    def terminate(number: int, frame: FrameType | None) -> None:
        nonlocal terminations
        terminations += 1
        if terminations == 1:
            loop.start_draining()
        else:
            loop.stop_now()  # instead of raising here, perhaps in the middle of a frame

    signal.set_wakeup_fd(loop.wakeup_fd, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, terminate)
    life.serve(loop, launch.step_timeout_s)
    gc.collect()
    gc.freeze()  # objects made by loading are never garbage; collections during streams need not scan them
    try:
        loop.run()
    except AshoreError as error:
        _log.error("%s (%s)", error.message, error.hint)
        return error.exit_code
    finally:
        signal.set_wakeup_fd(-1)
        engine.close()
    return 0


def _tell_failure(listener: socket.socket, error: Exception) -> None:
    """Send `LoadFailed` to waiting workers, and to those that connect within `_TELL_FAILURE_S`."""
    deadline_s = time.monotonic() + _TELL_FAILURE_S
    while (left_s := deadline_s - time.monotonic()) > 0:
        listener.settimeout(left_s)
        try:
            sock, _ = listener.accept()
        except TimeoutError:
            break
        link = Link(sock)
        try:
            link.send(LoadFailed(PROTOCOL_VERSION, failure_of(error)))
            link.flush()
        except LinkClosed as reason:
            _log.info("a worker disconnected before it received the message (%s)", reason)
        link.close()
    listener.close()


if __name__ == "__main__":
    sys.exit(main())
