"""A real llama-server in a process of its own: llama.cpp's server as the wheel `xllamacpp` brings it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PROGRAM = """
import signal, sys, xllamacpp
told = xllamacpp.CommonParams()
told.model.path, told.n_ctx, told.n_parallel = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if len(sys.argv) > 4: told.model_alias = {sys.argv[4]}
told.cpuparams.n_threads = told.cpuparams_batch.n_threads = 2
told.port, told.endpoint_slots, told.warmup, told.n_gpu_layers = 0, True, False, 0
server = xllamacpp.Server(told)
print("listens at", server.listening_address, file=sys.stderr, flush=True)
sys.stdin.read()
import os; os._exit(0)
"""


@contextmanager
def llama_server(model: Path, *, context: int = 4096, slots: int = 2, name: str = "") -> Iterator[str]:
    """Run one over a GGUF file and return its address; the context is divided by the slots.

    Args:
        model: The file.
        context: Tokens of all slots together.
        slots: Sequences at once.
        name: Of the model there; empty: its file.
    """
    command = [sys.executable, "-c", _PROGRAM, str(model), str(context), str(slots), *([name] if name else [])]
    for _ in range(3):  # its start was seen to hang once, on a busy machine
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdin is not None and process.stderr is not None
        given_up = threading.Timer(60, process.kill)
        given_up.start()
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("listens at "):
                break
        given_up.cancel()
        if said and said[-1].startswith("listens at "):
            break
        process.stdin.close()
        process.wait()
        process.stderr.close()
    else:
        raise AssertionError(f"llama-server ended: {''.join(said)[-2000:]}")
    drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
    try:
        yield line.removeprefix("listens at ").strip()
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        drain.wait(10)
        process.stderr.close()
