"""Suites of other projects, in virtual environments of their own: what they need is none of ashore's dependencies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

SUITES: Final = {
    "lm-eval": ("lm-eval[api]==0.4.13", "datasets==5.2.0", "transformers==5.24.0"),
    "accounting": ("dp-accounting==0.6.0",),
    "console": ("playwright==1.65.2",),
    "scim": ("scim2-tester==0.5.2", "scim2-client[httpx2]==0.13.2"),
    "openapi": ("schemathesis==4.32.5",),
    "langchain-mcp": ("langchain-mcp-adapters==0.3.2",),
    "langchain": ("langchain-tests==1.1.9", "langchain-openai==1.7.4", "langchain-anthropic==1.7.10"),
}
"""Packages of each suite with their versions."""
TOO_HARD: Final = (
    *("test_structured_output", "test_structured_output_async", "test_structured_output_optional_param"),
    *("test_structured_output_pydantic_2_v1", "test_json_mode", "test_agent_loop"),
)
"""Tests of LangChain's suite for which the demo model, with 135 million parameters, is too weak: inside a text of its
JSON it repeats itself until its tokens are used up, and it calls no tool unless it must."""


def suite_python(name: str) -> Path:
    """Return the interpreter that has a suite; made once, in `ASHORE_TEST_SUITES` or the cache of the tests.

    Skips where the package index does not have it.
    """
    cache = Path(os.environ.get("ASHORE_TEST_CACHE", ".cache/test"))
    folder = Path(os.environ.get("ASHORE_TEST_SUITES", cache / "suites")).absolute() / name
    python, kept = folder / "bin" / "python", folder / "installed.json"
    wanted = json.dumps([sys.version_info[:2], SUITES[name]])
    if kept.exists() and kept.read_text() == wanted:
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, timeout=120)
    words = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--quiet", *SUITES[name]]
    done = subprocess.run(words, capture_output=True, text=True, timeout=800, check=False)
    if done.returncode:
        pytest.skip(f"pip could not install {', '.join(SUITES[name])}: {done.stderr[-300:]}")
    kept.write_text(wanted)
    return python
