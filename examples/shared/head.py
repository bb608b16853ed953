"""Heads: small models on features. Written as files, pulled into the store, and asked like any model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from shared.server import Server, kept_folder


def make_head(name: str, form: dict[str, Any], weights: Any, bias: Sequence[int]) -> None:
    """Write a head, and pull it into the store of ASHORE_HOME."""
    folder = kept_folder(name)
    write_head(folder, form, weights, bias)
    command = [sys.executable, "-P", "-m", "ashore.cli.main", "model", "pull", str(folder), "--name", name]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def write_head(folder: Path, form: dict[str, Any], weights: Any, bias: Any) -> None:
    """Write a head as `ashore model pull` takes it: whole numbers, and the form that says what they are."""
    whole = [np.ascontiguousarray(one, np.int32) for one in (weights, bias)]  # safetensors saves bytes as they lie
    tensors = dict(zip(("weights", "bias"), whole, strict=True))
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "head", "head": form}), encoding="utf-8")


def keys_of(server: Server) -> dict[str, str]:
    """Create an administrator, a security officer, an owner of models and a client; return their keys by name."""
    keys = {"first": server.key}
    for name, role, creator in (
        ("admin", "system-administrator", "first"),
        ("officer", "security-officer", "first"),
        ("owner", "model-owner", "officer"),
        ("desk", "developer", "officer"),
    ):
        body = {"id": name, "roles": [role], "key": {}}
        answer = server.client.post("/admin/v1/users", json=body, headers={"authorization": f"Bearer {keys[creator]}"})
        answer.raise_for_status()
        keys[name] = answer.json()["key"]["key"]
    return keys
