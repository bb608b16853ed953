"""LangChain's standard integration tests, as they are, over chat, Responses and Messages: `make test-langchain`.

All of them run against `fake:agent`, which answers as a capable model would, and on the demo model those for which it
is strong enough.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from served import Served
from suite_venv import TOO_HARD, suite_python

pytestmark = [pytest.mark.full, pytest.mark.timeout(3600)]

SUITE: Final = Path(__file__).parents[1] / "support" / "langchain_suite.py"
MODALITIES: Final = ("PDF", "audio", "image", "Anthropic inputs", "VCR")
"""What tests are skipped for: what the models do not read, another maker's form of a message, a recording."""


def run_suite(server: Served, model: str, *without: str) -> tuple[Counter[str], str]:
    """Run the suite but for some tests; return how many passed, failed and were skipped, and what pytest said."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "SUITE_MODEL": model,
        "SUITE_ROOT": server.root_url,
        "SUITE_KEY": server.key,
        "LANGSMITH_TRACING": "false",
        "DO_NOT_TRACK": "1",
    }
    words = [str(suite_python("langchain")), "-m", "pytest", "-c", os.devnull, "-p", "no:cacheprovider", "-v", "-rs"]
    words += ["--rootdir", str(SUITE.parent), "--noconftest", "-o", "asyncio_mode=auto", "--tb=short"]
    for scope in ("test", "fixture"):  # clients keep their connections from test to test
        words += ["-o", f"asyncio_default_{scope}_loop_scope=session"]
    if without:
        words += ["-k", " and ".join(f"not {name}" for name in without)]
    printed = server.home / "langchain.out"
    with printed.open("w") as sink:  # to be read while it runs
        subprocess.run([*words, str(SUITE)], env=env, stdout=sink, stderr=subprocess.STDOUT, check=False)
    said = printed.read_text()
    last = said.strip().splitlines()[-1] if said.strip() else ""
    found = Counter({what: int(number) for number, what in re.findall(r"(\d+) (passed|failed|skipped|error)", last)})
    return found, said


def test_an_engine_that_answers_well_passes_all(served_for_all: Callable[..., Served]) -> None:
    server = served_for_all(config='[[model]]\nname = "fake:agent"\nalias = "agent"\n')
    found, said = run_suite(server, "agent")
    assert found["failed"] == found["error"] == 0, said[-6000:]
    assert found["passed"] >= 130, said[-2000:]
    for line in said.splitlines():
        assert not line.startswith("SKIPPED") or any(word in line for word in MODALITIES), line


@pytest.mark.model
def test_the_demo_model_passes_what_it_is_strong_enough_for(served_for_all: Callable[..., Served]) -> None:
    server = served_for_all("smollm2")
    found, said = run_suite(server, "smollm2", *TOO_HARD)
    assert found["failed"] == found["error"] == 0, said[-6000:]
    assert found["passed"] >= 90, said[-2000:]
