"""The command line of a vLLM server, and the server's life as our child."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

from ashore.core.errors import EngineFailed, MissingExtra, UnsupportedModel
from ashore.data.engines.model import EngineOptions, ModelFiles
from ashore.data.engines.vllm.card import CARD
from ashore.kit.processes.child import ended
from ashore.kit.processes.launch import die_with_parent

OWN_OPTIONS: Final = frozenset({*CARD.options.operators, "lookup", "start_timeout_s", "task"})
"""Options that are ours; every other one becomes a flag of `vllm serve`, unchanged."""
assert CARD.program is not None
PROGRAM: Final = CARD.program
_STOP_S: Final = 20.0
NGRAMS: Final[Mapping[str, str | int]] = {"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 4}
"""`speculative_config` of a server whose option `lookup` is set: tokens from the prompt, as vLLM's documentation has
it."""


def vllm_command(files: ModelFiles, options: EngineOptions, *, port: int | str) -> list[str]:
    """Return the exact command that serves `files` with vLLM. Reads no files; `port` may be a placeholder for one
    chosen later.

    `extra` gives any other flag: `tensor_parallel_size = 2` becomes `--tensor-parallel-size 2`, `enforce_eager = true`
    becomes `--enforce-eager`. CUDA graphs are vLLM's default and stay on.

    Raises:
        UnsupportedModel: vLLM does not read this format.
    """
    if files.format not in ("safetensors", "gguf"):
        raise UnsupportedModel(
            f"{files.name} has the format {files.format!r}; vLLM reads safetensors and GGUF",
            hint="use the original model",
        )
    directory = Path(files.directory)
    model = directory / files.weights if files.format == "gguf" else directory
    command = [
        str(options.extra.get("executable", "vllm")), "serve", str(model),
        "--host", "127.0.0.1", "--port", str(port),
        "--served-model-name", str(options.extra.get("served_model_name", files.name)),
        "--max-num-seqs", str(options.max_sequences),
        "--max-num-batched-tokens", str(max(options.max_batch_tokens, options.max_sequences)),
        "--enable-prefix-caching" if options.prefix_cache else "--no-enable-prefix-caching",
        "--enable-prompt-tokens-details", "--max-logprobs", "20",
    ]  # fmt: skip
    if options.extra.get("enable_sleep_mode"):
        command.append("--enable-sleep-mode")
    if options.context_tokens:
        command += ["--max-model-len", str(options.context_tokens)]
    if files.format == "gguf":
        command += ["--tokenizer", str(directory)]
    return [*command, *vllm_flags(options.extra)]


def vllm_flags(options: Mapping[str, str | int | float | bool]) -> list[str]:
    """Return the options of `[model.engine] options` that are flags of `vllm serve`."""
    flags = [word for name, value in options.items() if name not in OWN_OPTIONS for word in _flag(name, value)]
    return [*flags, "--speculative-config", json.dumps(NGRAMS)] if options.get("lookup") else flags


def adapter_options(number: int) -> dict[str, str | int | float | bool]:
    """Return the options with which a server loads so many LoRA adapters at once."""
    return {"enable_lora": True, "max_loras": number}


def shell_line(files: ModelFiles, options: EngineOptions) -> str:
    """Return that command as a line for people: `$PORT` and `$KEY` are placeholders for values chosen at the host's
    start."""
    line = shlex.join(vllm_command(files, options, port="$PORT"))
    return "VLLM_API_KEY=$KEY " + line.replace("'$PORT'", "$PORT")


def _flag(name: str, value: str | int | float | bool) -> list[str]:
    flag = "--" + name.replace("_", "-")
    if value is True:
        return [flag]
    if value is False:
        return ["--no-" + flag.removeprefix("--")]
    return [flag, str(value)]


class VllmProcess:
    """A vLLM server that we started. It dies with this process; its output goes to this process's log, or elsewhere."""

    def __init__(self, command: list[str], *, sleeps: bool = False, output: IO[bytes] | None = None) -> None:
        """Start it. `sleeps` enables the calls for sleep mode, which are development calls of vLLM: any process of
        this machine can make them."""
        if shutil.which(command[0]) is None:
            raise MissingExtra(
                f"{command[0]!r} is not installed on this machine; the command would be: {shlex.join(command)}",
                hint="install vLLM in a separate environment and set the option `executable` to its path, or name a "
                "server of another machine in [[fleet.node]]",
            )
        self.command = command
        self.api_key = secrets.token_urlsafe(24)
        self._process = subprocess.Popen(
            command,
            env={
                **os.environ,
                **PROGRAM.quiet,
                **({"VLLM_SERVER_DEV_MODE": "1"} if sleeps else {}),
                "VLLM_API_KEY": self.api_key,
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent,
        )

    def check(self) -> None:
        """Check that it runs.

        Raises:
            EngineFailed: it has ended; the message has the exit code and the command.
        """
        code = self._process.poll()
        if code is not None:
            raise EngineFailed(
                f"vLLM ended with exit code {code}: {shlex.join(self.command)}", hint="see its output in this log"
            )

    def wait(self) -> None:
        """Wait until it has ended. Callable from any thread."""
        self._process.wait()

    def kill(self) -> None:
        """Kill it immediately; `check` then reports it. May be called twice, and from any thread."""
        self._process.kill()

    def stop(self) -> None:
        """End it and wait. May be called twice."""
        ended(self._process, _STOP_S)
