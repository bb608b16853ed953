"""Every kind of source as installed, with no mirror set and no network: one clear message, in seconds."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tiny_models import make_tiny_model

DEAD_PROXY = "http://127.0.0.1:9"
WITHIN_S = 60


class Case(NamedTuple):
    """One command without a network."""

    words: tuple[str, ...]
    says: tuple[str, ...]
    """What its message must name: the host, and the way out."""
    exit_code: int = 4


CASES = {
    "hf": Case(("model", "pull", "hf:org/name"), ("cannot reach huggingface.co", "ASHORE_HF_ENDPOINT", "hf_endpoint")),
    "hf up": Case(("up", "hf:org/name"), ("cannot reach huggingface.co", "ASHORE_HF_ENDPOINT")),
    "catalogue": Case(
        ("model", "pull", "deepseek-r1-distill-qwen-1.5b"), ("cannot reach huggingface.co", "ASHORE_HF_ENDPOINT")
    ),
    "ms": Case(("model", "pull", "ms:org/name"), ("cannot reach modelscope.cn", "ASHORE_MS_ENDPOINT", "ms_endpoint")),
    "oci": Case(("model", "pull", "oci://registry.invalid/a/b"), ("cannot reach registry.invalid", "registry")),
    "s3": Case(("model", "pull", "s3://bucket/model"), ("cannot reach amazonaws.com", "AWS_ENDPOINT_URL")),
    "s3 files": Case(("model", "pull", "s3://bucket/model/"), ("cannot reach amazonaws.com", "AWS_ENDPOINT_URL")),
    "pypi": Case(("model", "pull", "pypi:llm-nothing"), ("cannot reach pypi.org", "PIP_INDEX_URL", "PIP_FIND_LINKS")),
    "folder": Case(("model", "pull", "/no/such/folder"), ("/no/such/folder does not exist",), 2),
    "gguf": Case(("model", "pull", "./no-such.gguf"), ("no-such.gguf does not exist",), 2),
}


def cut_off() -> tuple[list[str], dict[str, str]]:
    """Return what stands before a command so that it has no network, or, where that is not allowed, an environment."""
    for words in (["unshare", "-n"], ["unshare", "-rn"]):
        if (
            shutil.which("unshare")
            and not subprocess.run([*words, "true"], capture_output=True, check=False).returncode
        ):
            return words, {}
    return [], dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), DEAD_PROXY)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, subprocess.CompletedProcess[str]]]:
    """What each command said. They run side by side: a client that tries again waits, and costs nothing."""
    before, extra = cut_off()
    running = {}
    for name, case in CASES.items():
        home = tmp_path_factory.mktemp("cut-off")
        environ = {"PATH": os.environ["PATH"], "HOME": str(home), "ASHORE_HOME": str(home / "home"), **extra}
        running[name] = subprocess.Popen(
            [*before, sys.executable, "-m", "ashore.cli.main", *case.words],
            env={**environ, "PIP_CONFIG_FILE": os.devnull},
            cwd=home,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    try:
        done = {}
        for name, process in running.items():
            out, err = process.communicate(timeout=WITHIN_S)
            done[name] = subprocess.CompletedProcess(CASES[name].words, process.returncode, out, err)
        yield done
    finally:
        for process in running.values():
            process.kill()


@pytest.mark.parametrize("name", CASES)
def test_a_source_that_cannot_be_reached_is_named_with_the_way_out(
    name: str, answers: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    said = answers[name].stderr
    assert answers[name].returncode == CASES[name].exit_code, said
    assert "Traceback" not in said and "bug of ashore" not in said
    for words in CASES[name].says:
        assert words in said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and len(errors[0]) < 200
    assert not re.search(r"WARNING|retry in", said)


def test_a_folder_is_read_without_a_network(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "tiny", "qwen2")
    before, extra = cut_off()
    done = subprocess.run(
        [*before, sys.executable, "-m", "ashore.cli.main", "model", "pull", str(folder)],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "ASHORE_HOME": str(tmp_path / "home"), **extra},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
